"""Writes an image of one layer in the OCI layout (image-spec 1.1), as one archive.

    python3 packaging/image.py ROOT VERSION ARCHIVE

Everything in it belongs to root, and every time is SOURCE_DATE_EPOCH.
"""

import gzip
import hashlib
import io
import json
import os
import sys
import tarfile
from datetime import datetime, timezone

EPOCH = int(os.environ["SOURCE_DATE_EPOCH"])
MEDIA_TYPE = "application/vnd.oci.image."


def add(archive, name, data):
    member = tarfile.TarInfo(name)
    member.size, member.mtime, member.mode = len(data), EPOCH, 0o644
    archive.addfile(member, io.BytesIO(data))


def layer(root):
    """The files below a directory as a tar archive."""
    packed = io.BytesIO()
    with tarfile.open(fileobj=packed, mode="w", format=tarfile.PAX_FORMAT) as archive:
        for directory, directories, files in os.walk(root):
            directories.sort()
            for name in sorted(directories + files):
                path = os.path.join(directory, name)
                member = archive.gettarinfo(path, os.path.relpath(path, root))
                member.uid = member.gid = 0
                member.uname = member.gname = ""
                member.mtime = EPOCH
                if member.name == "tmp":
                    member.mode = 0o1777
                if member.isreg():
                    with open(path, "rb") as file:
                        archive.addfile(member, file)
                else:
                    archive.addfile(member)
    return packed.getvalue()


def main(root, version, path):
    blobs = {}

    def blob(kind, data):
        digest = hashlib.sha256(data).hexdigest()
        blobs[digest] = data
        return {"mediaType": MEDIA_TYPE + kind, "digest": f"sha256:{digest}", "size": len(data)}

    def document(kind, content):
        return blob(kind, json.dumps(content, sort_keys=True).encode())

    unpacked = layer(root)
    packed = blob("layer.v1.tar+gzip", gzip.compress(unpacked, mtime=0))
    created = datetime.fromtimestamp(EPOCH, timezone.utc).strftime("%Y-%m-%dT%H:%M:%SZ")
    config = document("config.v1+json", {
        "architecture": "amd64",
        "os": "linux",
        "created": created,
        "config": {
            "Entrypoint": ["/usr/bin/trustctl"],
            "Env": ["PATH=/usr/bin", "TRUST_HOME=/etc/trustctl", "TRUST_LOG_FILE=none"],
            "User": "65532:65532",
            "Labels": {
                "org.opencontainers.image.licenses": "MIT OR Apache-2.0",
                "org.opencontainers.image.title": "trustctl",
                "org.opencontainers.image.version": version,
            },
        },
        "rootfs": {
            "type": "layers",
            "diff_ids": ["sha256:" + hashlib.sha256(unpacked).hexdigest()],
        },
        "history": [{"created": created, "created_by": "packaging/dist"}],
    })
    manifest = document("manifest.v1+json", {
        "schemaVersion": 2,
        "mediaType": MEDIA_TYPE + "manifest.v1+json",
        "config": config,
        "layers": [packed],
    })
    manifest["annotations"] = {"org.opencontainers.image.ref.name": version}
    index = {
        "schemaVersion": 2,
        "mediaType": MEDIA_TYPE + "index.v1+json",
        "manifests": [manifest],
    }
    with tarfile.open(path, "w", format=tarfile.PAX_FORMAT) as archive:
        add(archive, "oci-layout", json.dumps({"imageLayoutVersion": "1.0.0"}).encode())
        add(archive, "index.json", json.dumps(index, sort_keys=True).encode())
        for digest, data in sorted(blobs.items()):
            add(archive, f"blobs/sha256/{digest}", data)


if __name__ == "__main__":
    main(*sys.argv[1:])
