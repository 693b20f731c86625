"""Weights files as engines, and the ones that are refused."""

import hashlib
import json
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest

from components.errors import UserError, WorkFailed
from components.files import check_digest
from components.inference.checkpoint import check_belongs, open_checkpoint, read_description

META = {
    "structure": "small-fpn",
    "num_classes": "2",
    "classes": json.dumps([{"name": "road", "color": [1, 2, 3]}, {"name": "sky", "color": [4, 5, 6]}]),
    "mean": "[0.5, 0.5, 0.5]",
    "std": "[0.2, 0.2, 0.2]",
    "crop": "[32, 48]",
    "stride": "[32, 24]",
    "run_key": "demo-1-8-s0-abc",
    "split": "f" * 64,
    "dataset": "d" * 64,
    "epoch": "7",
    "step": "70",
}


@pytest.fixture(scope="module")
def weights(tmp_path_factory: pytest.TempPathFactory) -> Path:
    from components.networks.structures import build
    from components.networks.weights import pack, state_arrays

    branches = {branch: state_arrays(build("small-fpn", 2, seed)) for seed, branch in enumerate(("left", "right"))}
    path = tmp_path_factory.mktemp("weights") / "epoch-0007.safetensors"
    path.write_bytes(pack(branches, META))
    return path


def test_what_a_file_says(weights: Path) -> None:
    checkpoint = open_checkpoint(weights)
    assert list(checkpoint.engines) == ["left", "right"]
    description = checkpoint.description
    assert [item.name for item in description.classes] == ["road", "sky"]
    assert description.classes[1].color == (4, 5, 6)
    assert (description.crop, description.stride) == ((32, 48), (32, 24))
    assert (description.epoch, description.step, description.split) == (7, 70, "f" * 64)


def test_engines_differ_and_threads_do_not_disturb_them(weights: Path) -> None:
    engines = open_checkpoint(weights).engines
    windows = np.random.default_rng(0).normal(size=(6, 1, 3, 32, 48)).astype(np.float32)
    alone = [engines["left"].logits(window) for window in windows]
    assert alone[0].shape == (1, 2, 32, 48)
    assert alone[0].dtype == np.float32
    assert not np.allclose(alone[0], engines["right"].logits(windows[0]))
    with ThreadPoolExecutor(4) as pool:
        together = list(pool.map(engines["left"].logits, windows))
    for one, other in zip(alone, together, strict=True):
        np.testing.assert_array_equal(one, other)


def test_weights_of_another_run_are_refused() -> None:
    description = read_description(META, "x")
    check_belongs(description, origin="s3://b/k", split="f" * 64, classes=2)
    with pytest.raises(WorkFailed, match=r"s3://b/k has 2 classes, but the dataset has 19"):
        check_belongs(description, origin="s3://b/k", split="f" * 64, classes=19)
    with pytest.raises(WorkFailed, match=r"s3://b/k was trained on split f{12}, but this run has split 0{12}"):
        check_belongs(description, origin="s3://b/k", split="0" * 64, classes=2)


@pytest.mark.parametrize(
    ("change", "names"),
    [
        ({"crop": "wide"}, "crop"),
        ({"crop": "[0, 5]"}, "crop"),
        ({"stride": '["a", 5]'}, "stride"),
        ({"mean": "[0.5]"}, "mean"),
        ({"std": "[0, 1, 1]"}, "std"),
        ({"num_classes": "3"}, "num_classes"),
        ({"classes": "[{}]"}, "classes"),
    ],
)
def test_malformed_metadata_is_named(change: dict[str, str], names: str) -> None:
    with pytest.raises(UserError, match=rf"best\.safetensors: metadata '{names}'"):
        read_description({**META, **change}, "best.safetensors")


def test_another_digest_is_refused(weights: Path) -> None:
    check_digest(weights, hashlib.sha256(weights.read_bytes()).hexdigest().upper())
    with pytest.raises(UserError, match="not 00"):
        check_digest(weights, "0" * 64)
    with pytest.raises(UserError, match="cannot be opened"):
        check_digest(weights.with_name("none"), "0" * 64)


def test_a_truncated_file_is_refused(weights: Path, tmp_path: Path) -> None:
    broken = tmp_path / "broken.safetensors"
    broken.write_bytes(weights.read_bytes()[:5000])
    with pytest.raises(UserError, match=r"broken\.safetensors"):
        open_checkpoint(broken)


def test_an_unknown_structure_is_said_of_the_file(tmp_path: Path) -> None:
    from components.networks.weights import pack

    path = tmp_path / "odd.safetensors"
    branches = {branch: {"a": np.zeros(1, np.float32)} for branch in ("left", "right")}
    path.write_bytes(pack(branches, META | {"structure": "unet"}))
    with pytest.raises(UserError, match=r"odd\.safetensors: unknown network structure 'unet'"):
        open_checkpoint(path, engine="paddle")
