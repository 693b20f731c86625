"""What schemas do not see. Each check yields one line for each thing that is wrong with an overlay."""

import re
from collections import Counter
from collections.abc import Callable, Iterator
from importlib.util import find_spec, module_from_spec, spec_from_file_location
from pathlib import Path
from typing import Any

from components.training.multi_node import pod_settings
from pipeline.version import DATA_IMAGE, IMAGE
from tests.manifests.connections import unreachable
from tests.manifests.objects import (
    BROUGHT_BY_KUBEFLOW,
    CLUSTER_SCOPED,
    KEYS_OF_KUBEFLOW,
    Object,
    Pod,
    name,
    pods,
    selects,
)


def _mlflow_security() -> Any:
    """MLflow's own check of hosts and origins, without its server, which takes many seconds to import."""
    package = find_spec("mlflow")
    assert package is not None
    assert package.submodule_search_locations is not None
    file = Path(package.submodule_search_locations[0], "server", "security_utils.py")
    spec = spec_from_file_location("security_utils", file)
    assert spec is not None
    assert spec.loader is not None
    module = module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


SECURITY = _mlflow_security()
OURS = re.compile(r"(?:.*/)?(cps-pipeline/.*)")
VERSION = re.compile(r"(:[^:/]*\d[^:/]*|@sha256:[0-9a-f]{64})$")
VOLUMES = {"configMap", "csi", "downwardAPI", "emptyDir", "ephemeral", "persistentVolumeClaim", "projected", "secret"}
WORDS = {
    "accessModes": re.compile("ReadWriteOnce|ReadOnlyMany|ReadWriteMany|ReadWriteOncePod"),
    "concurrencyPolicy": re.compile("Allow|Forbid|Replace"),
    "policyTypes": re.compile("Ingress|Egress"),
    "schedule": re.compile(r"([\d*/,-]+ ){4}[\d*/,-]+"),
}
"""What only these may stand for; the schemas take any text."""

RULE_NAME = re.compile("[A-Za-z]([A-Za-z0-9_,:]*[A-Za-z0-9_])?")
"""What the webhook of JobSet 0.12 accepts. Where it refuses a JobSet, the TrainJob simply has no pods."""

PODS_OF_KUBEFLOW = {"pipelines.kubeflow.org/v2_component": "true"}
"""Kubeflow Pipelines puts this label on the pods of every step."""


def complaints(objects: list[Object]) -> list[str]:
    return [line for check in CHECKS for line in check(objects)]


def dangling(objects: list[Object]) -> Iterator[str]:
    """Names that nothing has: ConfigMaps and Secrets with their keys, claims, accounts, volumes, headless services."""
    there = {(item["kind"], item["metadata"]["name"]): item for item in objects}
    for pod in pods(objects):
        for kind, wanted, key in _references(pod):
            found = there.get((kind, wanted))
            keys = found.get("data", {}) if found else KEYS_OF_KUBEFLOW.get((kind, wanted), [])
            if found is None and (kind, wanted) not in BROUGHT_BY_KUBEFLOW:
                yield f"{pod.owner} refers to {kind} {wanted}, which is not there"
            elif key and key not in keys:
                yield f"{pod.owner} refers to key {key} of {kind} {wanted}, which has no such key"
        volumes = {volume["name"] for volume in pod.spec.get("volumes", [])} | set(pod.claims)
        mounted = {mount["name"] for one in pod.containers for mount in one.get("volumeMounts", [])}
        yield from (f"{pod.owner} mounts volume {one}, which is not there" for one in sorted(mounted - volumes))
        yield from (f"{pod.owner} has volume {one}, which nothing mounts" for one in sorted(volumes - mounted))
    for item in objects:
        if item["kind"] == "StatefulSet" and ("Service", item["spec"]["serviceName"]) not in there:
            yield f"{name(item)} refers to Service {item['spec']['serviceName']}, which is not there"


def unmatched(objects: list[Object]) -> Iterator[str]:
    """Selectors that choose no pod, or not the owner's own, and ports that the chosen pods do not have."""
    everything = pods(objects)
    for item in objects:
        spec = item.get("spec", {})
        if item["kind"] in ("Deployment", "StatefulSet"):
            if not selects(spec["selector"], spec["template"]["metadata"]["labels"]):
                yield f"{name(item)} does not select its own pods"
            continue
        for where, selector in _selectors(item):
            if selector == {"matchLabels": PODS_OF_KUBEFLOW}:
                continue
            if not any(selects(selector, pod.labels) for pod in everything):
                yield f"{name(item)}: {where} selects no pod"
        if item["kind"] == "Service":
            chosen = [pod for pod in everything if selects({"matchLabels": spec["selector"]}, pod.labels)]
            for port in spec["ports"]:
                if any(pod.port(port["targetPort"]) is None for pod in chosen):
                    yield f"{name(item)} leads to port {port['targetPort']}, which its pods have not"
    for pod in everything:
        for affinity in pod.spec.get("affinity", {}).get("podAffinity", {}).values():
            for term in affinity:
                if not any(selects(term["labelSelector"], other.labels) for other in everything):
                    yield f"{pod.owner}: its affinity selects no pod"


