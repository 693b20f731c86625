"""The overlays as they are built: nothing that schemas miss is wrong, and what is broken on purpose is found."""

import copy
import os
import subprocess
from pathlib import Path

import pytest
import yaml

from tests.manifests.checks import complaints
from tests.manifests.mutations import FORMS, MLFLOW, MUTATIONS, POD, REMOVED, Mutation
from tests.manifests.objects import Object, load, name

REPOSITORY = Path(__file__).parents[2]
OVERLAYS = sorted(Path(os.environ["CPS_TEST_MANIFESTS"]).glob("*.yaml"))
MULTI_NODE = "multi-node"


@pytest.fixture(scope="module")
def built() -> dict[str, list[Object]]:
    return {path.stem: load(path) for path in OVERLAYS}


@pytest.mark.parametrize("overlay", [path.stem for path in OVERLAYS if path.stem != MULTI_NODE])
def test_nothing_is_wrong(built: dict[str, list[Object]], overlay: str) -> None:
    assert complaints(built[overlay]) == []


@pytest.mark.parametrize("host", ["mlflow.example.com", "mlflow.example.com:8443"])
def test_mlflow_answers_at_the_ingress_of_the_configmap(built: dict[str, list[Object]], host: str) -> None:
    objects = copy.deepcopy(built["kubeflow"])
    [settings] = [item for item in objects if name(item).startswith("ConfigMap cps-mlflow-ingress-")]
    settings["data"]["host"] = host
    assert complaints(objects) == []
    variable = (*POD, "containers", "mlflow", "env", "CPS_MLFLOW_HOST")
    Mutation("kubeflow", MLFLOW, variable, REMOVED, "").apply(objects)
    assert [line.rpartition(" at ")[2].rpartition(" for ")[2] for line in complaints(objects)] == [host, host]


@pytest.mark.parametrize("mutation", MUTATIONS, ids=str)
def test_what_is_broken_is_found(built: dict[str, list[Object]], mutation: Mutation) -> None:
    objects = copy.deepcopy(built[mutation.overlay])
    mutation.apply(objects)
    found = complaints(objects)
    assert any(mutation.found in line for line in found), found


@pytest.mark.parametrize("mutation", FORMS, ids=str)
def test_what_is_malformed_is_found(built: dict[str, list[Object]], mutation: Mutation, tmp_path: Path) -> None:
    objects = copy.deepcopy(built[mutation.overlay])
    mutation.apply(objects)
    [changed] = [item for item in objects if item not in built[mutation.overlay]]
    file = tmp_path / "changed.yaml"
    file.write_text(yaml.safe_dump(changed))
    validate: list[str | Path] = [REPOSITORY / "build/ci-tools/bin/kubernetes-validate", "--strict", "-k", "1.35", file]
    done = subprocess.run(validate, capture_output=True, text=True, check=False)
    # As scripts/manifests-check reads it: a kind that it does not know is only a warning.
    assert done.returncode != 0 or "WARN" in done.stdout + done.stderr
    assert mutation.found in done.stdout + done.stderr


def test_the_overlay_for_several_nodes_is_contained_in_the_others(built: dict[str, list[Object]]) -> None:
    """And has nothing that belongs to services: the guide applies it next to those of one's own."""
    own = {name(item) for item in built[MULTI_NODE]}
    assert own == {
        "ClusterTrainingRuntime paddle-distributed",
        "NetworkPolicy cps-training",
        "Role cps-trainjobs",
        "RoleBinding cps-trainjobs",
    }
    for overlay in ("kind", "kubeflow", "gpu"):
        assert own <= {name(item) for item in built[overlay]}
    # The ConfigMap is the user's; the account need not exist; the policy of its own covers its pods.
    assert complaints(built[MULTI_NODE]) == [
        "RoleBinding cps-trainjobs refers to ServiceAccount cps-steps, which is not there",
        "ClusterTrainingRuntime paddle-distributed: no NetworkPolicy denies by default",
        "ConfigMap cps-settings is not there",
    ]


def test_git_has_no_secret() -> None:
    """The examples name the keys; what stands in them is nobody's secret, or nothing."""
    tracked = subprocess.run(
        ["git", "ls-files", "manifests"], cwd=REPOSITORY, capture_output=True, text=True, check=True
    ).stdout.split()
    assert [name for name in tracked if name.endswith(".env")] == []
    examples = [name for name in tracked if name.endswith(".env.example")]
    assert examples
    for example in examples:
        lines = [line for line in (REPOSITORY / example).read_text().splitlines() if not line.startswith("#")]
        given = dict(line.split("=", 1) for line in lines)
        assert {name for name, value in given.items() if value} <= {"AWS_ACCESS_KEY_ID", "MLFLOW_TRACKING_USERNAME"}
    for file in tracked:
        assert "kind: Secret" not in (REPOSITORY / file).read_text().splitlines(), file
