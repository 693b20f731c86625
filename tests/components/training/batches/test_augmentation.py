"""Image and label go through the same geometry; padding is void; colours change the image alone."""

import numpy as np
import pytest

from components.recipes.model import Augmentation
from components.training.batches.augmentation import augment, normalise

PLAIN = {"flip": 0.0, "brightness": 0.0, "contrast": 0.0, "saturation": 0.0, "mean": (0, 0, 0), "std": (1, 1, 1)}
VOID = 255


def picture(height: int, width: int) -> tuple[np.ndarray, np.ndarray]:
    """An image whose red channel is its label, so that the two can be compared after a warp."""
    label = np.random.default_rng(1).integers(0, 4, (height // 8, width // 8)).repeat(8, 0).repeat(8, 1)
    image = np.stack([label * 60, label * 0, label * 0], axis=2)
    return image.astype(np.uint8), label.astype(np.uint8)


@pytest.mark.parametrize("flip", [0.0, 1.0])
@pytest.mark.parametrize("scales", [(1.0, 1.0), (0.5, 0.5), (2.0, 2.0), (0.7, 1.4)])
def test_label_follows_the_image(flip, scales):
    image, label = picture(64, 80)
    settings = Augmentation(crop=(32, 48), scales=scales, **{**PLAIN, "flip": flip})
    for seed in range(10):
        pixels, target = augment(image, label, settings, VOID, np.random.default_rng(seed))
        known = target != VOID
        agreement = np.abs(pixels[0] * 255 / 60 - target)[known] < 0.5
        assert agreement.mean() > 0.8, "away from edges, where the image is interpolated, both show the same class"
        assert pixels.shape == (3, 32, 48)
        assert pixels.dtype == np.float32


def test_whole_scale_crop_is_a_plain_slice():
    image, label = picture(64, 80)
    settings = Augmentation(crop=(32, 48), scales=(1.0, 1.0), **PLAIN)
    pixels, target = augment(image, label, settings, VOID, np.random.default_rng(4))
    red = np.round(pixels[0] * 255).astype(np.uint8)
    np.testing.assert_array_equal(red, target * 60)
    slices = np.lib.stride_tricks.sliding_window_view(label, (32, 48))
    assert (slices == target).all(axis=(2, 3)).any()


def test_what_lies_outside_is_void_and_mean_colour():
    image, label = np.full((20, 30, 3), 200, np.uint8), np.zeros((20, 30), np.uint8)
    settings = Augmentation(crop=(40, 40), scales=(1.0, 1.0), flip=0.0, distort=0.0)
    pixels, target = augment(image, label, settings, VOID, np.random.default_rng(0))
    assert (target == VOID).sum() == 40 * 40 - 20 * 30
    assert (pixels[:, target == VOID] == 0).all()
    _, unlabeled = augment(image, None, settings, VOID, np.random.default_rng(0))
    np.testing.assert_array_equal(unlabeled == VOID, target == VOID)


def test_colours_change_within_bounds_and_only_when_asked():
    image, label = picture(64, 80)
    settings = Augmentation(crop=(64, 80), scales=(1.0, 1.0), flip=0.0, distort=1.0)
    changed, target = augment(image, label, settings, VOID, np.random.default_rng(0))
    assert np.abs(changed - normalise(image, settings)).max() > 0.1
    np.testing.assert_array_equal(target, label)
    low, high = normalise(np.zeros((1, 1, 3)), settings), normalise(np.full((1, 1, 3), 255), settings)
    assert (changed >= low - 1e-5).all()
    assert (changed <= high + 1e-5).all()


def test_the_same_generator_gives_the_same_picture():
    image, label = picture(64, 80)
    settings = Augmentation(crop=(32, 48))
    one, two = (augment(image, label, settings, VOID, np.random.default_rng(9)) for _ in range(2))
    np.testing.assert_array_equal(one[0], two[0])
    np.testing.assert_array_equal(one[1], two[1])