def unprobed(objects: list[Object]) -> Iterator[str]:
    """Servers without probes, and probes that ask a port which the container has not."""
    for pod in pods(objects):
        for container in pod.spec["containers"]:
            for probe in ("startupProbe", "readinessProbe", "livenessProbe"):
                asked = container.get(probe)
                if pod.serves and not asked:
                    yield f"{pod.owner}: {container['name']} has no {probe}"
                port = (asked or {}).get("httpGet", {}).get("port")
                has = [value for one in container.get("ports", []) for value in (one["name"], one["containerPort"])]
                if port is not None and port not in has:
                    yield f"{pod.owner}: {probe} asks port {port}, which {container['name']} has not"


def unversioned(objects: list[Object]) -> Iterator[str]:
    """Images that may change under the same name, and images of ours that are not what the pipeline runs."""
    for pod in pods(objects):
        for container in pod.containers:
            image = container["image"]
            if not VERSION.search(image):
                yield f"{pod.owner}: image {image} has neither a version nor a digest"
            ours = OURS.fullmatch(image)
            if ours and ours[1].removesuffix("-gpu") not in (IMAGE, DATA_IMAGE):
                yield f"{pod.owner}: image {image} is not of this version"


def unrestricted(objects: list[Object]) -> Iterator[str]:
    """What Pod Security "restricted" refuses, and beyond it writable roots, unbounded memory and needless tokens."""
    for pod in pods(objects):
        context = pod.spec.get("securityContext", {})
        for field in ("hostNetwork", "hostPID", "hostIPC"):
            if pod.spec.get(field):
                yield f"{pod.owner} has {field}"
        for volume in pod.spec.get("volumes", []):
            if not set(volume) - {"name"} <= VOLUMES:
                yield f"{pod.owner}: volume {volume['name']} is of a kind that is not allowed"
        if pod.spec.get("automountServiceAccountToken") is not False:
            yield f"{pod.owner} mounts a token that it does not use"
        for container in pod.containers:
            yield from (f"{pod.owner}: {container['name']} {wrong}" for wrong in _unrestricted(context, container))


def _unrestricted(pod: Object, container: Object) -> Iterator[str]:
    own = container.get("securityContext", {})
    context = {**pod, **own}
    if context.get("runAsNonRoot") is not True or context.get("runAsUser", 0) == 0:
        yield "may run as root"
    if context.get("seccompProfile", {}).get("type") not in ("RuntimeDefault", "Localhost"):
        yield "has no seccomp profile"
    if own.get("allowPrivilegeEscalation") is not False or own.get("privileged"):
        yield "may gain privileges"
    capabilities = own.get("capabilities", {})
    if capabilities.get("drop") != ["ALL"] or set(capabilities.get("add", [])) - {"NET_BIND_SERVICE"}:
        yield "has capabilities"
    if own.get("readOnlyRootFilesystem") is not True:
        yield "may write to its root"
    if any(port.get("hostPort") for port in container.get("ports", [])):
        yield "takes a port of the node"
    resources = container.get("resources", {})
    if not resources.get("limits", {}).get("memory") or not {"cpu", "memory"} <= set(resources.get("requests", {})):
        yield "has no requests of cpu and memory, or no limit of memory"


def overpowered(objects: list[Object]) -> Iterator[str]:
    """Rights that nobody needs, and bindings that lead nowhere."""
    there = {(item["kind"], item["metadata"]["name"]) for item in objects} | BROUGHT_BY_KUBEFLOW
    for item in objects:
        if item["kind"] in ("ClusterRole", "ClusterRoleBinding"):
            yield f"{name(item)} holds in all namespaces"
        for rule in item.get("rules", []) if item["kind"] == "Role" else []:
            words = {word for field in ("apiGroups", "resources", "verbs") for word in rule[field]}
            if any("*" in word for word in words):
                yield f"{name(item)} has a wildcard"
            if words & {"escalate", "bind", "impersonate", "pods/exec"}:
                yield f"{name(item)} gives a way to more rights"
            if "secrets" in rule["resources"] and not rule.get("resourceNames"):
                yield f"{name(item)} reads every Secret"
        if item["kind"] == "RoleBinding":
            ends = [item["roleRef"], *item["subjects"]]
            for end in ends:
                if (end["kind"], end["name"]) not in there:
                    yield f"{name(item)} refers to {end['kind']} {end['name']}, which is not there"


