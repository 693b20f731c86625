"""The colours of classes that declare none: distinct for every kind of colour vision, and unlike the marks of pages."""

from itertools import combinations

import numpy as np
import pytest
from numpy.typing import NDArray

from components.pages.palette import COLORS, NEUTRAL, RGB, class_colors, is_background
from components.pages.pictures import VOID, WRONG

# Machado, Oliveira and Fernandes (2009), severity 1, for linear RGB.
VISION = {
    "normal": np.eye(3),
    "protanopia": [
        [0.152286, 1.052583, -0.204868], [0.114503, 0.786281, 0.099216], [-0.003882, -0.048116, 1.051998],
    ],
    "deuteranopia": [
        [0.367322, 0.860646, -0.227968], [0.280085, 0.672501, 0.047413], [-0.011820, 0.042940, 0.968881],
    ],
    "tritanopia": [
        [1.255528, -0.076749, -0.178779], [-0.078411, 0.930809, 0.147602], [0.004733, 0.691367, 0.303900],
    ],
}  # fmt: skip
TO_XYZ = np.array(
    [[0.4124564, 0.3575761, 0.1804375], [0.2126729, 0.7151522, 0.072175], [0.0193339, 0.119192, 0.9503041]]
)


def lab(color: RGB, vision: str) -> NDArray[np.float64]:
    """Return CIELAB (D65) of a colour as seen with a kind of vision."""
    value = np.array(color) / 255
    linear = np.where(value <= 0.04045, value / 12.92, ((value + 0.055) / 1.055) ** 2.4)
    seen = np.clip(np.array(VISION[vision]) @ linear, 0, 1)
    x, y, z = (
        np.cbrt(each) if each > 0.008856 else 7.787 * each + 16 / 116
        for each in TO_XYZ @ seen / np.array([0.95047, 1, 1.08883])
    )
    return np.array([116 * y - 16, 500 * (x - y), 200 * (y - z)])


@pytest.mark.parametrize("vision", VISION)
@pytest.mark.parametrize(("number", "apart"), [(8, 16), (len(COLORS), 10)])
def test_colours_differ_for_every_vision(vision: str, number: int, apart: float) -> None:
    shown = [VOID, NEUTRAL, WRONG, (255, 255, 255), *COLORS[:number]]
    distance = {
        pair: float(np.linalg.norm(lab(pair[0], vision) - lab(pair[1], vision))) for pair in combinations(shown, 2)
    }
    closest = min(distance, key=distance.__getitem__)
    assert distance[closest] >= apart, closest


@pytest.mark.parametrize("names", [[str(number) for number in range(255)], ["background", *map(str, range(254))]])
def test_every_class_has_a_colour_of_its_own(names: list[str]) -> None:
    found = class_colors(names)
    assert len(set(found)) == 255
    assert not {VOID, WRONG, (255, 255, 255)} & set(found)


def test_declared_colours_stay_and_are_not_repeated() -> None:
    near = (COLORS[0][0] + 3, *COLORS[0][1:])
    assert class_colors(["a", "b", "c", "d"], [None, near, (0, 0, 0)]) == [COLORS[1], near, (0, 0, 0), COLORS[2]]


@pytest.mark.parametrize(
    ("name", "is_one"), [("background", True), ("_Background_", True), ("BG", True), ("bag", False), ("ground", False)]
)
def test_a_background_is_grey(name: str, *, is_one: bool) -> None:
    assert is_background(name) is is_one
    assert class_colors(["road", name]) == [COLORS[0], NEUTRAL if is_one else COLORS[1]]


def test_two_backgrounds_differ() -> None:
    assert class_colors(["background", "bg"]) == [NEUTRAL, COLORS[0]]
