"""Checks compose/k8s/**/*.yaml against Kubernetes' own schemas, strictly: an unknown key is an error.

Run by scripts/compose-check --files, in a virtual environment that has kubernetes-validate.
"""
import pathlib
import sys

import kubernetes_validate
import yaml

VERSIONS = ["1.30", "1.34", "1.37"]


def problems(document):
    for version in VERSIONS:
        try:
            kubernetes_validate.validate(document, version, strict=True)
        except kubernetes_validate.ValidationError as error:
            yield f"Kubernetes {version}: {'.'.join(map(str, error.path))}: {error.message}"


def rules(document):
    """What the schemas leave open and these files promise."""
    kind = document["kind"]
    if kind not in ("Deployment", "StatefulSet", "CronJob"):
        return
    pod = document["spec"]["jobTemplate"]["spec"]["template"] if kind == "CronJob" else document["spec"]["template"]
    spec = pod["spec"]
    if kind == "Deployment" and (document["spec"]["replicas"], document["spec"]["strategy"]["type"]) != (1, "Recreate"):
        yield "not one replica with strategy Recreate"
    if spec.get("enableServiceLinks") is not False:
        yield "enableServiceLinks is not false: a service's variables could look like settings"
    if spec.get("securityContext", {}).get("runAsNonRoot") is not True:
        yield "runAsNonRoot is not true"
    volumes = {volume["name"] for volume in spec.get("volumes", [])}
    for container in spec["containers"]:
        name, context = container["name"], container.get("securityContext", {})
        if context.get("readOnlyRootFilesystem") is not True or context.get("allowPrivilegeEscalation") is not False:
            yield f"{name}: its root is writable, or privileges may grow"
        if context.get("capabilities", {}).get("drop") != ["ALL"]:
            yield f"{name}: keeps capabilities"
        resources = container.get("resources", {})
        if not {"cpu", "memory"} <= resources.get("requests", {}).keys() or "memory" not in resources.get("limits", {}):
            yield f"{name}: requests or limits are missing"
        if kind != "CronJob" and not {"livenessProbe", "readinessProbe"} <= container.keys():
            yield f"{name}: a probe is missing"
        for mount in container.get("volumeMounts", []):
            if mount["name"] not in volumes:
                yield f"{name}: no volume {mount['name']}"
        for variable in container.get("env", []):
            if "password" in variable.get("value", "").lower() and "FILE" not in variable["name"]:
                yield f"{name}: {variable['name']} looks like a password"


def main():
    failed = 0
    for path in sorted(pathlib.Path("compose/k8s").rglob("*.yaml")):
        for document in filter(None, yaml.safe_load_all(path.read_text())):
            found = [*problems(document), *rules(document)]
            failed += len(found)
            print(f"   {path}: {document['kind']} {document['metadata']['name']}: {'ok' if not found else ''}")
            for problem in found:
                print(f"      {problem}")
    sys.exit(1 if failed else 0)


main()
