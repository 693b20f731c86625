"""Weights in other formats, each read by what it is made for, and compared with our own prediction."""

import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import onnx
import onnxruntime
import paddle
import pytest

from components.contract import Class
from components.errors import UserError
from components.inference.checkpoint import open_checkpoint
from components.inference.conversion import convert
from components.inference.paddle_engine import Floats
from components.networks.pretrained_weights.loading import load_backbone
from components.networks.structures import build
from components.networks.weights import BRANCHES, checkpoint_meta, extract_branch, pack, state_arrays, whole_pair

CROP = (48, 64)


def weights(folder: Path, left: str, right: str = "", crop: tuple[int, int] = CROP, longest_side: int = 0) -> Path:
    meta = checkpoint_meta(
        structure=left,
        right_structure=right,
        classes=(Class(name="road", color=(128, 64, 128)), Class(name="sky", color=(70, 130, 180))),
        mean=(0.4, 0.5, 0.6),
        std=(0.2, 0.21, 0.22),
        crop=crop,
        stride=(crop[0], crop[1] // 2),
        longest_side=longest_side,
        run_key="demo-1-8-s0-0123456789ab",
        split="f" * 64,
        dataset="d" * 64,
        epoch=3,
        step=30,
    )
    structures = dict(zip(BRANCHES, (left, right or left), strict=True))
    states = {
        name: state_arrays(build(structure, 2, seed)) for seed, (name, structure) in enumerate(structures.items())
    }
    path = folder / "checkpoint.safetensors"
    path.write_bytes(pack(states, meta))
    return path


def pair(folder: Path, left: str, right: str = "", longest_side: int = 0) -> Path:
    """Both networks, as they are stored where their average won."""
    path = folder / "best-pair.safetensors"
    path.write_bytes(whole_pair(weights(folder, left, right, longest_side=longest_side), "ensemble"))
    return path


def single(folder: Path, structure: str, crop: tuple[int, int] = CROP) -> Path:
    path = folder / "best.safetensors"
    path.write_bytes(extract_branch(weights(folder, structure, crop=crop), "right"))
    return path


def windows(size: tuple[int, int] = CROP) -> Floats:
    return np.random.default_rng(0).normal(size=(2, 3, *size)).astype(np.float32)


def onnx_logits(path: Path, size: tuple[int, int] = CROP) -> dict[str, Floats]:
    session = onnxruntime.InferenceSession(path)
    names = [output.name for output in session.get_outputs()]
    return dict(zip(names, session.run(names, {"windows": windows(size)}), strict=True))


@pytest.mark.parametrize(("left", "right"), [("small-fpn", ""), ("small-fpn", "mobilenetv2-fpn")])
def test_a_pair_as_onnx_gives_both_networks_logits(left: str, right: str, tmp_path: Path) -> None:
    source = pair(tmp_path, left, right)
    convert(source, "onnx", tmp_path / "new" / "best.onnx")
    onnx.checker.check_model(onnx.load(tmp_path / "new" / "best.onnx"), full_check=True)
    found = onnx_logits(tmp_path / "new" / "best.onnx")
    ours = open_checkpoint(source, engine="paddle").engines
    assert list(found) == list(ours) == ["left", "right"]
    for name, engine in ours.items():
        np.testing.assert_allclose(found[name], engine.logits(windows()), atol=1e-4, rtol=0)
    assert np.abs(found["left"] - found["right"]).max() > 0.01


def test_an_onnx_file_says_how_it_is_used(tmp_path: Path) -> None:
    source = single(tmp_path, "small-fpn")
    convert(source, "onnx", tmp_path / "best.onnx")
    session = onnxruntime.InferenceSession(tmp_path / "best.onnx")
    (given,) = session.get_inputs()
    assert (given.name, given.shape[1:], given.type) == ("windows", [3, *CROP], "tensor(float)")
    said = session.get_modelmeta().custom_metadata_map
    for name, value in {
        "classes": ["road", "sky"],
        "palette": [[128, 64, 128], [70, 130, 180]],
        "mean": [0.4, 0.5, 0.6],
        "std": [0.2, 0.21, 0.22],
        "crop": [48, 64],
        "stride": [48, 32],
    }.items():
        assert json.loads(said[name]) == value
    assert (said["run_key"], said["epoch"], said["variant"]) == ("demo-1-8-s0-0123456789ab", "3", "right")
    assert "minus mean, divided by std" in said["use"]
    assert list(onnx_logits(tmp_path / "best.onnx")) == ["only"]


def test_an_onnx_file_has_no_unused_node(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    """onnxruntime prints a warning for each."""
    convert(pair(tmp_path, "efficientnet-lite0-fpn"), "onnx", tmp_path / "best.onnx")
    nodes = onnx.load(tmp_path / "best.onnx").graph.node
    used = {name for node in nodes for name in node.input} | {"left", "right"}
    assert [node.op_type for node in nodes if not used.intersection(node.output)] == []
    capfd.readouterr()
    onnxruntime.InferenceSession(tmp_path / "best.onnx")
    assert capfd.readouterr().err == ""


@pytest.mark.slow
def test_the_papers_network_as_onnx_and_as_paddleseg_names_it(tmp_path: Path) -> None:
    from paddleseg.models import DeepLabV3P

    from components.networks.deeplab import ResNet

    source = single(tmp_path, "deeplabv3p-resnet50", crop=(64, 64))
    convert(source, "onnx", tmp_path / "best.onnx")
    expected = open_checkpoint(source, engine="paddle").engines["only"].logits(windows((64, 64)))
    assert_near(onnx_logits(tmp_path / "best.onnx", (64, 64))["only"], expected)
    convert(source, "pdparams", tmp_path / "best.pdparams")
    theirs = DeepLabV3P(2, ResNet(50), (0, 3), (1, 6, 12, 18), 256, align_corners=True)
    assert_loads(theirs, tmp_path / "best.pdparams", expected, (64, 64))


def test_paddleseg_loads_its_own_network(tmp_path: Path) -> None:
    from paddleseg.models import MobileSeg
    from paddleseg.models.backbones import MobileNetV3_small_x1_0

    source = single(tmp_path, "paddleseg:MobileSeg")
    convert(source, "pdparams", tmp_path / "best.pdparams")
    expected = open_checkpoint(source, engine="paddle").engines["only"].logits(windows())
    assert_loads(MobileSeg(2, MobileNetV3_small_x1_0()), tmp_path / "best.pdparams", expected, CROP)


def assert_loads(network: paddle.nn.Layer, path: Path, expected: Floats, size: tuple[int, int]) -> None:
    """By paddleseg's own loader, every tensor, and with the same logits."""
    from paddleseg.utils import load_entire_model

    assert paddle.load(str(path)).keys() == network.state_dict().keys()
    network.eval()
    images = paddle.to_tensor(windows(size))
    with paddle.no_grad():
        before = network(images)[0].numpy()
        load_entire_model(network, str(path))
        assert_near(network(images)[0].numpy(), expected)
    assert np.abs(before - expected).max() > 0.1 * np.abs(expected).max()  # so that it shows what was loaded


def assert_near(found: Floats, expected: Floats) -> None:
    """To 1e-4 of the largest logit: untrained networks have logits of any size."""
    np.testing.assert_allclose(found, expected, atol=1e-4 * np.abs(expected).max(), rtol=0)


def test_our_own_networks_keep_their_names(tmp_path: Path) -> None:
    source = pair(tmp_path, "small-fpn")
    convert(source, "pdparams", tmp_path / "left.pdparams", branch="left")
    network = build("small-fpn", 2, 5)
    assert network.set_state_dict(paddle.load(str(tmp_path / "left.pdparams"))) == ([], [])
    expected = open_checkpoint(source, engine="paddle").engines["left"].logits(windows())
    network.eval()
    np.testing.assert_array_equal(network(paddle.to_tensor(windows())).numpy(), expected)


def test_npz_holds_the_arrays_and_what_is_said_of_them(tmp_path: Path) -> None:
    source = pair(tmp_path, "mobilenetv2-fpn")
    convert(source, "npz", tmp_path / "pair.npz")
    convert(source, "npz", tmp_path / "left.npz", branch="left")
    with np.load(tmp_path / "pair.npz") as both, np.load(tmp_path / "left.npz") as left:
        assert json.loads(str(both["metadata"]))["variant"] == "ensemble"
        assert {name.partition(".")[0] for name in both.files} == {"metadata", "left", "right"}
        for name in set(left.files) - {"metadata"}:
            np.testing.assert_array_equal(left[name], both[f"left.{name}"])
    match = load_backbone(build("mobilenetv2-fpn", 2), tmp_path / "left.npz")
    assert match.filled == match.wanted


def test_what_has_no_place_for_two_networks_or_is_not_there_is_refused(tmp_path: Path) -> None:
    both, one = pair(tmp_path, "small-fpn"), single(tmp_path, "small-fpn")
    for source, form, branch, message in (
        (both, "pdparams", "", "holds one: add --branch left or right"),
        (one, "npz", "left", "holds only the best network, right: remove --branch"),
    ):
        with pytest.raises(UserError, match=message):
            convert(source, form, tmp_path / "out", branch=branch)
    assert not (tmp_path / "out").exists()
    (tmp_path / "folder.npz").mkdir()
    with pytest.raises(UserError, match=r"folder\.npz cannot be written: Is a directory"):
        convert(one, "npz", tmp_path / "folder.npz")
    assert not list(tmp_path.glob(".*"))


def test_the_process_that_converts_imports_no_paddle(tmp_path: Path) -> None:
    source = pair(tmp_path, "small-fpn")
    program = (
        "import sys; from pathlib import Path; from components.inference.conversion import convert\n"
        "path = Path(sys.argv[1])\n"
        "for form in ('onnx', 'npz', 'pdparams'):\n"
        "    convert(path, form, path.with_name(f'p.{form}'), branch='left')\n"
        "print('paddle' in sys.modules)"
    )
    said = subprocess.run([sys.executable, "-c", program, str(source)], capture_output=True, text=True, check=True)
    assert said.stdout == "False\n"
    assert onnx_logits(tmp_path / "p.onnx").keys() == {"left"}
