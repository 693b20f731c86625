"""Whether every address that a pod is given leads to a Service, and every NetworkPolicy on the way lets it through."""

import re
from collections.abc import Iterator
from typing import Any

from tests.manifests.objects import PORTS_OF_KUBEFLOW, Object, Pod, pods, selects

ADDRESS = re.compile(r"(?:https?|postgresql\+psycopg2)://(?:[^@/\s]*@)?([a-z0-9.-]+):(\d+)")
HOST_OPTION = re.compile(r"--host=([a-z][a-z0-9.-]+)$")


def unreachable(objects: list[Object]) -> Iterator[str]:
    services = {item["metadata"]["name"]: item for item in objects if item["kind"] == "Service"}
    for pod in pods(objects):
        for host, port in sorted(set(_addresses(pod, objects))):
            if host not in services:
                if port not in PORTS_OF_KUBEFLOW.get(host, []):
                    yield f"{pod.owner} is given {host}:{port}, which is no Service"
                elif not _open(objects, "egress", pod, None, port):
                    yield f"{pod.owner} may not connect to {host}:{port}"
                continue
            [target] = [one["targetPort"] for one in services[host]["spec"]["ports"] if one["port"] == port] or [None]
            if target is None:
                yield f"{pod.owner} is given {host}:{port}, and Service {host} has no such port"
                continue
            for server in pods(objects):
                if selects({"matchLabels": services[host]["spec"]["selector"]}, server.labels):
                    yield from _closed(objects, pod, server, target, f"{host}:{port}")


def _closed(objects: list[Object], client: Pod, server: Pod, target: Any, address: str) -> Iterator[str]:
    number = server.port(target)
    if number is None:
        return  # said by the check of ports
    if not _open(objects, "egress", client, server, number):
        yield f"{client.owner} may not connect to {address}"
    if not _open(objects, "ingress", server, client, number):
        yield f"{server.owner} takes no connection of {client.owner} for {address}"


def _open(objects: list[Object], direction: str, pod: Pod, peer: Pod | None, port: int) -> bool:
    """Whether a policy that selects `pod` lets `peer` (None: a pod of somebody else in the namespace) through."""
    side = {"ingress": "from", "egress": "to"}[direction]
    policies = [item["spec"] for item in objects if item["kind"] == "NetworkPolicy"]
    mine = [spec for spec in policies if selects(spec["podSelector"], pod.labels)]
    rules = [rule for spec in mine for rule in spec.get(direction, [])]
    server = pod if direction == "ingress" else peer
    for rule in rules:
        ports = [_number(one["port"], server) for one in rule.get("ports", [])]
        peers = [one["podSelector"] for one in rule.get(side, []) if "podSelector" in one]
        labels = peer.labels if peer else {}
        if (not ports or port in ports) and (side not in rule or any(selects(one, labels) for one in peers)):
            return True
    return not any(direction.capitalize() in spec.get("policyTypes", []) for spec in mine)


def _number(port: str | int, server: Pod | None) -> int | None:
    if isinstance(port, int):
        return port
    return server.port(port) if server else None


def _addresses(pod: Pod, objects: list[Object]) -> Iterator[tuple[str, int]]:
    """Host and port of what stands in a pod's commands, variables and ConfigMaps."""
    maps = {item["metadata"]["name"]: item["data"] for item in objects if item["kind"] == "ConfigMap"}
    texts = [value for called in _config_maps(pod) for value in maps.get(called, {}).values()]
    for container in pod.containers:
        for variable in container.get("env", []):
            source = variable.get("valueFrom", {}).get("configMapKeyRef", {})
            texts.append(variable.get("value") or maps.get(source.get("name"), {}).get(source.get("key"), ""))
        for word in container.get("command", []) + container.get("args", []):
            texts.append(word)
            if match := HOST_OPTION.match(word):
                yield match[1], 5432  # pg_dump's own
    for text in texts:
        yield from ((host, int(port)) for host, port in ADDRESS.findall(text))


def _config_maps(pod: Pod) -> Iterator[str]:
    if pod.owner.startswith("ClusterTrainingRuntime "):
        yield "cps-settings"  # the step that makes the TrainJob gives it all of them
    for volume in pod.spec.get("volumes", []):
        if "configMap" in volume:
            yield volume["configMap"]["name"]
    for container in pod.containers:
        yield from (one["configMapRef"]["name"] for one in container.get("envFrom", []) if "configMapRef" in one)
