"""Colour augmentation: weak for every training image, strong for the mixed images of the cross losses.

Brightness, contrast, saturation and hue are combined in one matrix, so each image is read and written once.
"""

import math
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from components.recipes.model import Augmentation

Floats = NDArray[np.float32]
Image = NDArray[np.uint8]

LUMA = np.array([0.299, 0.587, 0.114], dtype=np.float32)
# RGB to luma and two chroma axes (NTSC's YIQ): a hue shift is a rotation around the grey axis and keeps the luma.
_YIQ = np.array([[0.299, 0.587, 0.114], [0.595716, -0.274453, -0.321263], [0.211456, -0.522591, 0.311135]])
_RGB = np.linalg.inv(_YIQ)

# The strong augmentation of ST++ (Yang et al., CVPR 2022) and UniMatch (CVPR 2023): colour jitter (0.5, 0.5, 0.5, 0.25)
# for 80 % of the images, greyscale for 20 %, blur for 50 %.
JITTER, JITTER_HUE, JITTER_CHANCE = 0.5, 0.25, 0.8
GREY_CHANCE = 0.2
BLUR_CHANCE, BLUR_SIGMA = 0.5, (0.1, 2.0)


def color_matrix(
    *, brightness: float = 1, contrast: float = 1, saturation: float = 1, hue: float = 0, grey: float = 0
) -> Floats:
    """Return the matrix (3, 4) that maps (R, G, B, 1) to new RGB values, both from 0 to 255.

    A factor of 1 changes nothing, and saturation 0 gives greyscale. `hue` is a fraction of a full rotation. Contrast
    scales values around `grey`, the image's mean luma.
    """
    rotation = np.eye(3)
    if hue:
        cos, sin = math.cos(2 * math.pi * hue), math.sin(2 * math.pi * hue)
        rotation = _RGB @ np.array([[1, 0, 0], [0, cos, sin], [0, -sin, cos]]) @ _YIQ
    matrix = np.empty((3, 4), dtype=np.float32)
    matrix[:, :3] = brightness * contrast * (saturation * rotation + (1 - saturation) * LUMA[None, :])
    matrix[:, 3] = grey * brightness * (1 - contrast)
    return matrix


def draw_colors(pixels: Image, settings: Augmentation, rng: np.random.Generator) -> Floats | None:
    """Draw a change of brightness, contrast, saturation and hue of (H, W, 3), each with probability `distort`.

    Returns the colour matrix (3, 4), or None if nothing changes.
    """
    brightness, contrast, saturation = (
        1 + rng.uniform(-spread, spread) if rng.random() < settings.distort else 1.0
        for spread in (settings.brightness, settings.contrast, settings.saturation)
    )
    hue = rng.uniform(-settings.hue, settings.hue) if settings.hue and rng.random() < settings.distort else 0.0
    if brightness == contrast == saturation == 1.0 and hue == 0:
        return None
    return color_matrix(
        brightness=brightness,
        contrast=contrast,
        saturation=saturation,
        hue=hue,
        grey=float(_mean_color(pixels) @ LUMA),
    )


def recolored(pixels: Image, matrix: Floats) -> Floats:
    """Apply a colour matrix (3, 4) to (H, W, 3); values stay between 0 and 255."""
    changed = np.asarray(cv2.transform(pixels.astype(np.float32), matrix), dtype=np.float32)
    return np.clip(changed, 0, 255, out=changed)


def _mean_color(pixels: Image) -> Floats:
    """Return the mean colour (3,) of (H, W, 3), bit-identical to the sequential float32 sum that earlier runs used."""
    count = pixels.shape[0] * pixels.shape[1]
    if count * 255 <= 1 << 24:  # such sums are exact in any order
        sums = np.array(cv2.sumElems(pixels)[:3], dtype=np.float32)
    else:
        sums = np.array([np.cumsum(plane, dtype=np.float32)[-1] for plane in cv2.split(pixels)], dtype=np.float32)
    return np.asarray(sums / np.float32(count), dtype=np.float32)


def augment_strongly(image: Floats, settings: Augmentation, chance: float, rng: np.random.Generator) -> Floats:
    """Strongly augment a normalised image (3, H, W) with probability `chance`; otherwise return it unchanged.

    Colour jitter, greyscale and blur each have their own probability. Pixels keep their positions, so labels still fit.
    """
    if rng.random() >= chance:
        return image
    mean, std = (np.array(values, dtype=np.float32)[:, None] * 255 for values in (settings.mean, settings.std))
    planes = image.reshape(3, -1) * std + mean
    planes = _jittered(planes, rng)
    if rng.random() < BLUR_CHANCE:
        sigma = rng.uniform(*BLUR_SIGMA)
        planes = np.stack([cv2.GaussianBlur(plane.reshape(image.shape[1:]), (0, 0), sigma) for plane in planes])
    result: Floats = ((planes.reshape(3, -1) - mean) / std).reshape(image.shape)
    return result


def _jittered(planes: Floats, rng: np.random.Generator) -> Floats:
    """Apply colour jitter and greyscale to (3, N) values from 0 to 255, each with its own probability."""
    changes: dict[str, Any] = {}
    if rng.random() < JITTER_CHANCE:
        for name in ("brightness", "contrast", "saturation"):
            changes[name] = rng.uniform(1 - JITTER, 1 + JITTER)
        changes["hue"] = rng.uniform(-JITTER_HUE, JITTER_HUE)
    if rng.random() < GREY_CHANCE:
        changes["saturation"] = 0.0
    if not changes:
        return planes
    matrix = color_matrix(**changes, grey=float(LUMA @ planes.mean(axis=1)))
    moved: Floats = matrix[:, :3] @ planes
    moved += matrix[:, 3:]
    return np.clip(moved, 0, 255, out=moved)
