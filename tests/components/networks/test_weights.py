"""Weights survive writing and reading, and files that do not fit are refused in one line."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import paddle
import pytest
from safetensors.numpy import save_file

from components.contract import Class
from components.errors import UserError
from components.inference.checkpoint import read_description
from components.networks.pretrained_weights.loading import load_backbone
from components.networks.structures import build
from components.networks.weights import (
    checkpoint_meta,
    extract_branch,
    pack,
    read_file,
    read_networks,
    state_arrays,
    whole_pair,
)
from tests.disks import permissions_count
from tests.odd_files import ODD, spoil

FACTS: dict[str, Any] = {
    "structure": "small-fpn",
    "classes": (Class(name="road", color=(1, 2, 3)), Class(name="sky", color=(4, 5, 6))),
    "mean": (0.5, 0.5, 0.5),
    "std": (0.2, 0.2, 0.2),
    "crop": (32, 32),
    "stride": (16, 16),
    "run_key": "demo-1-8-s0-0123456789ab",
    "split": "f" * 64,
    "dataset": "d" * 64,
    "epoch": 3,
    "step": 120,
}
META = checkpoint_meta(**FACTS)


@pytest.fixture
def pair():
    return {"left": build("small-fpn", 2, 1), "right": build("small-fpn", 2, 2)}


@pytest.fixture
def checkpoint(tmp_path, pair) -> Path:
    path = tmp_path / "epoch-0003.safetensors"
    path.write_bytes(pack({name: state_arrays(network) for name, network in pair.items()}, META))
    return path


def test_a_checkpoint_gives_back_both_networks(checkpoint, pair):
    read = read_networks(checkpoint)
    images = paddle.randn([1, 3, 32, 48])
    assert read.meta["epoch"] == "3"
    assert json.loads(read.meta["classes"])[1]["name"] == "sky"
    for name, network in pair.items():
        network.eval()
        np.testing.assert_array_equal(read.layers[name](images).numpy(), network(images).numpy())


def test_a_checkpoint_holds_each_tensor_once(checkpoint, pair):
    arrays, _ = read_file(checkpoint)
    assert len(arrays) == 2 * len(pair["left"].state_dict())


def test_one_branch_becomes_a_file_of_its_own(checkpoint, pair, tmp_path):
    path = tmp_path / "best.safetensors"
    path.write_bytes(extract_branch(checkpoint, "right"))
    read = read_networks(path)
    assert list(read.layers) == ["only"]
    assert read.meta["variant"] == "right"
    images = paddle.randn([1, 3, 32, 48])
    pair["right"].eval()
    np.testing.assert_array_equal(read.layers["only"](images).numpy(), pair["right"](images).numpy())


def test_two_structures_in_one_checkpoint_and_each_by_itself(tmp_path):
    pair = {"left": build("small-fpn", 2, 1), "right": build("mobilenetv2-fpn", 2, 2)}
    both = tmp_path / "epoch-0003.safetensors"
    meta = {**META, "right_structure": "mobilenetv2-fpn"}
    both.write_bytes(pack({name: state_arrays(network) for name, network in pair.items()}, meta))
    files = {"both": both, **{name: tmp_path / f"{name}.safetensors" for name in (*pair, "ensemble")}}
    for name in pair:
        files[name].write_bytes(extract_branch(both, name))
    files["ensemble"].write_bytes(whole_pair(both, "ensemble"))
    images = paddle.randn([1, 3, 32, 64])
    for network in pair.values():
        network.eval()
    expected = {name: network(images).numpy() for name, network in pair.items()}
    for name in ("both", "ensemble"):
        for branch, network in read_networks(files[name]).layers.items():
            np.testing.assert_array_equal(network(images).numpy(), expected[branch])
        assert read_description(read_file(files[name])[1], name).structure == "small-fpn and mobilenetv2-fpn"
    for name, structure in (("left", "small-fpn"), ("right", "mobilenetv2-fpn")):
        read = read_networks(files[name])
        assert read.meta["structure"] == structure
        assert "right_structure" not in read.meta
        np.testing.assert_array_equal(read.layers["only"](images).numpy(), expected[name])


def test_one_structure_is_said_once():
    same = checkpoint_meta(**{**FACTS, "right_structure": "small-fpn"})
    assert same == META
    assert checkpoint_meta(**{**FACTS, "right_structure": "mobilenetv2-fpn"})["right_structure"] == "mobilenetv2-fpn"


def test_truncated_and_foreign_files_are_refused(checkpoint, tmp_path):
    checkpoint.write_bytes(checkpoint.read_bytes()[:1000])
    with pytest.raises(UserError, match=r"epoch-0003.safetensors cannot be read"):
        read_networks(checkpoint)
    foreign = tmp_path / "foreign.safetensors"
    save_file({"a": np.zeros(3, np.float32)}, foreign)
    with pytest.raises(UserError, match="are not a checkpoint of this project"):
        read_networks(foreign)
    with pytest.raises(UserError, match="do not exist"):
        read_networks(tmp_path / "nowhere.safetensors")


@pytest.mark.parametrize(("name", "kind"), [("w.onnx", r"\.onnx"), ("w.PTH", r"\.pth")])
def test_weights_of_another_format_are_refused_with_the_way_to_get_ours(name, kind, tmp_path):
    (tmp_path / name).write_bytes(b"\x08\x0apaddle" * 100)
    with pytest.raises(
        UserError, match=rf"{name} cannot be read: it is {kind}, not .safetensors; `cps weights pull RUN -o "
    ):
        read_file(tmp_path / name)


@pytest.mark.parametrize("kind", sorted(ODD))
def test_what_is_no_weights_file_is_refused_at_once_with_the_reason(kind, tmp_path):
    said = spoil(tmp_path / "w.safetensors", kind)
    with pytest.raises(UserError) as error:
        read_file(tmp_path / "w.safetensors")
    assert str(error.value).startswith(f"weights {tmp_path}/w.safetensors cannot be read: ")
    assert said in str(error.value)


def test_a_folder_and_a_file_without_permission_are_refused(checkpoint, tmp_path):
    with pytest.raises(UserError, match="cannot be read: it is a folder, not a file"):
        read_file(tmp_path)
    checkpoint.chmod(0)
    with permissions_count(), pytest.raises(UserError, match="cannot be read: Permission denied"):
        read_file(checkpoint)


def test_weights_of_another_class_count_are_refused(checkpoint, tmp_path):
    arrays, meta = read_file(checkpoint)
    path = tmp_path / "other.safetensors"
    save_file(arrays, path, {**meta, "num_classes": "5"})
    with pytest.raises(
        UserError, match=r"left.decoder.classify.weight' has shape \(2, 48, 1, 1\), but the network needs \(5"
    ):
        read_networks(path)


@pytest.mark.camvid
def test_imagenet_mobilenet_fits(mobilenet_weights):
    network = build("mobilenetv2-fpn", 11)
    match = load_backbone(network, mobilenet_weights)
    assert (match.filled, match.wanted) == (255, 255)
    with np.load(mobilenet_weights) as arrays:
        np.testing.assert_array_equal(network.features[0][0].weight.numpy(), arrays[arrays.files[0]])


def test_backbone_by_name_with_torch_statistics(tmp_path):
    source, target = build("mobilenetv2-fpn", 3, 1), build("mobilenetv2-fpn", 5, 2)
    arrays = {
        name.replace("._mean", ".running_mean").replace("._variance", ".running_var"): array
        for name, array in reversed(state_arrays(source).items())
        if name.startswith("features")
    }
    save_file(arrays, tmp_path / "backbone.safetensors")
    assert load_backbone(target, tmp_path / "backbone.safetensors").unfilled == ()
    np.testing.assert_array_equal(
        target.features[3].conv[0][0].weight.numpy(), source.features[3].conv[0][0].weight.numpy()
    )


def test_backbone_of_another_network_is_refused(tmp_path):
    np.savez(tmp_path / "other.npz", a=np.zeros((3, 3), np.float32))
    with pytest.raises(UserError, match="matches 0 of 255 tensors of MobileNetV2FPN's backbone"):
        load_backbone(build("mobilenetv2-fpn", 3), tmp_path / "other.npz")
    with pytest.raises(UserError, match="SmallFPN has no backbone"):
        load_backbone(build("small-fpn", 3), tmp_path / "other.npz")


def test_a_match_under_nine_tenths_is_an_error_and_names_the_first_misfit(tmp_path):
    network = build("mobilenetv2-fpn", 3, 1)
    arrays = {name: array for name, array in state_arrays(network).items() if name.startswith("features")}
    names = list(arrays)

    def load(unfit: int) -> int:
        wrong = {name: np.zeros((7, 7), np.float32) for name in names[:unfit]}
        save_file({**arrays, **wrong}, tmp_path / "a.safetensors")
        return load_backbone(build("mobilenetv2-fpn", 3, 2), tmp_path / "a.safetensors").filled

    assert load(25) == 230  # 90.2 % of 255
    with pytest.raises(
        UserError, match=r"matches 229 of 255 .* \('features.0.0.weight' has shape \(7, 7\), but the network"
    ):
        load(26)


def test_backbone_by_order_passes_over_single_numbers(tmp_path):
    source, target = build("mobilenetv2-fpn", 3, 1), build("mobilenetv2-fpn", 3, 2)
    arrays = {}
    for number, (name, array) in enumerate(state_arrays(source).items()):
        if name.startswith("features"):
            arrays[f"{number}"] = array
            arrays[f"{number}.num_batches_tracked"] = np.array(7)
    np.savez(tmp_path / "a.npz", allow_pickle=False, **arrays)
    assert load_backbone(target, tmp_path / "a.npz").filled == 255
    np.testing.assert_array_equal(target.features[0][0].weight.numpy(), source.features[0][0].weight.numpy())


def test_pickled_weights_are_refused(tmp_path):
    np.savez(tmp_path / "evil.npz", a=np.array([{}], dtype=object))
    with pytest.raises(UserError, match="cannot be read"):
        load_backbone(build("mobilenetv2-fpn", 3), tmp_path / "evil.npz")
