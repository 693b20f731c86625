"""Colours of classes over photographs."""

import itertools

import numpy as np

from components.pages.display import APART, LIGHTNESS, display_colors, to_lab
from components.pages.palette import class_colors


def test_readable_colours_stay_and_dark_ones_become_lighter() -> None:
    shown = display_colors([(70, 130, 180), (0, 0, 142), (255, 255, 255)])
    assert np.abs(np.subtract(shown[0], (70, 130, 180))).max() < 30
    assert shown[1][2] > 200, "dark blue becomes a lighter blue"
    assert all(LIGHTNESS[0] - 0.01 <= to_lab(color)[0] <= LIGHTNESS[1] + 0.01 for color in shown)


def test_classes_are_told_apart() -> None:
    twins = [(128, 64, 128), (130, 66, 126), (127, 64, 130), (0, 0, 0), (10, 10, 10)]
    labs = [to_lab(color) for color in display_colors(twins)]
    assert min(float(np.linalg.norm(one - other)) for one, other in itertools.combinations(labs[:3], 2)) > 0.8 * APART


def test_no_two_of_many_classes_share_a_colour() -> None:
    shown = display_colors([*class_colors([str(number) for number in range(60)]), *[(9, 9, 9)] * 60])
    assert len(set(shown)) == 120
    assert all(0 <= part <= 255 for color in shown for part in color)
    assert display_colors([]) == []
