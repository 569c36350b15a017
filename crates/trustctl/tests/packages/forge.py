"""Stands in for a forge: runs the steps of packaging/ci as GitHub's and GitLab's runners do.

    python3 forge.py github|gitlab FILE NAME=VALUE…
"""

import os
import re
import subprocess
import sys
import tempfile

import yaml


def with_inputs(text, pattern, inputs):
    return re.sub(pattern, lambda found: inputs[found[1]], str(text))


def run(script, environment):
    # How both run the steps of a job.
    command = ["bash", "--noprofile", "--norc", "-eo", "pipefail", "-c", script]
    status = subprocess.run(command, env=os.environ | environment).returncode
    if status:
        sys.exit(status)


def github(document, inputs):
    known = document["inputs"]
    assert set(inputs) <= set(known), f"unknown inputs in {inputs}"
    defaults = {name: it["default"] for name, it in known.items() if "default" in it}
    inputs = defaults | inputs
    missing = [name for name, it in known.items() if it.get("required") and name not in inputs]
    assert not missing, f"missing inputs: {missing}"
    assert document["runs"]["using"] == "composite"
    with tempfile.TemporaryDirectory() as scratch:
        path = os.path.join(scratch, "path")
        for step in document["runs"]["steps"]:
            assert step["shell"] == "bash" and "${{" not in step["run"], step
            environment = {
                name: with_inputs(value, r"\$\{\{ inputs\.(\w+) \}\}", inputs)
                for name, value in step["env"].items()
            }
            environment |= {"RUNNER_TEMP": scratch, "GITHUB_PATH": path}
            if os.path.exists(path):
                added = open(path).read().split()
                environment["PATH"] = ":".join([*reversed(added), os.environ["PATH"]])
            run(step["run"], environment)


def gitlab(head, jobs, inputs):
    known = head["spec"]["inputs"]
    assert set(inputs) <= set(known), f"unknown inputs in {inputs}"
    inputs = {name: it["default"] for name, it in known.items() if "default" in it} | inputs
    for job in jobs.values():
        variables = {
            name: with_inputs(value, r"\$\[\[ inputs\.(\w+) \]\]", inputs)
            for name, value in job["variables"].items()
        }
        run("\n".join(job["script"]), variables)
        assert os.path.exists(job["artifacts"]["reports"]["junit"])


def main(forge, path, *words):
    inputs = dict(word.split("=", 1) for word in words)
    with open(path) as file:
        documents = list(yaml.safe_load_all(file))
    {"github": github, "gitlab": gitlab}[forge](*documents, inputs)


if __name__ == "__main__":
    main(*sys.argv[1:])