def refused_by_mlflow(objects: list[Object]) -> Iterator[str]:
    """Names that MLflow's Service has in the cluster, or that an ingress has, and that MLflow would refuse."""
    maps = {item["metadata"]["name"]: item["data"] for item in objects if item["kind"] == "ConfigMap"}
    for service in (item for item in objects if name(item) == "Service cps-mlflow"):
        space = service["metadata"]["namespace"]
        called = [f"cps-mlflow{rest}" for rest in ("", f".{space}", f".{space}.svc", f".{space}.svc.cluster.local")]
        names = [f"{one}:{port['port']}" for one in called for port in service["spec"]["ports"]]
        # With the hash that kustomize appends, so that a change starts the server again.
        [ingress] = [data["host"] for called, data in maps.items() if called.startswith("cps-mlflow-ingress-")]
        for pod in pods(objects):
            if not selects({"matchLabels": service["spec"]["selector"]}, pod.labels):
                continue
            options = _expanded(pod, maps, space)
            allowed = options.get("--allowed-hosts", "").split(",")
            for host in [*names, *([ingress] if ingress else [])]:
                if not SECURITY.is_allowed_host_header(allowed, host):
                    yield f"{pod.owner} refuses requests for {host}"
            for host in ("evil.example", "cps-mlflow.evil.example:5000", f"cps-mlflow.{space}.svc.evil.example:5000"):
                if SECURITY.is_allowed_host_header(allowed, host):
                    yield f"{pod.owner} accepts requests for {host}"
            origins = options.get("--cors-allowed-origins", "").split(",")
            if ingress and SECURITY.should_block_cors_request(f"https://{ingress}", "POST", origins):
                yield f"{pod.owner} refuses changes from the page at {ingress}"
            if not SECURITY.should_block_cors_request("https://evil.example", "POST", origins):
                yield f"{pod.owner} accepts changes from any page"


def _expanded(pod: Pod, maps: Object, namespace: str) -> dict[str, str]:
    """The options of the pod's command, its variables put in as Kubernetes does it."""
    values = {}
    [container] = pod.spec["containers"]
    for variable in container["env"]:
        source = variable.get("valueFrom", {})
        reference = source.get("configMapKeyRef", {})
        values[variable["name"]] = (
            namespace
            if source.get("fieldRef") == {"fieldPath": "metadata.namespace"}
            else maps.get(reference.get("name"), {}).get(reference.get("key"), variable.get("value", ""))
        )
    words = [
        re.sub(r"\$\((\w+)\)", lambda found: values.get(found[1], found[0]), word) for word in container["command"]
    ]
    return dict(word.split("=", 1) for word in words if "=" in word)


def open_to_all(objects: list[Object]) -> Iterator[str]:
    """Pods that no policy closes in both directions, before others open what is needed."""
    closed = [
        item["spec"]["podSelector"]
        for item in objects
        if item["kind"] == "NetworkPolicy"
        and set(item["spec"].get("policyTypes", [])) == {"Ingress", "Egress"}
        and not item["spec"].get("ingress")
        and not item["spec"].get("egress")
    ]
    for pod in pods(objects):
        if not any(selects(selector, pod.labels) for selector in closed):
            yield f"{pod.owner}: no NetworkPolicy denies by default"


def evictable(objects: list[Object]) -> Iterator[str]:
    """What keeps state in one pod, and no budget says that an eviction must wait."""
    budgets = [item["spec"]["selector"] for item in objects if item["kind"] == "PodDisruptionBudget"]
    for item in objects:
        if item["kind"] == "StatefulSet":
            labels = item["spec"]["template"]["metadata"]["labels"]
            if not any(selects(budget, labels) for budget in budgets):
                yield f"{name(item)} has no PodDisruptionBudget"


def misplaced(objects: list[Object]) -> Iterator[str]:
    """Two objects of one name, and objects outside the one namespace."""
    for (kind, called), number in Counter((item["kind"], item["metadata"]["name"]) for item in objects).items():
        if number > 1:
            yield f"{kind} {called} is there {number} times"
    spaces = {item["metadata"].get("namespace") for item in objects if item["kind"] not in CLUSTER_SCOPED}
    if len(spaces) > 1 or None in spaces:
        yield f"the objects are in several namespaces: {', '.join(sorted(map(str, spaces)))}"
    for item in objects:
        if item["kind"] in CLUSTER_SCOPED and "namespace" in item["metadata"]:
            yield f"{name(item)} belongs to no namespace, and has one"
        if item["kind"] == "Namespace":
            yield f"{name(item)} would take Kubeflow away with it when it is deleted"


