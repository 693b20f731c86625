"""The names that Kubeflow Pipelines brings are those of the release that the guide installs, and of its own sources."""

import os
import re
from pathlib import Path

import pytest
import yaml

from tests.manifests.objects import KUBEFLOW, Object

REPOSITORY = Path(__file__).parents[2]
STAND_IN = Path(__file__).with_name("kubeflow_pipelines.yaml")
SOURCES = os.environ.get("CPS_TEST_KFP", "")
FROM_SOURCES = pytest.mark.skipif(not SOURCES, reason="CPS_TEST_KFP names no checkout of Kubeflow Pipelines")


@pytest.mark.parametrize(
    ("file", "version"),
    [
        ("manifests/README.md", r"export KFP=(\S+)"),
        ("manifests/overlays/kubeflow-pipelines/kustomization.yaml", r"\?ref=(\S+)"),
        ("pyproject.toml", r'"kfp==([^"]+)"'),
    ],
)
def test_the_names_were_read_in_the_release_that_is_installed(file: str, version: str) -> None:
    assert re.findall(version, (REPOSITORY / file).read_text()) == [KUBEFLOW["version"]]


def text(path: str) -> str:
    below = "" if path.startswith("backend/") else "manifests/kustomize"
    return (Path(SOURCES) / below / path).read_text()


def stand_in(kind: str) -> Object:
    [found] = [item for item in yaml.safe_load_all(STAND_IN.read_text()) if item["kind"] == kind]
    return dict(found)


@FROM_SOURCES
def test_the_sources_are_of_that_release() -> None:
    assert (Path(SOURCES) / "VERSION").read_text().strip() == KUBEFLOW["version"]


@FROM_SOURCES
def test_what_stands_in_for_the_patched_configmap_is_like_it() -> None:
    [file] = [item["file"] for item in KUBEFLOW["objects"] if item["name"] == "workflow-controller-configmap"]
    theirs, ours = yaml.safe_load(text(file))["data"], stand_in("ConfigMap")["data"]
    assert theirs.keys() == ours.keys()
    assert yaml.safe_load(theirs["workflowDefaults"]) == yaml.safe_load(ours["workflowDefaults"])


@FROM_SOURCES
def test_what_stands_in_for_the_patched_store_is_like_it() -> None:
    [file] = [item["file"] for item in KUBEFLOW["objects"] if item["kind"] == "Deployment"]
    [theirs], [ours] = (
        one["spec"]["template"]["spec"]["containers"] for one in (yaml.safe_load(text(file)), stand_in("Deployment"))
    )
    assert {key: theirs[key] for key in ours} == ours


@FROM_SOURCES
@pytest.mark.parametrize("listed", [*KUBEFLOW["objects"], *KUBEFLOW["labels"]], ids=lambda item: item["name"])
def test_the_sources_have_it(listed: Object) -> None:
    if "named_in" in listed:
        assert listed["name"] in text(listed["named_in"])
        return
    documents = [item for item in yaml.safe_load_all(text(listed["file"])) if item]
    [found] = [
        item for item in documents if (item["kind"], item["metadata"]["name"]) == (listed["kind"], listed["name"])
    ]
    assert set(listed.get("keys", [])) <= found.get("data", found.get("stringData", {})).keys()
    assert set(listed.get("ports", [])) <= {port["port"] for port in found.get("spec", {}).get("ports", [])}
