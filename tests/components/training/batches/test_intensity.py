"""Each intensity operation against numpy, and the number of operations that are drawn."""

import colorsys

import numpy as np
import pytest
from PIL import Image
from scipy import ndimage

from components.recipes.model import Augmentation
from components.training.batches import intensity
from components.training.batches.augmentation import normalise
from components.training.batches.intensity import OPERATIONS, apply_operations

SETTINGS = Augmentation(crop=(24, 32))


class Fixed:
    """A generator whose uniform draws lie at a fixed share of their range."""

    def __init__(self, share: float) -> None:
        self._share = share

    def uniform(self, low: float, high: float) -> float:
        return low + self._share * (high - low)


def picture() -> np.ndarray:
    return np.random.default_rng(0).integers(20, 230, (24, 32, 3), dtype=np.uint8)


def changed(name, share=0.5):
    rng = Fixed(share)
    return np.asarray(getattr(intensity, name)(Image.fromarray(picture()), rng)).astype(np.float64)


def blend(start, factor):
    return start + factor * (picture().astype(np.float64) - start)


def grey():
    return np.rint(picture() @ np.array([0.299, 0.587, 0.114]))[..., None]


def test_contrast_brightness_and_colour_blend_with_grey_black_and_the_grey_picture():
    for share in (0.0, 0.3, 1.0):
        factor = 0.05 + share * 0.9
        np.testing.assert_allclose(changed("_contrast", share), blend(np.rint(grey().mean()), factor), atol=1.5)
        np.testing.assert_allclose(changed("_brightness", share), blend(0, factor), atol=1)
        np.testing.assert_allclose(changed("_color", share), blend(grey(), factor), atol=1.5)


def test_sharpness_blends_with_a_smoothed_picture():
    kernel = np.ones((3, 3)) / 13
    kernel[1, 1] = 5 / 13
    smooth = np.stack([ndimage.convolve(plane.astype(float), kernel) for plane in picture().transpose(2, 0, 1)], axis=2)
    inside = np.s_[1:-1, 1:-1]
    np.testing.assert_allclose(changed("_sharpness")[inside], blend(smooth, 0.5)[inside], atol=1.5)


def test_blur_is_gaussian():
    expected = [ndimage.gaussian_filter(plane.astype(float), 1.05) for plane in picture().transpose(2, 0, 1)]
    inside = np.s_[4:-4, 4:-4]
    difference = changed("_blur")[inside] - np.stack(expected, axis=2)[inside]
    assert np.abs(difference).mean() < 2  # Pillow approximates it by box filters


def test_autocontrast_stretches_each_channel_to_the_whole_range():
    flat = picture().reshape(-1, 3).astype(np.float64)
    expected = (picture() - flat.min(axis=0)) / np.ptp(flat, axis=0) * 255
    np.testing.assert_allclose(changed("_autocontrast"), expected, atol=1)


def test_equalize_flattens_the_histogram():
    before = np.random.default_rng(0).normal(120, 20, (240, 320, 3)).clip(0, 255).astype(np.uint8)
    after = np.asarray(intensity._equalize(Image.fromarray(before), np.random.default_rng(0))).astype(np.float64)
    for one, other in zip(before.transpose(2, 0, 1), after.transpose(2, 0, 1), strict=True):
        order = np.argsort(one, axis=None, kind="stable")
        assert (np.diff(other.ravel()[order]) >= 0).all()
        assert np.abs(np.sort(other, axis=None) - np.linspace(0, 255, other.size)).mean() < 4


@pytest.mark.parametrize(("share", "bits"), [(0.0, 7), (0.3, 6), (0.6, 5), (1.0, 4)])
def test_posterize_keeps_the_upper_bits(share, bits):
    np.testing.assert_array_equal(changed("_posterize", share), picture() >> (8 - bits) << (8 - bits))


@pytest.mark.parametrize(("share", "threshold"), [(0.0, 255), (0.5, 128), (1.0, 1)])
def test_solarize_inverts_bright_values(share, threshold):
    expected = np.where(picture() >= threshold, 255 - picture().astype(int), picture())
    np.testing.assert_array_equal(changed("_solarize", share), expected)


@pytest.mark.parametrize("share", [0.0, 0.2, 0.8])
def test_a_hue_is_rotated_and_saturation_and_value_are_kept(share):
    turn = -0.5 + share
    before = np.array([colorsys.rgb_to_hsv(*color) for color in picture().reshape(-1, 3) / 255])
    expected = np.array([colorsys.hsv_to_rgb((hue + turn) % 1, *rest) for hue, *rest in before]) * 255
    assert np.abs(changed("_hue", share).reshape(-1, 3) - expected).mean() < 2.5  # 8 bits of hue


def test_from_one_to_the_most_operations_are_drawn_uniformly(monkeypatch):
    calls: list[int] = []
    counted = tuple(lambda picture, _rng, number=number: calls.append(number) or picture for number in range(11))
    assert len(OPERATIONS) == 11
    monkeypatch.setattr(intensity, "OPERATIONS", counted)
    image, lengths, drawn = normalise(picture(), SETTINGS), [], []
    for seed in range(600):
        calls.clear()
        apply_operations(image, SETTINGS, 1.0, np.random.default_rng(seed), most=3)
        lengths.append(len(calls))
        drawn += calls
    np.testing.assert_allclose(np.bincount(lengths, minlength=4) / 600, [0, 1 / 3, 1 / 3, 1 / 3], atol=0.06)
    np.testing.assert_allclose(np.bincount(drawn) / len(drawn), np.full(11, 1 / 11), atol=0.03)


def test_a_share_of_the_images_stays_and_the_rest_keeps_its_shape():
    image = normalise(picture(), SETTINGS)
    results = [apply_operations(image, SETTINGS, 0.7, np.random.default_rng(seed), most=3) for seed in range(100)]
    assert 15 < sum(result is image for result in results) < 45
    assert {(result.shape, result.dtype) for result in results} == {(image.shape, image.dtype)}
    assert len({result.tobytes() for result in results}) > 50


def test_the_identity_changes_nothing_but_rounding(monkeypatch):
    monkeypatch.setattr(intensity, "OPERATIONS", (intensity._identity,))
    image = normalise(picture(), SETTINGS)
    found = apply_operations(image, SETTINGS, 1.0, np.random.default_rng(0), most=1)
    np.testing.assert_allclose(found, image, atol=1e-5)
