"""What schemas do not see: references between objects, and what a step of the pipeline expects to find."""

import copy
import os
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml

from pipeline import placement, steps

Object = dict[str, Any]

OVERLAYS = sorted(Path(os.environ["CPS_TEST_MANIFESTS"]).glob("*.yaml"))


@pytest.fixture(params=OVERLAYS, ids=lambda path: path.stem)
def objects(request: pytest.FixtureRequest) -> list[Object]:
    return [item for item in yaml.safe_load_all(request.param.read_text()) if item]


def test_references_lead_somewhere(objects: list[Object]) -> None:
    assert list(dangling(objects)) == []


def test_selectors_match_their_labels(objects: list[Object]) -> None:
    assert list(unmatched(objects)) == []


def test_images_have_a_version(objects: list[Object]) -> None:
    images = [container["image"] for pod in pods(objects) for container in containers(pod)]
    assert images
    assert [image for image in images if not re.search(r"(:[^:/]*\d[^:/]*|@sha256:[0-9a-f]{64})$", image)] == []
    assert {image for image in images if "cps-pipeline/" in image} <= {steps.IMAGE, steps.DATA_IMAGE}


def test_pods_meet_the_restricted_standard(objects: list[Object]) -> None:
    for pod in pods(objects):
        assert pod["securityContext"]["runAsNonRoot"] is True
        assert pod["securityContext"]["seccompProfile"] == {"type": "RuntimeDefault"}
        for container in containers(pod):
            context = container["securityContext"]
            assert context["allowPrivilegeEscalation"] is False
            assert context["capabilities"] == {"drop": ["ALL"]}
            assert context["readOnlyRootFilesystem"] is True
            assert container["resources"]["limits"]["memory"]


def test_the_settings_are_what_the_steps_read(objects: list[Object]) -> None:
    (settings,) = (item["data"] for item in objects if _is(item, "ConfigMap", "cps-settings"))
    (secret,) = (item["data"] for item in objects if _is(item, "Secret", "cps-store"))
    assert set(placement.SETTINGS) <= set(settings) <= {*placement.SETTINGS, *placement.OPTIONAL_SETTINGS}
    assert set(placement.KEYS) == set(secret)


def test_no_object_is_outside_the_one_namespace(objects: list[Object]) -> None:
    assert len({item["metadata"]["namespace"] for item in objects}) == 1


@pytest.mark.parametrize(
    ("kind", "path", "found"),
    [
        ("Service", ("spec", "selector", "app.kubernetes.io/name"), "selects no pod"),
        ("StatefulSet", ("spec", "template", "spec", "containers", 0, "envFrom", 0, "secretRef", "name"), "Secret"),
        ("StatefulSet", ("spec", "template", "spec", "containers", 0, "readinessProbe", "httpGet", "port"), "port"),
        (
            "Deployment",
            ("spec", "template", "spec", "containers", 0, "envFrom", 0, "configMapRef", "name"),
            "ConfigMap",
        ),
        ("Deployment", ("spec", "template", "spec", "volumes", 0, "persistentVolumeClaim", "claimName"), "Claim"),
        ("Deployment", ("spec", "template", "spec", "containers", 0, "volumeMounts", 0, "name"), "volume"),
        ("Deployment", ("spec", "selector", "matchLabels", "app.kubernetes.io/name"), "its own pods"),
        ("Service", ("spec", "ports", 0, "targetPort"), "port"),
    ],
)
def test_a_broken_reference_is_found(objects: list[Object], kind: str, path: tuple[str | int, ...], found: str) -> None:
    broken = copy.deepcopy(objects)
    place: Any = next(item for item in broken if item["kind"] == kind)
    for key in path[:-1]:
        place = place[key]
    assert place[path[-1]]
    place[path[-1]] = "nothing-there"
    complaints = [*dangling(broken), *unmatched(broken)]
    assert any(found in complaint for complaint in complaints), complaints


