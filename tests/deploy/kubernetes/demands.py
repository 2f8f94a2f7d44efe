"""What every rendering of deploy/kubernetes must keep to. A demand gives complaints, and none if all is well."""

import json
import pathlib
import re
import tomllib

# What otpd takes at most to write what is queued, once its calls have ended: docs/operations.md, "Rollout".
LAST_WRITES = 10
BINARY = "/usr/local/bin/otpd"
LABELS = {"app.kubernetes.io/name": "otpd"}


def seconds(span):
    number, unit = re.fullmatch(r"(\d+)(ms|s|m|h)", span).groups()
    return int(number) * {"ms": 0.001, "s": 1, "m": 60, "h": 3600}[unit]


def port_of(listen):
    return None if listen.startswith("unix:") else int(listen.rsplit(":", 1)[1])


def privileges_of(rendered, name):
    pod, container = rendered.pod(name), rendered.container(name)
    wanted = {"runAsNonRoot": True, "runAsUser": 65532, "runAsGroup": 65532}
    wanted["seccompProfile"] = {"type": "RuntimeDefault"}
    yield from (f"the pod lacks {key}" for key, value in wanted.items() if pod["securityContext"].get(key) != value)
    wanted = {"allowPrivilegeEscalation": False, "readOnlyRootFilesystem": True, "capabilities": {"drop": ["ALL"]}}
    if container["securityContext"] != wanted:
        yield f"the container's securityContext is not {wanted}"
    if pod["automountServiceAccountToken"]:
        yield "a token of Kubernetes is mounted"


def pods_have_no_privileges(rendered):
    yield from privileges_of(rendered, "otpd")
    if rendered.only("ServiceAccount")["automountServiceAccountToken"]:
        yield "a token of Kubernetes is mounted"
    enforced = rendered.only("Namespace")["metadata"]["labels"].get("pod-security.kubernetes.io/enforce")
    if enforced != "restricted":
        yield f"the namespace enforces {enforced}"


def image_is_of_this_version(rendered):
    version = tomllib.loads(pathlib.Path("Cargo.toml").read_text())["package"]["version"]
    tag = rendered.container()["image"].rsplit(":", 1)[-1]
    if tag != version:
        yield f"the image is {tag}, and Cargo.toml says {version}"


def pod_ends_after_the_drain(rendered):
    server = rendered.settings()["server"]
    drain = seconds(server["drain_delay"]) + seconds(server["drain_timeout"]) + LAST_WRITES
    grace = rendered.pod()["terminationGracePeriodSeconds"]
    if grace <= drain:
        yield f"the pod is killed after {grace} s, and the drain may take {drain} s"
    if "lifecycle" in rendered.container():
        yield "a preStop hook delays the drain"


def a_rollout_takes_no_replica_away(rendered):
    spec = rendered.only("Deployment")["spec"]
    if spec["strategy"]["rollingUpdate"] != {"maxUnavailable": 0, "maxSurge": 1}:
        yield "a rollout takes replicas away before there are new ones"
    if "replicas" in spec:
        yield "replicas are set twice: here, and by the HorizontalPodAutoscaler"
    scaler = rendered.only("HorizontalPodAutoscaler")["spec"]
    if scaler["scaleTargetRef"] != {"apiVersion": "apps/v1", "kind": "Deployment", "name": "otpd"}:
        yield "the HorizontalPodAutoscaler is for something else"
    if not 2 <= scaler["minReplicas"] < scaler["maxReplicas"]:
        yield "there may be a single replica"
    if scaler["metrics"][0]["containerResource"]["container"] != rendered.container()["name"]:
        yield "the HorizontalPodAutoscaler measures another container"


def selectors_agree(rendered):
    spec = rendered.only("Deployment")["spec"]
    labels = spec["template"]["metadata"]["labels"]
    selectors = {
        "Deployment": spec["selector"]["matchLabels"],
        "PodDisruptionBudget": rendered.only("PodDisruptionBudget")["spec"]["selector"]["matchLabels"],
    }
    for place in spec["template"]["spec"]["topologySpreadConstraints"]:
        selectors[place["topologyKey"]] = place["labelSelector"]["matchLabels"]
    for found in rendered.objects:
        name, kind = f"{found['kind']} {found['metadata']['name']}", found["kind"]
        if kind == "Service":
            selectors[name] = found["spec"]["selector"]
        elif kind in ("NetworkPolicy", "Server"):
            selectors[name] = found["spec"]["podSelector"]["matchLabels"]
        elif kind == "Sidecar":
            selectors[name] = found["spec"]["workloadSelector"]["labels"]
        elif kind in ("PodMonitor", "PeerAuthentication") or found["apiVersion"] == "security.istio.io/v1":
            selectors[name] = found["spec"]["selector"]["matchLabels"]
    yield from (f"{name} selects {selector}" for name, selector in selectors.items() if selector != LABELS)
    if not LABELS.items() <= labels.items():
        yield f"the pods are labelled {labels}"


