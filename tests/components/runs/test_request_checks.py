"""How the work is shared and what is predicted: wrong values are named."""

from pathlib import Path
from typing import Any

import pytest

from components.errors import UserError
from components.runs.request import PredictionRequest, Resources


def test_what_is_right_passes(tmp_path: Path) -> None:
    assert Resources(eval_shards=256).eval_shards == 256
    for images in ("val", "test", "unlabeled", str(tmp_path), "photos/*.jpg"):
        PredictionRequest(images=images, limit=0).check()


@pytest.mark.parametrize(
    ("processes", "eval_shards", "named"), [(0, 1, "processes is 0"), (1, 0, "eval_shards is 0"), (1, 257, "257")]
)
def test_sharing_among_none_or_too_many_is_refused(processes: int, eval_shards: int, named: str) -> None:
    with pytest.raises(UserError, match=named):
        Resources(processes=processes, eval_shards=eval_shards)


@pytest.mark.parametrize(("images", "limit", "named"), [("vall", 1, "'vall'"), ("val", -1, "predict_limit is -1")])
def test_images_that_are_nowhere_and_negative_limits_are_refused(images: str, limit: int, named: str) -> None:
    with pytest.raises(UserError, match=named):
        PredictionRequest(images=images, limit=limit).check()


@pytest.mark.parametrize(
    ("given", "named"),
    [
        ({"gpus": -1}, "gpus is -1"),
        ({"nodes": 0}, "nodes is 0"),
        ({"eval_gpus": 2}, "eval_gpus is 2: give a whole number from 0 to 1"),
        ({"shm": "500m"}, "shm is '500m': give a size such as 16Gi"),
        ({"shm": "16GB"}, "shm is '16GB'"),
        ({"gpus": 4, "processes": 2}, "gpus is 4 and processes is 2: each GPU runs one process"),
    ],
)
def test_gpus_and_nodes_that_make_no_sense_are_refused(given: dict[str, Any], named: str) -> None:
    with pytest.raises(UserError, match=named):
        Resources(**given)


@pytest.mark.parametrize("shm", ["", "16Gi", "512Mi", "1.5G"])
def test_sizes_of_shared_memory_that_kubernetes_takes_pass(shm: str) -> None:
    assert Resources(shm=shm).shm == shm


def test_gpus_have_a_process_each() -> None:
    assert Resources(gpus=8).gpus == Resources(processes=8, gpus=8).gpus == 8


PODS: dict[str, Any] = {
    "cpu": "4",
    "memory": "16Gi",
    "accelerator": "nvidia.com/gpu",
    "node_selector": {"cloud.google.com/gke-spot": "true"},
    "tolerations": [{"key": "nvidia.com/gpu", "operator": "Exists", "effect": "NoSchedule"}],
}


@pytest.mark.parametrize("amount", ["500m", "0.5", "64", "1.5Gi", "2000Mi"])
def test_amounts_as_kubernetes_writes_them_pass(amount: str) -> None:
    assert Resources(**{**PODS, "cpu": amount, "memory": amount}).cpu == amount


@pytest.mark.parametrize(
    ("given", "named"),
    [
        ({"cpu": ""}, "cpu is ''"),
        ({"cpu": "0"}, "cpu is '0'"),
        ({"cpu": "four"}, "cpu is 'four'"),
        ({"memory": "16 GB"}, "memory is '16 GB'"),
        ({"memory": "-1Gi"}, "memory is '-1Gi'"),
        ({"accelerator": "gpu"}, "accelerator is 'gpu'"),
        ({"node_selector": {"spot": True}}, "'spot': True"),
        ({"node_selector": {"a b": "c"}}, "'a b'"),
        ({"tolerations": ["nvidia.com/gpu"]}, "'nvidia.com/gpu'"),
        ({"tolerations": [{"keys": "a"}]}, "tolerationSeconds"),
        ({"tolerations": [{}]}, "tolerations has {}"),
    ],
)
def test_pods_that_cannot_be_made_are_refused_before_hours_go_by(given: dict[str, Any], named: str) -> None:
    with pytest.raises(UserError, match=named):
        Resources(**{**PODS, **given})
