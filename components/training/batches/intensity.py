"""Random intensity operations: the strong augmentation of AugSeg (Zhao et al., CVPR 2023, "Augmentation Matters").

k operations, k uniform in 1 … most, are drawn with replacement and applied one after the other, x' = o_k(… o_1(x)). The
strength of each is uniform over a continuous range. In contrast to RandAugment, nothing is searched for or scheduled,
and no operation moves a pixel. The list and the ranges are those of the authors' code.
"""

import math
from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageEnhance, ImageFilter, ImageOps

from components.recipes.model import Augmentation
from components.training.batches.augmentation import normalise

Picture = Image.Image
Operation = Callable[[Picture, np.random.Generator], Picture]

ENHANCE = (0.05, 0.95)
"""Range of the factors of contrast, brightness, colour and sharpness; 1 would change nothing."""
BLUR_SIGMA = (0.1, 2.0)
HUE = 0.5
"""Hues are rotated by at most this share of the colour circle in either direction."""


def apply_operations(
    image: NDArray[np.float32], settings: Augmentation, chance: float, rng: np.random.Generator, *, most: int
) -> NDArray[np.float32]:
    """Apply 1 to `most` operations to a normalised image (3, H, W) with probability `chance`.

    The operations are defined on 8-bit colours, to which the image is rounded first.
    """
    if rng.random() >= chance:
        return image
    mean, std = (np.array(values, dtype=np.float32) * 255 for values in (settings.mean, settings.std))
    colors = np.rint(image.transpose(1, 2, 0) * std + mean).clip(0, 255).astype(np.uint8)
    picture = Image.fromarray(colors)
    for number in rng.integers(len(OPERATIONS), size=rng.integers(1, most + 1)):
        picture = OPERATIONS[number](picture, rng)
    return normalise(np.asarray(picture), settings)


def _identity(picture: Picture, _rng: np.random.Generator) -> Picture:
    return picture


def _autocontrast(picture: Picture, _rng: np.random.Generator) -> Picture:
    return ImageOps.autocontrast(picture)


def _equalize(picture: Picture, _rng: np.random.Generator) -> Picture:
    return ImageOps.equalize(picture)


def _blur(picture: Picture, rng: np.random.Generator) -> Picture:
    return picture.filter(ImageFilter.GaussianBlur(rng.uniform(*BLUR_SIGMA)))


def _contrast(picture: Picture, rng: np.random.Generator) -> Picture:
    return ImageEnhance.Contrast(picture).enhance(rng.uniform(*ENHANCE))


def _brightness(picture: Picture, rng: np.random.Generator) -> Picture:
    return ImageEnhance.Brightness(picture).enhance(rng.uniform(*ENHANCE))


def _color(picture: Picture, rng: np.random.Generator) -> Picture:
    return ImageEnhance.Color(picture).enhance(rng.uniform(*ENHANCE))


def _sharpness(picture: Picture, rng: np.random.Generator) -> Picture:
    return ImageEnhance.Sharpness(picture).enhance(rng.uniform(*ENHANCE))


def _posterize(picture: Picture, rng: np.random.Generator) -> Picture:
    """Keep 4 to 7 bits of each channel."""
    return ImageOps.posterize(picture, 8 - max(1, math.ceil(rng.uniform(0, 4))))


def _solarize(picture: Picture, rng: np.random.Generator) -> Picture:
    """Invert all values at or above a random threshold between 1 and 255."""
    return ImageOps.solarize(picture, 256 - max(1, math.ceil(rng.uniform(0, 255))))


def _hue(picture: Picture, rng: np.random.Generator) -> Picture:
    hue, saturation, value = picture.convert("HSV").split()
    turned = (np.asarray(hue).astype(np.int64) + round(255 * rng.uniform(-HUE, HUE))) % 256
    return Image.merge("HSV", (Image.fromarray(turned.astype(np.uint8)), saturation, value)).convert("RGB")


OPERATIONS: tuple[Operation, ...] = (
    _identity,
    _autocontrast,
    _equalize,
    _blur,
    _contrast,
    _brightness,
    _color,
    _sharpness,
    _posterize,
    _solarize,
    _hue,
)