def probes_ask_the_right_service(rendered):
    container, listen = rendered.container(), rendered.settings()["server"]
    port = port_of(listen["listen"])
    of_grpc = port and "tls" not in listen and not rendered.of("Server")
    for probe, service, command in [
        ("startupProbe", "", [BINARY, "health", "--live"]),
        ("livenessProbe", "", [BINARY, "health", "--live"]),
        ("readinessProbe", "otp.v1.OtpService", [BINARY, "health"]),
    ]:
        found = {key: container[probe].get(key) for key in ("grpc", "exec")}
        wanted = {"grpc": {"port": port, "service": service}, "exec": None} if of_grpc else {
            "grpc": None,
            "exec": {"command": command},
        }
        if found != wanted:
            yield f"{probe} is {found}"
        if not of_grpc and container[probe]["timeoutSeconds"] < 3:
            yield f"{probe} gives up before `otpd health` does"


def ports_are_those_that_otpd_listens_on(rendered):
    settings = rendered.settings()
    listens = {
        "grpc": settings["server"]["listen"],
        "grpc-admin": settings["admin"]["listen"],
        "http-operations": settings["operations"]["listen"],
    }
    ports = {port["name"]: port["containerPort"] for port in rendered.container()["ports"]}
    if set(ports) != set(listens):
        yield f"the container's ports are {ports}"
    for name, listen in listens.items():
        if port_of(listen) not in (ports.get(name), None):
            yield f"the port {name} is not that of {listen}"
    is_linkerd = bool(rendered.of("Server"))
    for service in rendered.of("Service"):
        for port in service["spec"]["ports"]:
            if port["name"] != port["targetPort"] or port["port"] != ports.get(port["name"]):
                yield f"Service {service['metadata']['name']} leads {port} elsewhere"
            # Linkerd takes any value that it does not know for opaque TCP.
            expected = "kubernetes.io/h2c" if is_linkerd and port["name"].startswith("grpc") else None
            if port.get("appProtocol") != expected:
                yield f"Service {service['metadata']['name']}: appProtocol of {port['name']} is not {expected}"


def network_is_closed_but_for_whom_it_serves(rendered):
    policies = [policy["spec"] for policy in rendered.of("NetworkPolicy")]
    if set(rendered.only("NetworkPolicy")["spec"]["policyTypes"]) != {"Ingress", "Egress"}:
        yield "the network is open in one direction"
    rules = [rule for policy in policies for rule in policy.get("ingress", [])]
    yield from ("whoever likes reaches a port" for rule in rules if not rule.get("from") or not rule.get("ports"))
    opened = sorted(port["port"] for rule in rules for port in rule.get("ports", []))
    served = sorted(port["containerPort"] for port in rendered.container()["ports"])
    # The port of Linkerd's proxy, which all calls between proxies come through.
    if opened != (sorted([*served, 4143]) if rendered.of("Server") else served):
        yield f"ports {opened} are open, and {served} are served"
    reached = {
        (port["port"], port.get("protocol", "TCP"))
        for policy in policies
        for rule in policy.get("egress", [])
        for port in rule["ports"]
    }
    needed = {(53, "UDP"), (53, "TCP"), (6379, "TCP"), (443, "TCP")}
    yield from (f"otpd cannot reach {port}" for port in sorted(needed - reached))


def files_are_mounted(rendered):
    container, pod = rendered.container(), rendered.pod()
    mounts = {mount["name"]: mount["mountPath"] for mount in container["volumeMounts"]}
    volumes = {volume["name"]: volume for volume in pod["volumes"]}
    if set(mounts) != set(volumes):
        yield f"volumes {sorted(volumes)} are mounted as {sorted(mounts)}"
    named = re.findall(r'"(?:unix:)?(/(?:run|etc|var)/[^"]+)"', json.dumps(rendered.settings()))
    for path in [*named, rendered.variables()["OTPD_CONFIG"]]:
        if not any(path.startswith(f"{mount}/") for mount in mounts.values()):
            yield f"{path} is in no volume"
    names = {found["metadata"]["name"] for found in rendered.of("ConfigMap")}
    if volumes["settings"]["configMap"]["name"] not in names or not re.fullmatch(r"otpd-\w{10}", *names):
        yield "a change of the settings does not roll the pods"
    for volume in volumes.values():
        if "secret" in volume and volume["secret"]["defaultMode"] != 0o440:
            yield f"others can read {volume['name']}"


