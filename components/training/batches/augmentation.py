"""A training image: scaled, cropped, flipped, its colours changed, normalised.

Geometry is one affine warp that computes the pixels of the crop and no others; `colors.py` does the rest.
"""

from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from components.recipes.model import Augmentation
from components.training.batches.colors import change_colors

# Loader threads work on different images at once; threads inside one warp would only compete with them.
cv2.setNumThreads(1)

Image = NDArray[np.uint8]


def augment(
    image: Image, label: Image | None, settings: Augmentation, ignore_index: int, rng: np.random.Generator
) -> tuple[NDArray[np.float32], NDArray[np.uint8]]:
    """One image (H, W, 3) and its label (H, W) -> ((3, h, w) normalised float32, (h, w) uint8).

    Without a label the second is 0 where there is image and `ignore_index` where there is padding.
    """
    warp = _draw_warp(image.shape[0], image.shape[1], settings, rng)
    height, width = settings.crop
    bilinear = cv2.INTER_LINEAR | cv2.WARP_INVERSE_MAP
    pixels = cv2.warpAffine(image, warp, (width, height), flags=bilinear, borderMode=cv2.BORDER_REPLICATE)
    if label is None:
        target = _void(warp, image.shape, (height, width), ignore_index)
    else:
        target = _warped_label(label, warp, settings, ignore_index)
    planes = normalise(change_colors(pixels, settings, rng), settings)
    # The padding is the mean colour, which is 0 once normalised. Labels mark their own void pixels besides.
    rows, columns = _inside(warp, image.shape, (height, width))
    if not (rows.all() and columns.all()):
        planes *= np.outer(rows, columns).astype(np.float32)
    return planes, target


def warp_label(label: Image, settings: Augmentation, ignore_index: int, rng: np.random.Generator) -> NDArray[np.uint8]:
    """A label (H, W) as `augment` gives it with the same generator, (h, w), without its image."""
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
    """(H, W, 3) of 0 to 255 -> (3, H, W) with the recipe's mean and standard deviation removed."""
    mean = np.array(settings.mean, dtype=np.float32) * 255
    scale = 1 / (np.array(settings.std, dtype=np.float32) * 255)
    planes = np.empty((3, *pixels.shape[:2]), dtype=np.float32)
    # Plane by plane: numpy's loops over a last axis of three cost more than what they do.
    for channel, plane in enumerate(cv2.split(pixels)):
        np.subtract(plane, mean[channel], out=planes[channel], dtype=np.float32)
        planes[channel] *= scale[channel]
    return planes


def _draw_warp(height: int, width: int, settings: Augmentation, rng: np.random.Generator) -> NDArray[np.float64]:
    """The matrix from crop coordinates back to image coordinates (pixel centres at integers)."""
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
    """(h,) and (w,): which rows and which columns of the crop show the image; the others are padding."""
    rows = warp[1, 1] * np.arange(crop[0]) + warp[1, 2]
    columns = warp[0, 0] * np.arange(crop[1]) + warp[0, 2]
    return (rows > -0.5) & (rows < shape[0] - 0.5), (columns > -0.5) & (columns < shape[1] - 0.5)


def _void(
    warp: NDArray[np.float64], shape: tuple[int, ...], crop: tuple[int, int], ignore_index: int
) -> NDArray[np.uint8]:
    """(h, w): 0, and `ignore_index` where the warp of a label would find none.

    The warp moves rows and columns apart from each other, so one of each tells of all; rounded as a label's is.
    """
    flags = cv2.INTER_NEAREST | cv2.WARP_INVERSE_MAP
    down = np.array([[1.0, 0.0, 0.0], [0.0, warp[1, 1], warp[1, 2]]])
    across = np.array([[warp[0, 0], 0.0, warp[0, 2]], [0.0, 1.0, 0.0]])
    rows, columns = (
        cv2.warpAffine(np.zeros(size, np.uint8), matrix, to, flags=flags, borderValue=ignore_index)
        for size, matrix, to in (((shape[0], 1), down, (1, crop[0])), ((1, shape[1]), across, (crop[1], 1)))
    )
    return np.asarray(rows | columns, dtype=np.uint8)


def cutmix_mask(
    rng: np.random.Generator, size: tuple[int, int], boxes: int, area: tuple[float, float]
) -> NDArray[np.bool_]:
    """A mask of `size` (H, W), True where the second image is pasted.

    Each of the boxes covers a share drawn from `area`, divided by their number, at a random aspect and place inside the
    image. Where boxes overlap, the later inverts the earlier, as the reference does.
    """
    mask = np.zeros(size, dtype=bool)
    if boxes == 0:
        return mask
    shares = rng.uniform(area[0], area[1], boxes)
    # A box's height is shares ** u and its width shares ** (1 - u): their product is the share.
    heights = np.exp(rng.uniform(0.0, 1.0, boxes) * np.log(np.maximum(shares, 1e-12)))
    sides = np.stack([heights, shares / heights], axis=1) * np.sqrt(1.0 / boxes)
    lengths = np.round(sides * np.array(size))
    corners = np.round((np.array(size) - lengths) * rng.uniform(0.0, 1.0, lengths.shape))
    for (top, left), (height, width) in zip(corners.astype(int), lengths.astype(int), strict=True):
        box = mask[top : top + height, left : left + width]
        np.logical_not(box, out=box)
    return mask