def dangling(objects: list[Object]) -> Iterator[str]:
    """One line for each name in a pod that nothing in the overlay has."""
    there = {(item["kind"], item["metadata"]["name"]) for item in objects}
    for pod in pods(objects):
        volumes = {volume["name"] for volume in pod.get("volumes", [])} | set(pod["claims"])
        for reference in _references(pod):
            if reference not in there:
                yield f"{pod['owner']} refers to {reference[0]} {reference[1]}, which is not there"
        for container in containers(pod):
            ports = {port["name"] for port in container.get("ports", [])}
            for probe in ("startupProbe", "readinessProbe", "livenessProbe"):
                port = container.get(probe, {}).get("httpGet", {}).get("port")
                if port is not None and port not in ports:
                    yield f"{pod['owner']}: {probe} asks port {port}, which {container['name']} has not"
            for mount in container.get("volumeMounts", []):
                if mount["name"] not in volumes:
                    yield f"{pod['owner']}: {container['name']} mounts volume {mount['name']}, which is not there"


def unmatched(objects: list[Object]) -> Iterator[str]:
    """One line for each selector that matches no pod, and each port of a Service that its pods do not have."""
    every_pod = list(pods(objects))
    for item in objects:
        spec = item.get("spec", {})
        if item["kind"] in ("Deployment", "StatefulSet"):
            own = spec["template"]["metadata"]["labels"]
            if not spec["selector"]["matchLabels"].items() <= own.items():
                yield f"{item['kind']} {item['metadata']['name']} does not select its own pods"
        elif item["kind"] in ("Service", "NetworkPolicy"):
            wanted = spec.get("selector") or spec.get("podSelector", {}).get("matchLabels", {})
            chosen = [pod for pod in every_pod if wanted.items() <= pod["labels"].items()]
            if not chosen:
                yield f"{item['kind']} {item['metadata']['name']} selects no pod"
            named = {port["name"] for pod in chosen for one in containers(pod) for port in one.get("ports", [])}
            for port in _ports(item):
                if chosen and port not in named:
                    yield f"{item['kind']} {item['metadata']['name']} names port {port}, which its pods have not"


def pods(objects: list[Object]) -> Iterator[Object]:
    """The pod templates' specs, with the owner's name, the labels and the claims that the owner brings."""
    for item in objects:
        template = item.get("spec", {}).get("template")
        if template:
            claims = [claim["metadata"]["name"] for claim in item["spec"].get("volumeClaimTemplates", [])]
            owner = f"{item['kind']} {item['metadata']['name']}"
            yield {**template["spec"], "owner": owner, "labels": template["metadata"]["labels"], "claims": claims}


def containers(pod: Object) -> list[Object]:
    return [*pod.get("initContainers", []), *pod["containers"]]


def _references(pod: Object) -> Iterator[tuple[str, str]]:
    for container in containers(pod):
        for source in container.get("envFrom", []):
            for field, kind in (("configMapRef", "ConfigMap"), ("secretRef", "Secret")):
                if field in source:
                    yield kind, source[field]["name"]
        for variable in container.get("env", []):
            for field, kind in (("configMapKeyRef", "ConfigMap"), ("secretKeyRef", "Secret")):
                if field in variable.get("valueFrom", {}):
                    yield kind, variable["valueFrom"][field]["name"]
    for volume in pod.get("volumes", []):
        if "persistentVolumeClaim" in volume:
            yield "PersistentVolumeClaim", volume["persistentVolumeClaim"]["claimName"]
    if "serviceAccountName" in pod:
        yield "ServiceAccount", pod["serviceAccountName"]


def _ports(item: Object) -> Iterator[str]:
    if item["kind"] == "Service":
        yield from (port["targetPort"] for port in item["spec"]["ports"])
    for rule in item["spec"].get("ingress", []):
        yield from (port["port"] for port in rule.get("ports", []))


def _is(item: Object, kind: str, name: str) -> bool:
    return (item["kind"], item["metadata"]["name"]) == (kind, name)
