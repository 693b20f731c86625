"""Comparing two networks window by window gives the same result as over the whole image."""

from dataclasses import dataclass

import numpy as np
import pytest

from components.contract import Class
from components.inference.checkpoint import Description
from components.labeling.disagreement import GRID, compare, measure

CLASSES = tuple(Class(name=str(number), color=(number, 0, 0)) for number in range(3))
SIZE = (37, 50)


@dataclass
class Colors:
    """A network whose logits are the pixel colours times a factor."""

    factor: float
    name = "colors"
    exact = True

    def logits(self, windows: np.ndarray) -> np.ndarray:
        return (windows * np.float32(self.factor)).astype(np.float32)


def describe(crop: tuple[int, int], stride: tuple[int, int]) -> Description:
    return Description("", CLASSES, (0.0,) * 3, (1.0,) * 3, crop, stride, "", "", 1, 1)


@pytest.fixture
def image() -> np.ndarray:
    return np.random.default_rng(3).integers(0, 256, (*SIZE, 3), dtype=np.uint8)


@pytest.mark.parametrize(("crop", "stride"), [((64, 64), (64, 64)), ((16, 20), (16, 10)), ((37, 50), (37, 50))])
def test_disagreement_and_entropy_are_those_of_the_whole_image(image, crop, stride):
    found = compare([Colors(4.0), Colors(-2.0)], image, describe(crop, stride))
    colors = image.astype(np.float64) / 255
    both = []
    for factor in (4.0, -2.0):
        powers = np.exp(factor * colors)
        both.append(powers / powers.sum(axis=2, keepdims=True))
    mean = (both[0] + both[1]) / 2
    np.testing.assert_array_equal(found.left, both[0].argmax(axis=2))
    np.testing.assert_array_equal(found.right, both[1].argmax(axis=2))
    entropy = -(mean * np.log(mean)).sum(axis=2) / np.log(3)
    np.testing.assert_allclose(found.uncertainty, entropy, atol=1e-5)
    cell = mean[: round(37 / 4), : round(50 / 6)].mean(axis=(0, 1))
    np.testing.assert_allclose(found.layout[0, 0], cell, atol=1e-5)
    taken = measure(found, image)
    assert taken.disagreement == pytest.approx((both[0].argmax(2) != both[1].argmax(2)).mean())
    assert taken.uncertainty == pytest.approx(entropy.mean(), abs=1e-5)
    assert taken.appearance.shape == (GRID[0] * GRID[1] * (3 + 3),)


def test_networks_that_agree_do_not_differ(image):
    found = compare([Colors(1.0), Colors(5.0)], image, describe((32, 32), (16, 16)))
    assert not found.differs.any()
    assert found.uncertainty.max() <= 1.0


def test_an_image_smaller_than_the_grid():
    tiny = np.full((2, 3, 3), 200, np.uint8)
    taken = measure(compare([Colors(1.0), Colors(2.0)], tiny, describe((16, 16), (16, 16))), tiny)
    assert np.isfinite(taken.appearance).all()