def there_is_no_secret(rendered):
    yield from (f"Secret {found['metadata']['name']} is in the tree" for found in rendered.of("Secret"))
    settings, text = rendered.settings(), rendered.settings_text()
    if settings["profile"] != "production":
        yield "the profile is not production"
    secret_keys = r"^(url|password|\w*_?token|api_key|auth_token|client_secret|sentinel_password)\s*="
    yield from (f"{found} is in the settings" for found in re.findall(secret_keys, text, re.MULTILINE))


def the_mesh_knows_the_same_callers(rendered):
    callers = rendered.settings()["callers"]
    known = {identity for caller in callers.values() for identity in caller["identities"]}
    admitted = {
        f"spiffe://{principal}"
        for policy in rendered.of("AuthorizationPolicy")
        for rule in policy["spec"].get("rules", [])
        for source in rule["from"]
        for principal in source["source"]["principals"]
    }
    if rendered.of("Sidecar") and admitted != known:
        yield f"the mesh admits {sorted(admitted)}, and otpd knows {sorted(known)}"


def istio_hands_calls_to_otpd(rendered):
    settings, pod = rendered.settings(), rendered.pod()
    for sidecar in rendered.of("Sidecar"):
        ours = f"spiffe://cluster.local/ns/{sidecar['metadata']['namespace']}/sa/{pod['serviceAccountName']}"
        if settings["server"]["sidecar"]["xfcc_by"] != [ours]:
            yield f"the sidecar is not {ours}"
        ends = {port["port"]["name"]: port["defaultEndpoint"] for port in sidecar["spec"]["ingress"]}
        for name, section in (("grpc", "server"), ("grpc-admin", "admin")):
            if ends[name] != settings[section]["listen"].replace("unix:", "unix://"):
                yield f"the sidecar hands {name} on to {ends[name]}"
        annotations = rendered.only("Deployment")["spec"]["template"]["metadata"]["annotations"]
        shared = json.loads(annotations["sidecar.istio.io/userVolumeMount"])
        mounts = {mount["name"]: mount["mountPath"] for mount in rendered.container()["volumeMounts"]}
        if any(shared[name]["mountPath"] != mounts.get(name) for name in shared):
            yield f"the sidecar has {shared}"
    yield from ("ejects for answers" for rule in rendered.of("DestinationRule") if ejects_for_answers(rule))


def ejects_for_answers(rule):
    detection = rule["spec"]["trafficPolicy"]["outlierDetection"]
    counted = [detection.get(key) for key in ("consecutive5xxErrors", "consecutiveGatewayErrors")]
    return counted != [0, 0] or not detection.get("splitExternalLocalOriginErrors")


def linkerd_admits_to_each_port(rendered):
    policies = [found["spec"] for found in rendered.of("AuthorizationPolicy")]
    servers = {found["metadata"]["name"]: found["spec"]["port"] for found in rendered.of("Server")}
    if servers and set(servers.values()) != {"grpc", "grpc-admin"}:
        yield f"Linkerd guards {servers}"
    if servers and {policy["targetRef"]["name"] for policy in policies} != set(servers):
        yield "a Server admits nobody"
    authentications = {found["metadata"]["name"] for found in rendered.of("MeshTLSAuthentication")}
    required = {name["name"] for policy in policies for name in policy.get("requiredAuthenticationRefs", [])}
    if required != authentications:
        yield f"{required} are required, and there are {authentications}"


def certificates_fit(examples, rendered):
    """Of the examples for cert-manager: otpd's is for the names of all Services, and is the Secret that is mounted; a
    caller's is for a caller; each has an issuer, and all but the authority are of the same one."""
    by_name = {(found["kind"], found["metadata"]["name"]): found["spec"] for found in examples}
    otpd, caller = by_name["Certificate", "otpd"], by_name["Certificate", "otpd-caller-shop"]
    names = {f"{found['metadata']['name']}.{found['metadata']['namespace']}.svc" for found in rendered.of("Service")}
    if set(otpd["dnsNames"]) != names:
        yield f"the certificate is not for {sorted(names)}"
    mounted = {volume["secret"]["secretName"] for volume in rendered.pod()["volumes"] if "secret" in volume}
    if otpd["secretName"] not in mounted:
        yield f"the certificate's Secret is none of {sorted(mounted)}"
    if caller["uris"] != rendered.settings()["callers"]["shop"]["identities"]:
        yield f"the caller's certificate is for {caller['uris']}"
    issuers = {name: spec["issuerRef"]["name"] for (kind, name), spec in by_name.items() if kind == "Certificate"}
    if issuers != {"otpd-authority": "otpd-root", "otpd": "otpd", "otpd-caller-shop": "otpd"}:
        yield f"the issuers are {issuers}"
    if by_name["Issuer", "otpd"]["ca"]["secretName"] != by_name["Certificate", "otpd-authority"]["secretName"]:
        yield "the issuer has another authority"


