"""A built overlay as Kubernetes would take it: its objects, and the pods that come of them."""

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

Object = dict[str, Any]

CLUSTER_SCOPED = ("ClusterTrainingRuntime",)
KUBEFLOW: Object = yaml.safe_load(Path(__file__).with_name("kubeflow_names.yaml").read_text())
BROUGHT_BY_KUBEFLOW = {(item["kind"], item["name"]) for item in KUBEFLOW["objects"]}
PORTS_OF_KUBEFLOW = {
    f"{item['name']}.{KUBEFLOW['namespace']}": item["ports"]
    for item in KUBEFLOW["objects"]
    if item["kind"] == "Service"
}
KEYS_OF_KUBEFLOW = {(item["kind"], item["name"]): item["keys"] for item in KUBEFLOW["objects"] if "keys" in item}


def load(path: Path) -> list[Object]:
    return [item for item in yaml.safe_load_all(path.read_text()) if item]


def name(item: Object) -> str:
    return f"{item['kind']} {item['metadata']['name']}"


@dataclass(frozen=True)
class Pod:
    owner: str
    labels: dict[str, str]
    spec: Object
    claims: tuple[str, ...] = ()
    """Volumes that its StatefulSet makes for it."""
    serves: bool = True
    """It runs until it is stopped, and so needs probes."""

    @property
    def containers(self) -> list[Object]:
        return [*self.spec.get("initContainers", []), *self.spec["containers"]]

    def port(self, wanted: str | int) -> int | None:
        """The number of a port, by its name or number; None where no container has it."""
        for container in self.spec["containers"]:
            for port in container.get("ports", []):
                if wanted in (port.get("name"), port["containerPort"]):
                    return int(port["containerPort"])
        return None


def pods(objects: list[Object]) -> list[Pod]:
    return [pod for item in objects for pod in _pods_of(item)]


def _pods_of(item: Object) -> Iterator[Pod]:
    spec = item.get("spec", {})
    if item["kind"] in ("Deployment", "StatefulSet"):
        claims = tuple(claim["metadata"]["name"] for claim in spec.get("volumeClaimTemplates", []))
        yield _pod(item, spec["template"], claims, serves=True)
    elif item["kind"] == "CronJob":
        yield _pod(item, spec["jobTemplate"]["spec"]["template"], (), serves=False)
    elif item["kind"] == "ClusterTrainingRuntime":
        for job in spec["template"]["spec"]["replicatedJobs"]:
            yield _pod(item, job["template"]["spec"]["template"], (), serves=False)


def _pod(item: Object, template: Object, claims: tuple[str, ...], *, serves: bool) -> Pod:
    return Pod(name(item), template["metadata"]["labels"], template["spec"], claims, serves)


def selects(selector: Object, labels: dict[str, str]) -> bool:
    """Whether a label selector of Kubernetes chooses these labels. An empty one chooses everything."""
    if not selector.get("matchLabels", {}).items() <= labels.items():
        return False
    for rule in selector.get("matchExpressions", []):
        inside = labels.get(rule["key"]) in rule.get("values", [])
        if {"In": inside, "NotIn": not inside, "Exists": rule["key"] in labels}[rule["operator"]] is False:
            return False
    return True
