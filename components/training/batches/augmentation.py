"""Augmentation of training images: scale, crop, flip, colour changes, normalisation; and CutMix masks.

Scale, crop and flip are one affine warp that computes only the pixels of the crop; `colors.py` changes colours.
"""

from dataclasses import dataclass
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from components.recipes.model import Augmentation
from components.training.batches.colors import draw_colors, recolored

# Loader threads process images in parallel; threads inside OpenCV would only compete with them.
cv2.setNumThreads(1)

Image = NDArray[np.uint8]


@dataclass(frozen=True)
class Crop:
    """A warped image (h, w, 3) and label (h, w), and the rest of the augmentation that was drawn for them."""

    pixels: Image
    target: Image
    colors: NDArray[np.float32] | None
    """The colour matrix (3, 4) to apply; None leaves the colours as they are."""
    rows: NDArray[np.bool_]
    columns: NDArray[np.bool_]
    """The rows (h,) and columns (w,) inside the image; the others are padding."""

    def normalised(self, settings: Augmentation) -> NDArray[np.float32]:
        """Return the augmented and normalised image, (3, h, w)."""
        changed = self.pixels if self.colors is None else recolored(self.pixels, self.colors)
        planes = normalise(changed, settings)
        # Padding is the mean colour: 0 after normalisation.
        if not (self.rows.all() and self.columns.all()):
            planes *= np.outer(self.rows, self.columns).astype(np.float32)
        return planes


def augment(
    image: Image, label: Image | None, settings: Augmentation, ignore_index: int, rng: np.random.Generator
) -> tuple[NDArray[np.float32], NDArray[np.uint8]]:
    """Augment an image (H, W, 3) and its label (H, W): return (3, h, w) normalised float32 and (h, w) uint8.

    Without a label, the second array is 0 inside the image and `ignore_index` in the padding.
    """
    crop = draw_crop(image, label, settings, ignore_index, rng)
    return crop.normalised(settings), crop.target


def draw_crop(
    image: Image, label: Image | None, settings: Augmentation, ignore_index: int, rng: np.random.Generator
) -> Crop:
    """Warp an image (H, W, 3) and its label (H, W), as `augment` does, and draw the change of its colours."""
    warp = _draw_warp(image.shape[0], image.shape[1], settings, rng)
    height, width = settings.crop
    bilinear = cv2.INTER_LINEAR | cv2.WARP_INVERSE_MAP
    pixels = cv2.warpAffine(image, warp, (width, height), flags=bilinear, borderMode=cv2.BORDER_REPLICATE)
    if label is None:
        target = _void(warp, image.shape, (height, width), ignore_index)
    else:
        target = _warped_label(label, warp, settings, ignore_index)
    return Crop(pixels, target, draw_colors(pixels, settings, rng), *_inside(warp, image.shape, (height, width)))


def warp_label(label: Image, settings: Augmentation, ignore_index: int, rng: np.random.Generator) -> NDArray[np.uint8]:
    """Warp a label (H, W) to (h, w) as `augment` does with the same generator state, without its image."""
    return _warped_label(label, _draw_warp(label.shape[0], label.shape[1], settings, rng), settings, ignore_index)


def _warped_label(
    label: Image, warp: NDArray[np.float64], settings: Augmentation, ignore_index: int
) -> NDArray[np.uint8]:
    height, width = settings.crop
    flags = cv2.INTER_NEAREST | cv2.WARP_INVERSE_MAP
    warped = cv2.warpAffine(
        label, warp, (width, height), flags=flags, borderMode=cv2.BORDER_CONSTANT, borderValue=ignore_index
    )
    return np.asarray(warped, dtype=np.uint8)


def normalise(pixels: NDArray[Any], settings: Augmentation) -> NDArray[np.float32]:
    """Normalise (H, W, 3) values from 0 to 255 by the recipe's mean and standard deviation; return (3, H, W)."""
    mean, scale = normalisation(settings)
    planes = np.empty((3, *pixels.shape[:2]), dtype=np.float32)
    # One plane at a time: numpy's loops over a last axis of length three are mostly overhead.
    for channel, plane in enumerate(cv2.split(pixels)):
        np.subtract(plane, mean[channel], out=planes[channel], dtype=np.float32)
        planes[channel] *= scale[channel]
    return planes