ALL = [
    pods_have_no_privileges,
    image_is_of_this_version,
    pod_ends_after_the_drain,
    a_rollout_takes_no_replica_away,
    selectors_agree,
    probes_ask_the_right_service,
    ports_are_those_that_otpd_listens_on,
    network_is_closed_but_for_whom_it_serves,
    files_are_mounted,
    there_is_no_secret,
    the_mesh_knows_the_same_callers,
    istio_hands_calls_to_otpd,
    linkerd_admits_to_each_port,
]


def complaints(rendered):
    for demand in ALL:
        yield from (f"{rendered.target}: {demand.__name__}: {complaint}" for complaint in demand(rendered))


# Spoilt at these places, each demand complains: kind of the object, path below `spec` (POD: that of the pods), new
# value (`None`: removed), target, demand.
SPOILT = [
    ("Deployment", "POD.securityContext.runAsNonRoot", False, "base", pods_have_no_privileges),
    ("Deployment", "POD.containers.0.securityContext.readOnlyRootFilesystem", None, "base", pods_have_no_privileges),
    ("Deployment", "POD.automountServiceAccountToken", True, "base", pods_have_no_privileges),
    ("Deployment", "POD.containers.0.image", "otpd:latest", "base", image_is_of_this_version),
    ("Deployment", "POD.terminationGracePeriodSeconds", 30, "base", pod_ends_after_the_drain),
    ("Deployment", "strategy.rollingUpdate.maxUnavailable", 1, "base", a_rollout_takes_no_replica_away),
    ("HorizontalPodAutoscaler", "minReplicas", 1, "base", a_rollout_takes_no_replica_away),
    ("HorizontalPodAutoscaler", "scaleTargetRef.name", "other", "base", a_rollout_takes_no_replica_away),
    ("PodDisruptionBudget", "selector.matchLabels", {"app": "otpd"}, "base", selectors_agree),
    ("Service", "selector", {"app": "otpd"}, "base", selectors_agree),
    ("Sidecar", "workloadSelector.labels", {"app": "otpd"}, "overlays/istio", selectors_agree),
    (
        "Deployment",
        "POD.containers.0.livenessProbe.grpc.service",
        "otp.v1.OtpService",
        "base",
        probes_ask_the_right_service,
    ),
    ("Deployment", "POD.containers.0.readinessProbe.grpc.service", "", "base", probes_ask_the_right_service),
    (
        "Deployment",
        "POD.containers.0.livenessProbe.exec.command",
        [BINARY, "health"],
        "overlays/tls",
        probes_ask_the_right_service,
    ),
    ("Deployment", "POD.containers.0.ports.0.containerPort", 50053, "base", ports_are_those_that_otpd_listens_on),
    ("Service", "ports.0.appProtocol", "grpc", "overlays/linkerd", ports_are_those_that_otpd_listens_on),
    ("NetworkPolicy", "ingress.0.from", None, "base", network_is_closed_but_for_whom_it_serves),
    ("NetworkPolicy", "egress.0.ports.0.port", 54, "base", network_is_closed_but_for_whom_it_serves),
    ("NetworkPolicy", "policyTypes", ["Ingress"], "base", network_is_closed_but_for_whom_it_serves),
    ("Deployment", "POD.containers.0.volumeMounts.1.mountPath", "/secrets", "base", files_are_mounted),
    ("Deployment", "POD.volumes.1.secret.defaultMode", 0o444, "base", files_are_mounted),
    (
        "Deployment",
        "POD.containers.0.env",
        [{"name": "OTPD_CONFIG", "value": "/etc/otpd/otpd.toml"}, {"name": "OTPD__PROFILE", "value": "development"}],
        "base",
        there_is_no_secret,
    ),
    (
        "AuthorizationPolicy",
        "rules.0.from.0.source.principals",
        ["*"],
        "overlays/istio",
        the_mesh_knows_the_same_callers,
    ),
    ("Sidecar", "ingress.0.defaultEndpoint", "0.0.0.0:50051", "overlays/istio", istio_hands_calls_to_otpd),
    (
        "DestinationRule",
        "trafficPolicy.outlierDetection.consecutive5xxErrors",
        None,
        "overlays/istio",
        istio_hands_calls_to_otpd,
    ),
    ("Server", "port", "http-operations", "overlays/linkerd", linkerd_admits_to_each_port),
]