def misspelled(objects: list[Object]) -> Iterator[str]:
    """Fields that take some words only, and have another."""
    for item in objects:
        for field, allowed in WORDS.items():
            given = item.get("spec", {}).get(field, [])
            for word in given if isinstance(given, list) else [given]:
                if not allowed.fullmatch(word):
                    yield f"{name(item)}: {field} is {word}"
    for pod in pods(objects):
        policy = pod.spec.get("restartPolicy", "Always")
        if policy != "Always" if pod.serves else policy not in ("Never", "OnFailure"):
            yield f"{pod.owner}: restartPolicy is {policy}"


def unlike_the_steps(objects: list[Object]) -> Iterator[str]:
    """Settings and keys by names that the pipeline's steps do not read."""
    for item in objects:
        data = set(item.get("data", {}))
        if name(item) == "ConfigMap cps-settings":
            missing = set(pod_settings.SETTINGS) - data
            unknown = data - {*pod_settings.SETTINGS, *pod_settings.OPTIONAL_SETTINGS}
        elif name(item) == f"Secret {pod_settings.TRACKING_SECRET}":
            missing, unknown = set(pod_settings.TRACKING_LOGIN) - data, set()
        elif name(item) == "Secret cps-store":
            missing, unknown = set(pod_settings.KEYS) - data, data - set(pod_settings.KEYS)
        else:
            continue
        for field in sorted(missing):
            yield f"{name(item)} has no {field}, which the steps read"
        for field in sorted(unknown):
            yield f"{name(item)} has {field}, which no step reads"
    if "ConfigMap cps-settings" not in map(name, objects):
        yield "ConfigMap cps-settings is not there"


def refused_by_jobset(objects: list[Object]) -> Iterator[str]:
    """Names of failure policy rules with which no JobSet can be created."""
    for item in objects:
        if item["kind"] == "ClusterTrainingRuntime":
            for rule in item["spec"]["template"]["spec"]["failurePolicy"]["rules"]:
                if not RULE_NAME.fullmatch(rule["name"]):
                    yield f"{name(item)} has the failure policy rule {rule['name']!r}, which JobSet refuses"


def _references(pod: Pod) -> Iterator[tuple[str, str, str]]:
    """Kind, name and key ("" for all) of what a pod refers to."""
    for container in pod.containers:
        for source in container.get("envFrom", []):
            for field, kind in (("configMapRef", "ConfigMap"), ("secretRef", "Secret")):
                if field in source:
                    yield kind, source[field]["name"], ""
        for variable in container.get("env", []):
            for field, kind in (("configMapKeyRef", "ConfigMap"), ("secretKeyRef", "Secret")):
                if field in variable.get("valueFrom", {}):
                    yield kind, variable["valueFrom"][field]["name"], variable["valueFrom"][field]["key"]
    for volume in pod.spec.get("volumes", []):
        if "persistentVolumeClaim" in volume:
            yield "PersistentVolumeClaim", volume["persistentVolumeClaim"]["claimName"], ""
        if "configMap" in volume:
            yield "ConfigMap", volume["configMap"]["name"], ""
        if "secret" in volume:
            yield "Secret", volume["secret"]["secretName"], ""
    if "serviceAccountName" in pod.spec:
        yield "ServiceAccount", pod.spec["serviceAccountName"], ""


def _selectors(item: Object) -> Iterator[tuple[str, Object]]:
    spec = item.get("spec", {})
    if item["kind"] == "Service":
        yield "it", {"matchLabels": spec["selector"]}
    elif item["kind"] == "PodDisruptionBudget":
        yield "it", spec["selector"]
    elif item["kind"] == "NetworkPolicy":
        yield "it", spec["podSelector"]
        for direction, side in (("ingress", "from"), ("egress", "to")):
            for rule in spec.get(direction, []):
                for peer in rule.get(side, []):
                    if "podSelector" in peer:
                        yield direction, peer["podSelector"]


CHECKS: tuple[Callable[[list[Object]], Iterator[str]], ...] = (
    dangling,
    unmatched,
    unprobed,
    unversioned,
    unrestricted,
    overpowered,
    refused_by_mlflow,
    refused_by_jobset,
    open_to_all,
    evictable,
    misplaced,
    misspelled,
    unlike_the_steps,
    unreachable,
)
