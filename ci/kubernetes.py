"""Checks the manifests in packaging/kubernetes; called by ci/kubernetes.

The flags in args are checked by the program's own parser, in crates/trustctl/src/packaging.rs.
"""

import re
import sys
from pathlib import Path

import yaml
from kubernetes_validate import utils as kubernetes

# The first version that has all fields by default: backoffLimitPerIndex and podReplacementPolicy.
OLDEST = kubernetes.Version("1.29")

# Words that a field may hold, by its own name and that of the field around it. The schemas accept
# any string there.
WORDS = {
    ".accessModes": {"ReadWriteOnce", "ReadOnlyMany", "ReadWriteMany", "ReadWriteOncePod"},
    ".completionMode": {"Indexed", "NonIndexed"},
    ".imagePullPolicy": {"Always", "IfNotPresent", "Never"},
    ".podReplacementPolicy": {"Failed", "TerminatingOrFailed"},
    ".protocol": {"TCP", "UDP", "SCTP"},
    ".restartPolicy": {"Always", "OnFailure", "Never"},
    ".whenUnsatisfiable": {"DoNotSchedule", "ScheduleAnyway"},
    "capabilities.drop": {"ALL"},
    "seccompProfile.type": {"RuntimeDefault", "Localhost", "Unconfined"},
    "spec.clusterIP": {"None"},
    "spec.type": {"ClusterIP", "NodePort", "LoadBalancer", "ExternalName"},
}
# Fields whose value looks like such a word but is not one.
FREE = {"kind"}
QUANTITIES = {"cpu", "memory", "storage", "sizeLimit"}
QUANTITY = re.compile(r"[0-9]+(\.[0-9]+)?(m|k|Ki|M|Mi|G|Gi|T|Ti)?")


class Loader(yaml.SafeLoader):
    """Refuses duplicate keys, of which YAML readers take the last."""

    def construct_mapping(self, node, deep=False):
        keys = [self.construct_object(key, deep=True) for key, _ in node.value]
        for key in keys:
            if keys.count(key) > 1:
                raise yaml.YAMLError(f"line {node.start_mark.line + 1}: {key} stands twice")
        return super().construct_mapping(node, deep)


def complaints(texts, versions):
    """Everything that is wrong with these manifests of one application: texts by file name."""
    documents = []
    for name, text in texts.items():
        try:
            documents += [(name, document) for document in yaml.load_all(text, Loader)]
        except yaml.YAMLError as error:
            return [f"{name}: {error}"]
    found = []
    for name, document in documents:
        about = f"{name}: {document.get('kind')}: "
        found += [about + what for what in schema_complaints(document, versions)]
        found += [about + what for what in word_complaints(document)]
        found += [about + what for what in pod_complaints(document)]
    # The remaining checks rely on the types of the fields.
    if found:
        return found
    return [
        *reference_complaints([document for _, document in documents]),
        *load_complaints(documents),
    ]


def schema_complaints(document, versions):
    for version in versions:
        try:
            kubernetes.validate(document, version, strict=True)
        except kubernetes.ValidationError as error:
            return [f"{'.'.join(map(str, error.path))}: {error.message} (Kubernetes {version})"]
        except kubernetes.SchemaNotFoundError as error:
            return [error.message]
    return []


def word_complaints(document):
    for path, value in leaves(document):
        places = [f".{path[-1]}", f"{path[-2]}.{path[-1]}"] if len(path) > 1 else [f".{path[-1]}"]
        allowed = next((WORDS[place] for place in places if place in WORDS), None)
        where = ".".join(path)
        if allowed is not None and value not in allowed:
            yield f"{where}: {value} is none of {', '.join(sorted(allowed))}"
        is_free = allowed is not None or path[-1] in FREE or isinstance(value, bool)
        if not is_free and re.fullmatch("[A-Z][A-Za-z]+", str(value)):
            yield (
                f"{where}: {value}: if only some words are allowed here, "
                f"{Path(__file__).name} has to know them"
            )
        if path[-1] in QUANTITIES and not QUANTITY.fullmatch(str(value)):
            yield f"{where}: {value} is no quantity"


def pod_complaints(document):
    pod = pod_of(document)
    if pod is None:
        return
    if pod.get("enableServiceLinks") is not False:
        yield "enableServiceLinks is not false"
    if document["kind"] == "Job":
        if pod.get("restartPolicy") not in ("Never", "OnFailure"):
            yield "a pod of a Job restarts Never or OnFailure"
        if "backoffLimitPerIndex" in document["spec"]:
            is_indexed = document["spec"].get("completionMode") == "Indexed"
            if not is_indexed or pod.get("restartPolicy") != "Never":
                yield "backoffLimitPerIndex needs an Indexed Job whose pods restart Never"
    volumes = {volume.get("name") for volume in pod.get("volumes", [])}
    mounted = {
        mount.get("name")
        for container in pod["containers"]
        for mount in container.get("volumeMounts", [])
    }
    for name in sorted(volumes ^ mounted, key=str):
        yield f"volume {name} is not both there and mounted"
    for container in pod["containers"]:
        ports = {port.get("name") for port in container.get("ports", [])}
        for probe in ("readinessProbe", "livenessProbe", "startupProbe"):
            port = container.get(probe, {}).get("tcpSocket", {}).get("port")
            if isinstance(port, str) and port not in ports:
                yield f"{probe}: no port is called {port}"


