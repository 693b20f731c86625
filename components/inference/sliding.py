"""The sliding window, as the reference implementation defines it (PaddleSeg, core/infer.py).

Windows of `crop` go over the image by `stride`; the last one of a row or column is shifted inside the image;
logits are added up and divided by how many windows saw a pixel. An image smaller than the crop is padded to
it at the bottom and the right with zeros, which is the mean colour after normalisation, and the padding is
cut off again.
"""

from collections.abc import Iterator, Sequence
from itertools import islice

import numpy as np
from numpy.typing import NDArray

from components.inference.engine import Engine, Floats
from components.networks.processor import usable_cores

Size = tuple[int, int]
"""Height, width in pixels."""

MEMORY_FOR_IMAGES = 4 << 30
"""Bytes that the logits of all images in flight may take together."""


def window_starts(length: int, crop: int, stride: int) -> list[int]:
    """Where windows begin along one side of `length` pixels. Together they cover it.

    Raises:
        ValueError: the stride is larger than the crop, so that pixels would be left out, or one is not
        positive.
    """
    if not 0 < stride <= crop:
        raise ValueError(f"stride {stride} must be positive and at most the crop, {crop}")
    if length <= crop:
        return [0]
    steps = -(-(length - crop) // stride)
    return [min(step * stride, length - crop) for step in range(steps + 1)]


def normalize(image: NDArray[np.uint8], mean: Sequence[float], std: Sequence[float]) -> Floats:
    """uint8 RGB (H, W, 3) to float32 (3, H, W): (value / 255 - mean) / std."""
    scale = (1 / (255 * np.asarray(std, np.float64))).astype(np.float32)
    shift = (np.asarray(mean, np.float64) / np.asarray(std, np.float64)).astype(np.float32)
    planes = np.empty((3, *image.shape[:2]), np.float32)
    for channel in range(3):
        np.multiply(image[..., channel], scale[channel], out=planes[channel])
        planes[channel] -= shift[channel]
    return planes


def sliding_logits(
    engines: Sequence[Engine], image: Floats, *, crop: Size, stride: Size, batch: int = 4
) -> list[Floats]:
    """Run every engine over the same windows of one image.

    Args:
        image: normalised RGB, (3, H, W) float32.
        crop, stride: height, width in pixels.
        batch: how many windows go through an engine at once; it does not change the result.

    Returns:
        For each engine its logits, (C, H, W) float32.
    """
    height, width = image.shape[1:]
    padded = _pad(image, crop)
    corners = [
        (top, left)
        for top in window_starts(height, crop[0], stride[0])
        for left in window_starts(width, crop[1], stride[1])
    ]
    if len(corners) == 1:
        return [engine(padded[None])[0, :, :height, :width] for engine in engines]
    sums: list[Floats] = []
    for group in _groups(corners, batch):
        windows = np.stack([padded[:, top : top + crop[0], left : left + crop[1]] for top, left in group])
        for number, engine in enumerate(engines):
            logits = engine(windows)
            if number == len(sums):
                sums.append(np.zeros((logits.shape[1], *padded.shape[1:]), np.float32))
            for (top, left), window in zip(group, logits, strict=True):
                sums[number][:, top : top + crop[0], left : left + crop[1]] += window
    visits = _visits((height, width), crop, stride)
    for total in sums:
        total /= _pad(visits[None], crop, fill=1)
    return [total[:, :height, :width] for total in sums]


def images_in_flight(pixels: int, classes: int) -> int:
    """How many images of a size to run at once, each in a thread: as many as cores, as long as their logits fit."""
    each = pixels * classes * 4 * 8  # float32 logits of two networks, probabilities and copies on the way
    return max(1, min(usable_cores(), MEMORY_FOR_IMAGES // max(1, each)))


def _visits(size: Size, crop: Size, stride: Size) -> Floats:
    """How many windows see each pixel: the product of how many see its row and its column."""
    rows, columns = (np.zeros(length, np.float32) for length in size)
    for line, length, side, step in zip((rows, columns), size, crop, stride, strict=True):
        for start in window_starts(length, side, step):
            line[start : start + side] += 1
    return np.outer(rows, columns)


def _pad(image: Floats, crop: Size, fill: float = 0) -> Floats:
    """At the bottom and right up to `crop`, where the image is smaller."""
    missing = [max(0, side - length) for side, length in zip(crop, image.shape[1:], strict=True)]
    if not any(missing):
        return image
    return np.pad(image, ((0, 0), (0, missing[0]), (0, missing[1])), constant_values=fill)


def _groups(corners: Sequence[Size], batch: int) -> Iterator[list[Size]]:
    rest = iter(corners)
    while group := list(islice(rest, max(1, batch))):
        yield group
