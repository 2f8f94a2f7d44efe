"""Checks deploy/kubernetes: that it renders, keeps to the schemas and to the demands of demands.py, and holds settings
that otpd accepts with the secrets that docs/deployment.md says how to make; and that Envoy runs with the files of
components/front, unless there is no Envoy. Needs no cluster. Run by scripts/test, from the root of the repository.

usage: python3 tests/deploy/kubernetes KUBECTL OTPD [DEFINITIONS_OF_ISTIO]
"""

import copy
import os
import pathlib
import re
import shutil
import subprocess
import sys
import tempfile

import yaml

import demands
import front
import rendered as rendering

# Without a mesh and without TLS, and where Linkerd encrypts, otpd takes tokens in plain text, and check-config warns of it.
TAKES_PLAIN_TOKENS = {"base", "overlays/linkerd"}
WARNINGS_OF_PLAIN_TOKENS = ["server.listen is open", "admin.listen is open", "force.plain_tokens"]
TARGETS = ["base", "overlays/tls", "overlays/istio", "overlays/linkerd"]
# Stands in front of kubectl for the commands of the page: it writes down what they would send to a cluster.
STAND_IN = """#!/bin/sh
case "$*" in *--dry-run=client*) exec "$KUBECTL" "$@" ;; esac
while [ "$1" = --namespace ]; do shift 2; done
exec >>"$SENT"
echo ---
case "$1 $2" in
  "create secret") exec "$KUBECTL" --namespace otpd "$@" --dry-run=client -o yaml ;;
  "apply -k") exec "$KUBECTL" kustomize "$3" ;;
  "apply -f") exec cat "$3" ;;
  "label namespace" | "rollout status" | "rollout undo" | "rollout restart") ;;
  *) echo "the test does not know: kubectl $*" >&2; exit 1 ;;
esac
"""


def documented(folder, kubectl, otpd):
    """Runs the commands of the page in a folder, one after the other. What would have been sent to the cluster."""
    page = pathlib.Path("docs/deployment.md").read_text().split("\n## Kubernetes\n")[1].split("\n## ")[0]
    commands = "\n".join(re.findall(r"^```sh\n(.*?)^```", page, re.MULTILINE | re.DOTALL))
    tools = folder / "tools"
    tools.mkdir()
    (tools / "kubectl").write_text(STAND_IN)
    (tools / "kubectl").chmod(0o755)
    (tools / "otpd").symlink_to(otpd)
    (folder / "deploy").symlink_to(pathlib.Path("deploy").resolve())
    certificate(folder, "redis-ca")
    sent = folder / "sent.yaml"
    variables = {"PATH": f"{tools}:{os.environ['PATH']}", "KUBECTL": kubectl, "SENT": str(sent)}
    shell = ["bash", "-euo", "pipefail"]
    ran = subprocess.run(shell, input=commands, cwd=folder, env=variables, capture_output=True, text=True)
    if ran.returncode != 0:
        sys.exit(f"the commands of docs/deployment.md fail:\n{ran.stderr}")
    return [found for found in yaml.safe_load_all(sent.read_text()) if found]


def certificate(folder, name):
    """A certificate and its key, for a server and as its own authority."""
    made = ["openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes"]
    made += ["-days", "90", "-subj", "/CN=otpd", "-addext", "subjectAltName=DNS:otpd.otpd.svc"]
    files = ["-keyout", folder / f"{name}.key", "-out", folder / f"{name}.pem"]
    subprocess.run([*made, *files], check=True, capture_output=True)


def variables_of_the_image():
    """Those that the Dockerfile sets: they reach otpd beside those of the pod, and win over otpd.toml."""
    return dict(re.findall(r"\b(OTPD_\w+)=(\S+)", dockerfile().split("\nFROM ")[-1]))


def dockerfile():
    return pathlib.Path("Dockerfile").read_text()


def mount(folder):
    """Puts the files of the Secrets where is_accepted looks for them: the Secret of the page, and one for TLS."""
    mounted = folder / "mounted"
    mounted.mkdir()
    (mounted / "otpd").symlink_to(folder / "secrets")
    (mounted / "otpd-tls").mkdir()
    certificate(mounted, "tls")
    for name, made in (("tls.crt", "tls.pem"), ("tls.key", "tls.key"), ("ca.crt", "tls.pem")):
        (mounted / "otpd-tls" / name).symlink_to(mounted / made)


