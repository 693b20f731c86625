"""`cps predict` as it is typed: its options, its exit codes and what it says."""

from pathlib import Path

import numpy as np
import pytest
from click.testing import CliRunner
from PIL import Image

from components.errors import UserError
from pipeline.cli.main import cli
from tests.components.networks.small_weights import write_weights


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """weights.safetensors, and photos/ with a photograph and a file that is none."""
    write_weights(tmp_path / "weights.safetensors")
    (tmp_path / "photos").mkdir()
    pixels = np.random.default_rng(0).integers(0, 256, (40, 70, 3)).astype(np.uint8)
    Image.fromarray(pixels).save(tmp_path / "photos" / "street.png")
    return tmp_path


def test_sizes_are_width_and_height(folder: Path) -> None:
    options = ["--weights", str(folder / "weights.safetensors"), "-o", str(folder / "out")]
    sizes = ["--crop", "64", "32", "--stride", "32", "16", "--triptychs", "--confidence", "--scale", "0.5", "--flip"]
    done = CliRunner().invoke(cli, ["predict", str(folder / "photos"), *options, *sizes])
    assert (done.exit_code, done.stdout) == (0, f"{folder / 'out' / 'gallery.html'}\n")
    gallery = (folder / "out" / "gallery.html").read_text()
    assert "64 × 32 pixels (width × height)" in gallery
    assert "32 × 16 pixels" in gallery
    assert "0.5, and mirrored" in gallery
    made = {path.relative_to(folder / "out").as_posix() for path in (folder / "out").rglob("street.*")}
    kinds = {"masks/street.png", "color/street.png", "overlays/street.jpg", "triptychs/street.jpg"}
    assert made == {*kinds, "confidence/street.png"}


def test_the_engine_is_the_users_choice_and_said(folder: Path) -> None:
    options = ["--weights", str(folder / "weights.safetensors"), "-o", str(folder / "out")]
    for engine, said in (("auto", "onnxruntime"), ("openvino", "openvino")):
        done = CliRunner().invoke(cli, ["predict", str(folder / "photos"), *options, "--engine", engine])
        assert done.exit_code == 0
        # The second finds the first one's masks, since exact engines give the same, and makes the page anew.
        assert f">{said}<" in (folder / "out" / "gallery.html").read_text()
    with pytest.raises(UserError, match="unknown engine 'tensorrt': choose one of auto, paddle, onnxruntime"):
        CliRunner().invoke(
            cli, ["predict", str(folder / "photos"), *options, "--engine", "tensorrt"], catch_exceptions=False
        )


def test_refused_images_end_with_1_and_a_list(folder: Path) -> None:
    (folder / "photos" / "cut.jpg").write_bytes(b"\xff\xd8\xff")
    (folder / "photos" / "empty.png").write_bytes(b"")
    options = ["--weights", str(folder / "weights.safetensors"), "-o", str(folder / "out")]
    done = CliRunner().invoke(cli, ["predict", str(folder / "photos"), *options])
    assert done.exit_code == 1
    last = done.stderr.splitlines()[-3:]
    assert "2 of 3 images could not be read" in last[0]
    assert "cut.jpg: " in last[1]
    assert "empty.png: the file is empty" in last[2]
    assert (folder / "out" / "masks" / "street.png").exists()
