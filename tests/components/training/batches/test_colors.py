"""Colours against the same changes made one after the other in numpy, and what strong augmentation leaves alone."""

import colorsys

import cv2
import numpy as np
import pytest

from components.recipes.model import Augmentation
from components.training.batches import colors
from components.training.batches.augmentation import normalise
from components.training.batches.colors import augment_strongly, color_matrix, draw_colors, recolored

SETTINGS = Augmentation(crop=(24, 32))


def picture() -> np.ndarray:
    """(24, 32, 3) of middling colours, which no change drives out of 0 to 255."""
    return np.random.default_rng(0).uniform(90, 140, (24, 32, 3)).astype(np.float32)


def luma(pixels: np.ndarray) -> np.ndarray:
    return pixels @ np.array([0.299, 0.587, 0.114])


def one_after_the_other(pixels, brightness, contrast, saturation):
    pixels = pixels.astype(np.float64) * brightness
    pixels = luma(pixels).mean() + contrast * (pixels - luma(pixels).mean())
    return luma(pixels)[..., None] + saturation * (pixels - luma(pixels)[..., None])


def apply(matrix, pixels):
    return pixels @ matrix[:, :3].T + matrix[:, 3]


@pytest.mark.parametrize("factors", [(1.2, 0.8, 1.3), (0.7, 1.1, 0.0), (1.0, 1.0, 1.0)])
def test_one_matrix_does_what_three_changes_do(factors):
    pixels = picture()
    names = ("brightness", "contrast", "saturation")
    matrix = color_matrix(**dict(zip(names, factors, strict=True)), grey=luma(pixels).mean())
    np.testing.assert_allclose(apply(matrix, pixels), one_after_the_other(pixels, *factors), atol=1e-3)


@pytest.mark.parametrize("hue", [0.1, -0.25, 0.5])
def test_a_hue_is_turned_and_its_luma_kept(hue):
    pixels = picture()
    turned = apply(color_matrix(hue=hue), pixels)
    np.testing.assert_allclose(luma(turned), luma(pixels), atol=1e-3)
    np.testing.assert_allclose(apply(color_matrix(hue=-hue), turned), pixels, atol=1e-3)
    assert np.abs(turned - pixels).mean() > 1


def test_a_hue_goes_the_way_round_that_hsv_goes():
    """HSV divides the circle a little differently: the same third, not the same degree."""
    red = np.array([[200.0, 60.0, 60.0]])
    [turned] = apply(color_matrix(hue=1 / 3), red) / 255
    assert colorsys.rgb_to_hsv(*turned)[0] == pytest.approx(1 / 3, abs=0.1)


def test_hue_is_drawn_only_where_it_is_asked_for():
    pixels = picture()

    def changed(hue: float) -> np.ndarray:
        settings = SETTINGS.model_copy(update={"distort": 1.0, "hue": hue})
        matrix = draw_colors(pixels, settings, np.random.default_rng(3))
        assert matrix is not None
        return recolored(pixels, matrix)

    plain, turned = changed(0.0), changed(0.2)
    np.testing.assert_allclose(luma(plain), luma(turned), atol=1e-2)
    assert np.abs(plain - turned).mean() > 0.5


def test_strong_augmentation_equals_numpy_and_opencv_of_the_same_draws(monkeypatch):
    monkeypatch.setattr(colors, "JITTER_HUE", 0.0)
    image = normalise(picture(), SETTINGS)
    for seed in range(20):
        found = augment_strongly(image, SETTINGS, 1.0, np.random.default_rng(seed))
        rng, expected = np.random.default_rng(seed), picture()
        rng.random()
        factors = [1.0, 1.0, 1.0]
        if rng.random() < 0.8:
            factors = [rng.uniform(0.5, 1.5) for _ in range(3)]
            rng.uniform(0, 0)
        if rng.random() < 0.2:
            factors[2] = 0.0
        expected = np.clip(one_after_the_other(expected, *factors), 0, 255).astype(np.float32)
        if rng.random() < 0.5:
            expected = cv2.GaussianBlur(expected, (0, 0), rng.uniform(0.1, 2.0))
        np.testing.assert_allclose(found, normalise(expected, SETTINGS), atol=2e-3)


def test_chances_are_those_of_the_papers():
    image = normalise(picture(), SETTINGS)
    made = [augment_strongly(image, SETTINGS, 1.0, np.random.default_rng(seed)) for seed in range(400)]
    pixels = [one * np.array(SETTINGS.std)[:, None, None] + np.array(SETTINGS.mean)[:, None, None] for one in made]
    grey = np.mean([np.ptp(one, axis=0).max() < 1e-4 for one in pixels])
    same = np.mean([np.abs(one - image).max() < 1e-4 for one in made])
    assert grey == pytest.approx(0.2, abs=0.06)
    assert same == pytest.approx(0.2 * 0.8 * 0.5, abs=0.04)


def test_chance_decides_and_zero_leaves_the_image():
    image = normalise(picture(), SETTINGS)
    assert augment_strongly(image, SETTINGS, 0.0, np.random.default_rng(0)) is image
    touched = [augment_strongly(image, SETTINGS, 0.5, np.random.default_rng(seed)) is not image for seed in range(200)]
    assert np.mean(touched) == pytest.approx(0.5, abs=0.1)