def is_accepted(rendered, folder, otpd):
    """What check-config says of the settings and variables, with the mounted files in another folder."""
    moved = f"{folder}/mounted/"
    settings = folder / "otpd.toml"
    settings.write_text(rendered.settings_text().replace("/run/secrets/", moved))
    variables = variables_of_the_image() | rendered.variables()
    variables = {name: value.replace("/run/secrets/", moved) for name, value in variables.items()}
    command = [otpd, "--config", settings, "check-config"]
    ran = subprocess.run(command, env=variables, capture_output=True, text=True)
    if ran.returncode != 0:
        yield f"{rendered.target}: check-config: {ran.stderr}"
        return
    lines = ran.stdout.splitlines()
    for expected in ("profile: production", "store: rediss://redis.example", "operations.listen: 0.0.0.0:9464"):
        if expected not in lines:
            yield f"{rendered.target}: check-config does not say {expected}"
    warnings = [line for line in lines if line.startswith("warning: ")]
    expected = WARNINGS_OF_PLAIN_TOKENS if rendered.target.split()[0] in TAKES_PLAIN_TOKENS else []
    if len(warnings) != len(expected) or not all(words in line for words, line in zip(expected, warnings)):
        yield f"{rendered.target}: check-config warns: {warnings}"


def spoilt(rendered, kind, path, value):
    """A copy that differs at one place of the first object of the kind."""
    copied = rendering.Rendered(rendered.target, copy.deepcopy(rendered.objects))
    place = copied.of(kind)[0]["spec"]
    *steps, last = [int(step) if step.isdigit() else step for step in path.replace("POD", "template.spec").split(".")]
    for step in steps:
        place = place[step]
    if value is None:
        del place[last]
    else:
        place[last] = value
    return copied


def blind_spots(by_target):
    """Demands that do not complain where they should."""
    for kind, path, value, target, demand in demands.SPOILT + front.SPOILT:
        if not list(demand(spoilt(by_target[target], kind, path, value))):
            yield f"{demand.__name__} is blind to {kind} {path} = {value} in {target}"


def main(kubectl, otpd, definitions=None):
    kubectl, otpd = os.path.abspath(kubectl), os.path.abspath(otpd)
    schemas = rendering.schemas_of(definitions) if definitions else {}
    with tempfile.TemporaryDirectory() as folder:
        folder = pathlib.Path(folder)
        sent = documented(folder, kubectl, otpd)
        secret, changed = [found for found in sent if found["kind"] == "Secret"]
        tree = folder / "kubernetes"
        shutil.copytree("deploy/kubernetes", tree)
        by_target = {target: rendering.render(kubectl, tree, target) for target in TARGETS}
        if rendering.with_all_that_is_offered(tree) < 14:
            sys.exit("the lines that are there to be uncommented are not found")
        # The files of Envoy are where the commands of the page have put them.
        shutil.copytree(folder / "otpd-kubernetes/components/front", tree / "components/front", dirs_exist_ok=True)
        for target in TARGETS:
            found = rendering.render(kubectl, tree, target)
            found.target += " with all that is offered"
            by_target[found.target], of_envoy = found.parted("otpd-front")
        by_target["front"] = of_envoy
        of_envoy.target = "front"

        mount(folder)
        examples = list(yaml.safe_load_all((tree / "components/tls/certificates.example.yaml").read_text()))
        if f'ENTRYPOINT ["{demands.BINARY}"]' not in dockerfile():
            sys.exit(f"the image has no {demands.BINARY}, which the probes run")
        complaints = list(demands.certificates_fit(examples, by_target["overlays/tls"]))
        complaints += [f"docs/deployment.md: {each}" for each in rendering.schema_complaints(sent, schemas)]
        complaints += [] if changed == secret else ["docs/deployment.md changes the Secret into another"]
        for found in by_target.values():
            complaints += [f"{found.target}: {each}" for each in rendering.schema_complaints(found.objects, schemas)]
        complaints += front.complaints(of_envoy)
        program = front.envoy()
        complaints += front.runs(of_envoy, folder / "envoy", program) if program else []
        for found in by_target.values():
            if found is of_envoy:
                continue
            complaints += demands.complaints(found)
            complaints += is_accepted(found, folder, otpd)
            named = set(re.findall(r"/run/secrets/otpd/([\w.-]+)", found.settings_text()))
            if named - set(secret["data"]):
                complaints.append(f"the Secret of docs/deployment.md lacks {named - set(secret['data'])}")
        complaints += blind_spots(by_target)
    if complaints:
        sys.exit("\n".join(complaints))
    total = sum(len(found.objects) for found in by_target.values())
    without = "" if schemas else ", those of Istio without a schema"
    without += "" if program else ", Envoy not run"
    print(f"    {len(by_target)} renderings, {total} objects{without}")


if __name__ == "__main__":
    if len(sys.argv) not in (3, 4):
        sys.exit(__doc__)
    main(*sys.argv[1:])