def normalisation(settings: Augmentation) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    """Return the mean to subtract from values from 0 to 255, and the factor for the difference; (3,) each."""
    mean, std = (np.array(values, dtype=np.float32) for values in (settings.mean, settings.std))
    return mean * 255, np.asarray(1 / (std * 255), dtype=np.float32)


def _draw_warp(height: int, width: int, settings: Augmentation, rng: np.random.Generator) -> NDArray[np.float64]:
    """Draw a random warp: the matrix from crop to image coordinates, with pixel centres at integers."""
    low, high = settings.scales
    if settings.scale_step > 0:
        choices = round((high - low) / settings.scale_step) + 1
        scale = low + settings.scale_step * int(rng.integers(choices))
    else:
        scale = float(rng.uniform(low, high))
    crop_height, crop_width = settings.crop
    top = int(rng.integers(max(0, round(height * scale) - crop_height) + 1))
    left = int(rng.integers(max(0, round(width * scale) - crop_width) + 1))
    flip = bool(rng.random() < settings.flip)
    step = 1 / scale
    row = (top + 0.5) * step - 0.5
    column = (left + 0.5) * step - 0.5
    if flip:
        return np.array([[-step, 0.0, column + step * (crop_width - 1)], [0.0, step, row]])
    return np.array([[step, 0.0, column], [0.0, step, row]])


def _inside(
    warp: NDArray[np.float64], shape: tuple[int, ...], crop: tuple[int, int]
) -> tuple[NDArray[np.bool_], NDArray[np.bool_]]:
    """Return which rows (h,) and columns (w,) of the crop lie inside the image; the others are padding."""
    rows = warp[1, 1] * np.arange(crop[0]) + warp[1, 2]
    columns = warp[0, 0] * np.arange(crop[1]) + warp[0, 2]
    return (rows > -0.5) & (rows < shape[0] - 0.5), (columns > -0.5) & (columns < shape[1] - 0.5)


def _void(
    warp: NDArray[np.float64], shape: tuple[int, ...], crop: tuple[int, int], ignore_index: int
) -> NDArray[np.uint8]:
    """Return (h, w) that is 0 inside the image and `ignore_index` in the padding, rounded like a label's warp.

    The warp transforms rows and columns independently, so warping one row and one column is enough.
    """
    flags = cv2.INTER_NEAREST | cv2.WARP_INVERSE_MAP
    vertical = np.array([[1.0, 0.0, 0.0], [0.0, warp[1, 1], warp[1, 2]]])
    horizontal = np.array([[warp[0, 0], 0.0, warp[0, 2]], [0.0, 1.0, 0.0]])
    rows, columns = (
        cv2.warpAffine(np.zeros(size, np.uint8), matrix, to, flags=flags, borderValue=ignore_index)
        for size, matrix, to in (((shape[0], 1), vertical, (1, crop[0])), ((1, shape[1]), horizontal, (crop[1], 1)))
    )
    return np.asarray(rows | columns, dtype=np.uint8)


def cutmix_mask(
    rng: np.random.Generator, size: tuple[int, int], boxes: int, area: tuple[float, float]
) -> NDArray[np.bool_]:
    """Draw a CutMix mask of `size` (H, W), True where the second image is pasted.

    Each box covers a random share of the image, drawn from the range `area` and divided by the number of boxes, with
    random aspect ratio and position. Overlapping boxes invert each other, as in the reference implementation.
    """
    mask = np.zeros(size, dtype=bool)
    if boxes == 0:
        return mask
    shares = rng.uniform(area[0], area[1], boxes)
    # Height is share ** u and width share ** (1 - u), so that their product is the share.
    heights = np.exp(rng.uniform(0.0, 1.0, boxes) * np.log(np.maximum(shares, 1e-12)))
    fractions = np.stack([heights, shares / heights], axis=1) * np.sqrt(1.0 / boxes)
    sizes = np.round(fractions * np.array(size))
    corners = np.round((np.array(size) - sizes) * rng.uniform(0.0, 1.0, sizes.shape))
    for (top, left), (height, width) in zip(corners.astype(int), sizes.astype(int), strict=True):
        box = mask[top : top + height, left : left + width]
        np.logical_not(box, out=box)
    return mask
