"""Masks with smoothed edges or JPEG's noise are refused; thin and small classes are not."""

import io
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from PIL import Image, ImageDraw

from components.dataset.class_ids import scan_labels
from components.dataset.classes import UNDECLARED
from components.dataset.layouts import Layout
from components.dataset.manifest import Lists, Sample
from components.dataset.propose.contents import read_contents
from components.dataset.propose.stray import check_stray
from components.errors import UserError

PAINT = np.array([[0, 0, 0], [220, 20, 60], [0, 0, 142], [240, 230, 10], [10, 200, 90]], np.uint8)


def disc(side: int, *shades: int) -> Image.Image:
    """Return discs of different shades on black."""
    picture = Image.new("L", (side, side))
    draw = ImageDraw.Draw(picture)
    for number, shade in enumerate(shades):
        left, top = side * (1 + 3 * number) // 12, side * (2 + number) // 9
        draw.ellipse((left, top, left + side // 3, top + side // 3), fill=shade)
    return picture


def saved_as_jpeg(picture: Image.Image, quality: int = 90) -> Image.Image:
    data = io.BytesIO()
    picture.save(data, "JPEG", quality=quality)
    return Image.open(data)


def colored(picture: Image.Image) -> Image.Image:
    return Image.fromarray(PAINT[np.asarray(picture)])


def check(folder: Path, picture: Image.Image) -> int:
    """Return the number of values or colours in a label that is not refused."""
    picture.save(folder / "0.png")
    lists = Lists(classes=(), train=(Sample(image="0.jpg", label="0.png"),), val=())
    layout = Layout(folder, "photos", "folders", lists, UNDECLARED)
    contents = read_contents(layout, scan_labels(layout))
    check_stray(layout, contents)
    return len(contents.pixels)


@pytest.mark.parametrize(
    "draw",
    [
        lambda: disc(384, 255).resize((96, 96), Image.Resampling.BILINEAR),
        lambda: disc(96, 255).resize((192, 192), Image.Resampling.BICUBIC),
        lambda: disc(384, 40, 80, 200).resize((96, 96), Image.Resampling.LANCZOS),
        lambda: colored(disc(384, 1, 2, 3)).resize((96, 96), Image.Resampling.BILINEAR),
        lambda: saved_as_jpeg(disc(96, 255)),
        lambda: saved_as_jpeg(disc(96, 80, 160, 255), quality=70),
    ],
)
def test_smoothed_and_noisy_masks_are_refused(tmp_path: Path, draw: Callable[[], Image.Image]) -> None:
    with pytest.raises(UserError, match="the others are smoothed edges or noise; export the labels as PNG without"):
        check(tmp_path, draw())


def thin_lines() -> Image.Image:
    """Return lines one pixel wide, of classes whose values lie between those of their surroundings."""
    picture = disc(96, 10, 20)
    draw = ImageDraw.Draw(picture)
    for shade in range(1, 9):
        draw.line((shade * 9, 5, shade * 11, 90), fill=shade)
    return picture


@pytest.mark.parametrize(
    "draw",
    [
        lambda: disc(96, 1, 2, 3, 4),
        lambda: disc(96, 1, 2, 3, 4).resize((31, 47), Image.Resampling.NEAREST),
        lambda: colored(disc(96, 1, 2, 3, 4)),
        lambda: Image.fromarray(np.repeat(np.arange(120, dtype=np.uint8), 4)[None].repeat(20, axis=0)),
        lambda: Image.fromarray(np.kron(np.arange(64, dtype=np.uint8).reshape(8, 8), np.ones((3, 3), np.uint8))),
        thin_lines,
    ],
)
def test_classes_are_not_refused(tmp_path: Path, draw: Callable[[], Image.Image]) -> None:
    assert check(tmp_path, draw()) > 2


@pytest.mark.camvid
def test_camvid_is_not_refused(camvid: Path, tmp_path: Path) -> None:
    for path in sorted((camvid / "labels" / "train").iterdir())[::40]:
        assert check(tmp_path, Image.open(path)) > 5
