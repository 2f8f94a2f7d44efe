"""What kustomize makes of deploy/kubernetes, and the schemas that it must keep to."""

import pathlib
import re
import shutil
import subprocess
import tomllib

import jsonschema
import kubernetes_validate
import yaml

# Their schemas cannot be had from a package registry. They were compared by hand with the definitions in Linkerd's
# repository (charts/linkerd-crds) and the references of the Prometheus Operator and cert-manager.
COMPARED_BY_HAND = {
    "cert-manager.io/v1/Certificate",
    "cert-manager.io/v1/Issuer",
    "policy.linkerd.io/v1beta3/Server",
    "policy.linkerd.io/v1alpha1/AuthorizationPolicy",
    "policy.linkerd.io/v1alpha1/MeshTLSAuthentication",
    "monitoring.coreos.com/v1/PodMonitor",
    "monitoring.coreos.com/v1/PrometheusRule",
}
# The oldest release that the manifests are for, and the newest that there are schemas of.
KUBERNETES_VERSIONS = ["1.30", "1.37"]


class Rendered:
    """The objects of one target, such as overlays/istio."""

    def __init__(self, target, objects):
        self.target = target
        self.objects = objects

    def of(self, kind):
        return [found for found in self.objects if found["kind"] == kind]

    def only(self, kind, name="otpd"):
        [found] = [found for found in self.of(kind) if found["metadata"]["name"] == name]
        return found

    def parted(self, name):
        """Two renderings: without the objects of which the name begins so, and with those alone."""
        parts = [], []
        for found in self.objects:
            parts[found["metadata"]["name"].startswith(name)].append(found)
        return Rendered(self.target, parts[False]), Rendered(self.target, parts[True])

    def pod(self, name="otpd"):
        return self.only("Deployment", name)["spec"]["template"]["spec"]

    def container(self, name="otpd"):
        [container] = self.pod(name)["containers"]
        return container

    def variables(self):
        return {variable["name"]: variable["value"] for variable in self.container()["env"]}

    def settings_text(self):
        [settings] = self.of("ConfigMap")
        return settings["data"]["otpd.toml"]

    def settings(self):
        """otpd.toml with what the variables of the container put in its place, as otpd reads both."""
        settings = tomllib.loads(self.settings_text())
        for name, value in self.variables().items():
            if not name.startswith("OTPD__"):
                continue
            *sections, key = name.removeprefix("OTPD__").lower().split("__")
            section = settings
            for part in sections:
                section = section.setdefault(part, {})
            is_toml = value.startswith("[") or value in ("true", "false")
            section[key] = tomllib.loads(f"value = {value}")["value"] if is_toml else value
        return settings


def render(kubectl, folder, target):
    text = subprocess.run([kubectl, "kustomize", folder / target], check=True, capture_output=True, text=True).stdout
    return Rendered(target, list(yaml.safe_load_all(text)))


def with_all_that_is_offered(tree):
    """Takes away the "#" of the lines that are there to be uncommented: those with no space after it, or two. Prose has
    one. Their number."""
    offered = 0
    for path in tree.rglob("*.yaml"):
        text, count = re.subn(r"^( *)#(?=\S|  )", r"\1", path.read_text(), flags=re.MULTILINE)
        path.write_text(text)
        offered += count
    return offered


def schemas_of(path):
    """Of the definitions in a file, by group, version and kind: unknown fields are wrong, as for Kubernetes' own."""
    schemas = {}
    for definition in yaml.safe_load_all(pathlib.Path(path).read_text()):
        spec = definition["spec"]
        for version in spec["versions"]:
            schema = version["schema"]["openAPIV3Schema"]
            schema["properties"].update({field: {} for field in ("apiVersion", "kind", "metadata")})
            schemas[f"{spec['group']}/{version['name']}/{spec['names']['kind']}"] = closed(schema)
    return schemas


def closed(schema):
    """The schema without unknown fields where it names some, in the words of JSON Schema."""
    if isinstance(schema, list):
        return [closed(item) for item in schema]
    if not isinstance(schema, dict):
        return schema
    schema = {key: closed(value) for key, value in schema.items()}
    if schema.pop("x-kubernetes-int-or-string", False):
        schema["type"] = ["integer", "string"]
    if isinstance(schema.get("properties"), dict) and schema.get("type") == "object":
        schema.setdefault("additionalProperties", False)
    return schema


def schema_complaints(objects, schemas):
    for found in objects:
        name = f"{found['apiVersion']}/{found['kind']}"
        if name in schemas:
            for error in jsonschema.Draft202012Validator(schemas[name]).iter_errors(found):
                yield f"{name}: {error.json_path}: {error.message}"
        elif name not in COMPARED_BY_HAND and not (name.split("/")[0].endswith(".istio.io") and not schemas):
            for version in KUBERNETES_VERSIONS:
                try:
                    kubernetes_validate.validate(found, version, strict=True)
                except kubernetes_validate.ValidationError as error:
                    yield f"{name}: Kubernetes {version}: {'.'.join(map(str, error.path))}: {error.message}"
                except kubernetes_validate.SchemaNotFoundError:
                    yield f"{name}: Kubernetes {version} knows no such object"