def reference_complaints(documents):
    """References to other manifests that lead nowhere."""
    pods = [labels for labels in map(labels_of, documents) if labels is not None]
    claims = {
        document["metadata"]["name"]
        for document in documents
        if document["kind"] == "PersistentVolumeClaim"
    }
    for document in documents:
        about = f"{document['kind']} {document['metadata']['name']}: "
        for key, selector in selectors(document):
            if set(selector) - {"matchLabels"} and "matchExpressions" in selector:
                yield about + f"{key} has matchExpressions, which nothing checks"
            labels = selector.get("matchLabels", selector)
            # A workload selects its own pods; everything else may select any.
            own = document["kind"] == "Deployment" and key == "spec.selector"
            candidates = [labels_of(document)] if own else pods
            if not labels or not any(labels.items() <= pod.items() for pod in candidates):
                yield about + f"{key} matches no pod"
        if document["kind"] == "Service":
            wanted = document["spec"]["selector"].items()
            selected = [other for other in documents if wanted <= (labels_of(other) or {}).items()]
            ports = [
                port
                for other in selected
                for port in pod_of(other)["containers"][0].get("ports", [])
            ]
            for port in document["spec"]["ports"]:
                target = port.get("targetPort", port["port"])
                names = [(there.get("name"), there["containerPort"]) for there in ports]
                if not any(target in name for name in names):
                    yield about + f"no pod has port {target}"
        for volume in (pod_of(document) or {}).get("volumes", []):
            claim = volume.get("persistentVolumeClaim", {}).get("claimName")
            if claim is not None and claim not in claims:
                yield about + f"there is no claim {claim}"


def load_complaints(documents):
    """What the flags and the fields around them have in common."""
    parts = {}
    for name, document in documents:
        parts[(name, document["kind"])] = document
    try:
        server, service = parts["server.yaml", "Deployment"], parts["server.yaml", "Service"]
        load, merge = parts["load.yaml", "Job"], parts["merge.yaml", "Job"]
        server_flags, load_flags = flags_of(server), flags_of(load)
        container = pod_of(server)["containers"][0]
        port = container["ports"][0]["containerPort"]
        shards = load["spec"]["completions"]
        service_port = service["spec"]["ports"][0]["port"]
        probed = container["livenessProbe"]["exec"]["command"][-1]
        hdr_log = load_flags["hdr-log"]
        pairs = [
            ("the server's --port and its containerPort", int(server_flags["port"]), port),
            ("the load's --port and the Service's", int(load_flags["port"]), service_port),
            (
                "the load's --host and the Service's name",
                load_flags["host"],
                service["metadata"]["name"],
            ),
            ("the port of the liveness probe and the server's", probed, f"localhost:{port}"),
            ("completions and parallelism", shards, load["spec"]["parallelism"]),
            ("completions and --shard", f"/{shards}", load_flags["shard"]),
            (
                "the files that are written and those that are merged",
                [hdr_log.replace("$(JOB_COMPLETION_INDEX)", str(index)) for index in range(shards)],
                [word for word in pod_of(merge)["containers"][0]["args"] if word.startswith("/")],
            ),
        ]
        if pod_of(server)["terminationGracePeriodSeconds"] <= float(server_flags["drain-timeout"]):
            yield "the server is killed before --drain-timeout is over"
        run_s = float(load_flags["warm-up"]) + float(load_flags["duration"])
        if load["spec"]["activeDeadlineSeconds"] < 2 * run_s:
            yield "activeDeadlineSeconds leaves no room for waiting, for twice what the load takes"
    except KeyError as error:
        yield f"there is no {error}"
        return
    for what, left, right in pairs:
        if left != right:
            yield f"{what} differ: {left} and {right}"


def leaves(value, path=()):
    if isinstance(value, dict):
        for key, inner in value.items():
            yield from leaves(inner, (*path, str(key)))
    elif isinstance(value, list):
        for inner in value:
            yield from leaves(inner, path)
    else:
        yield path, value


def selectors(value, path=()):
    if isinstance(value, dict):
        for key, inner in value.items():
            if key in ("selector", "labelSelector"):
                yield ".".join((*path, key)), inner
            else:
                yield from selectors(inner, (*path, key))
    elif isinstance(value, list):
        for inner in value:
            yield from selectors(inner, path)


def pod_of(document):
    return document.get("spec", {}).get("template", {}).get("spec")


def labels_of(document):
    return document.get("spec", {}).get("template", {}).get("metadata", {}).get("labels")


def flags_of(document):
    words = pod_of(document)["containers"][0]["args"]
    return dict(word[2:].partition("=")[::2] for word in words if word.startswith("--"))


