"""The commands of the guide fit the cluster that it asks for."""

import os
import re
from pathlib import Path

import pytest

from tests.manifests.objects import KUBEFLOW, load, pods

REPOSITORY = Path(__file__).parents[2]
GUIDE = (REPOSITORY / "manifests/README.md").read_text().partition("## Install on an existing")[0]
STARTS = re.compile(r"cps (?:submit|matrix --cluster) .*")


def cores(amount: str) -> float:
    return float(amount.removesuffix("m")) / (1000 if amount.endswith("m") else 1)


@pytest.mark.parametrize("command", STARTS.findall(GUIDE) + STARTS.findall((REPOSITORY / "README.md").read_text()))
def test_a_step_finds_room_on_the_kind_cluster(command: str) -> None:
    [available] = re.findall(r"(\d+) cores and \d+ GB of memory for the cluster", GUIDE)
    ours = [
        cores(container["resources"]["requests"]["cpu"])
        for pod in pods(load(Path(os.environ["CPS_TEST_MANIFESTS"], "kind.yaml")))
        if not pod.owner.startswith("ClusterTrainingRuntime ")  # it stands for no pod
        for container in pod.spec["containers"]
    ]
    taken = sum(ours) + sum(KUBEFLOW["cpu_requests"].values())
    [step] = re.findall(r"--cpu (\S+)", command) or ["2"]
    assert taken + cores(step) <= float(available), f"{taken:.2f} cores are taken"


def test_the_guide_starts_runs() -> None:
    assert len(STARTS.findall(GUIDE)) == 2
