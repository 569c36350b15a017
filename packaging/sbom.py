"""Prints what the executable is made of, as a CycloneDX 1.5 document.

    cargo tree --prefix depth --no-dedupe --format ' {p} {l}' … | python3 packaging/sbom.py
"""

import json
import re
import sys
import tomllib

# "3 clap_lex v1.1.1 MIT OR Apache-2.0"; crates of the workspace have their path after the version.
LINE = re.compile(r"(\d+) (\S+) v(\S+) (?:\(/[^)]*\) )?(.*)")


def checksums():
    with open("Cargo.lock", "rb") as file:
        locked = tomllib.load(file)["package"]
    return {(it["name"], it["version"]): it["checksum"] for it in locked if "checksum" in it}


def component(name, version, licence, hashes):
    """One crate. Its purl (package URL) names it in lists of known holes."""
    purl = f"pkg:cargo/{name}@{version}"
    found = {"type": "library", "bom-ref": purl, "name": name, "version": version, "purl": purl}
    # Older crates separate licences with a slash.
    found["licenses"] = [{"expression": re.sub(r"\s*/\s*", " OR ", licence)}]
    if (name, version) in hashes:
        found["hashes"] = [{"alg": "SHA-256", "content": hashes[name, version]}]
    return found


def main():
    hashes = checksums()
    components, needs, above = {}, {}, []
    for line in sys.stdin:
        depth, *crate = LINE.fullmatch(line.rstrip()).groups()
        it = component(*crate, hashes)
        reference = it["bom-ref"]
        components[reference] = it
        needs.setdefault(reference, set())
        above[int(depth):] = [reference]
        if len(above) > 1:
            needs[above[-2]].add(reference)
    root = above[0]
    document = {
        "bomFormat": "CycloneDX",
        "specVersion": "1.5",
        "version": 1,
        "metadata": {"component": components.pop(root) | {"type": "application"}},
        "components": [components[it] for it in sorted(components)],
        "dependencies": [{"ref": it, "dependsOn": sorted(needs[it])} for it in sorted(needs)],
    }
    json.dump(document, sys.stdout, indent=2)
    print()


if __name__ == "__main__":
    main()