# Deliberate mistakes: the file, a text in it, its replacement, and part of the complaint expected.
BREAKAGES = [
    ("server.yaml", "replicas: 1", "replica: 1", "'replica' was unexpected"),
    ("server.yaml", "replicas: 1", "replicas: one", "'one' is not of type"),
    ("server.yaml", "kind: Deployment", "kind: Deploiment", "Couldn't find schema"),
    ("server.yaml", "apps/v1", "apps/v7", "Couldn't find schema"),
    ("server.yaml", "  replicas: 1", "  replicas: 1\n  replicas: 2", "stands twice"),
    (
        "server.yaml",
        "    matchLabels:\n      app.kubernetes.io/name: trustctl-server",
        "    matchLabels:\n      app: x",
        "matches no pod",
    ),
    (
        "server.yaml",
        "  selector:\n    app.kubernetes.io/name: trustctl-server",
        "  selector:\n    app: x",
        "matches no pod",
    ),
    ("server.yaml", "enableServiceLinks: false", "enableServiceLinks: true", "enableServiceLinks"),
    ("server.yaml", "protocol: TCP", "protocol: tcp", "tcp is none of"),
    ("server.yaml", "type: RuntimeDefault", "type: RunTimeDefault", "is none of"),
    ("server.yaml", "type: ClusterIP", "type: Headless", "Headless is none of"),
    ("server.yaml", "memory: 256Mi", "memory: 256MiB", "no quantity"),
    ("server.yaml", "targetPort: echo", "targetPort: echos", "no pod has port echos"),
    (
        "server.yaml",
        "              port: echo",
        "              port: echos",
        "no port is called echos",
    ),
    ("server.yaml", "--port=9900", "--port=9901", "--port and its containerPort differ"),
    ("server.yaml", "localhost:9900", "localhost:9901", "liveness probe and the server's differ"),
    ("server.yaml", "--drain-timeout=8", "--drain-timeout=20", "before --drain-timeout is over"),
    (
        "server.yaml",
        "mountPath: /home/trustctl",
        "mountpath: /home/trustctl",
        "'mountPath' is a required property",
    ),
    ("load.yaml", "completions: 4", "completions: 5", "completions and --shard differ"),
    ("load.yaml", "parallelism: 4", "parallelism: 2", "completions and parallelism differ"),
    ("load.yaml", "completionMode: Indexed", "completionMode: Index", "Index is none of"),
    ("load.yaml", "completionMode: Indexed", "completionMode: NonIndexed", "needs an Indexed Job"),
    (
        "load.yaml",
        "podReplacementPolicy: Failed",
        "podReplacementPolicy: Never",
        "Never is none of",
    ),
    ("load.yaml", "restartPolicy: Never", "restartPolicy: Always", "restarts Never or OnFailure"),
    ("load.yaml", "backoffLimitPerIndex: 0", "backoffLimitPerIndex: none", "'none' is not of type"),
    ("load.yaml", "ReadWriteMany", "ReadWriteAll", "is none of"),
    (
        "load.yaml",
        "--host=trustctl-server",
        "--host=server",
        "--host and the Service's name differ",
    ),
    ("load.yaml", "claimName: trustctl-results", "claimName: results", "there is no claim results"),
    (
        "load.yaml",
        "      labels:\n        app.kubernetes.io/name: trustctl-load",
        "      labels:\n        app: x",
        "matches no pod",
    ),
    (
        "load.yaml",
        "        - name: results\n          persist",
        "        - name: result\n          persist",
        "not both there and mounted",
    ),
    ("load.yaml", "activeDeadlineSeconds: 900", "activeDeadlineSeconds: 60", "no room for waiting"),
    ("merge.yaml", "            - /results/shard-3.hlog\n", "", "those that are merged differ"),
]


def main(directory):
    texts = {path.name: path.read_text() for path in sorted(Path(directory).glob("*.yaml"))}
    versions = sorted(set(kubernetes.all_versions()), key=kubernetes.Version)
    versions = [version for version in versions if kubernetes.Version(version) >= OLDEST]
    found = complaints(texts, versions)
    for what in found:
        print(what, file=sys.stderr)
    if found or not texts:
        return f"kubernetes: {len(found)} complaints about {len(texts)} manifests in {directory}"
    for name, before, after, expected in BREAKAGES:
        if before not in texts[name]:
            return (
                f"kubernetes: {name} has no {before!r} to break; "
                f"change the breakage in {Path(__file__).name}"
            )
        found = complaints(texts | {name: texts[name].replace(before, after)}, versions[-1:])
        if not any(expected in what for what in found):
            return f"kubernetes: {after!r} in {name} leads to {found}, and not to {expected!r}"
    print(
        f"kubernetes: {len(texts)} manifests are right for Kubernetes {versions[0]} to "
        f"{versions[-1]}, and {len(BREAKAGES)} broken ones are noticed"
    )
    return 0


if __name__ == "__main__":
    sys.exit(main(*sys.argv[1:]))
