"""Logits of a whole image, if wanted as the mean over scales and a mirrored copy.

With several passes each one is scaled back to the image, turned into probabilities, and these are averaged, as the
reference implementation does; their logarithm is a logit again, so whoever takes a softmax gets the mean back.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import cv2
import numpy as np
from numpy.typing import NDArray

from components.inference.engine import Engine
from components.inference.paddle_engine import Floats
from components.inference.probabilities import softmax
from components.inference.sliding import Size, normalize, sliding_logits

SINGLE = (1.0,)
"""The image as it is, and nothing else."""


def image_logits(
    engines: Sequence[Engine],
    image: NDArray[np.uint8],
    *,
    mean: Sequence[float],
    std: Sequence[float],
    crop: Size,
    stride: Size,
    batch: int = 4,
    scales: Sequence[float] = SINGLE,
    flip: bool = False,
) -> list[Floats]:
    """Logits (C, H, W) of each engine for an image (H, W, 3) uint8 RGB.

    Args:
        crop, stride: of the sliding window, height and width in pixels; the same at every scale.
        scales: factors that the image is resized by, one pass each.
        flip: a second pass for each scale, mirrored left to right.
    """
    planes = normalize(image, mean, std)
    if tuple(scales) == SINGLE and not flip:
        return sliding_logits(engines, planes, crop=crop, stride=stride, batch=batch)
    size = planes.shape[1:]
    totals: list[Floats] = []
    passes = 0
    for version, mirrored in _versions(planes, scales, flip):
        passes += 1
        for number, logits in enumerate(sliding_logits(engines, version, crop=crop, stride=stride, batch=batch)):
            back = resize(logits[:, :, ::-1] if mirrored else logits, (size[0], size[1]))
            if number == len(totals):
                totals.append(softmax(back))
            else:
                totals[number] += softmax(back)
    for total in totals:
        total /= passes
        # A probability too small for a float would be a logit without end.
        np.log(np.maximum(total, np.finfo(np.float32).tiny, out=total), out=total)
    return totals


def resize(planes: Floats, size: Size) -> Floats:
    """(C, H, W) to `size` by linear interpolation between pixel centres."""
    if planes.shape[1:] == size:
        return np.ascontiguousarray(planes)
    scaled = [cv2.resize(plane, (size[1], size[0]), interpolation=cv2.INTER_LINEAR) for plane in planes]
    return np.stack(scaled)


def _versions(planes: Floats, scales: Sequence[float], flip: bool) -> Iterator[tuple[Floats, bool]]:
    """Each version of the image, and whether it is mirrored."""
    height, width = planes.shape[1:]
    for scale in scales:
        scaled = resize(planes, (max(1, round(height * scale)), max(1, round(width * scale))))
        yield scaled, False
        if flip:
            yield np.ascontiguousarray(scaled[:, :, ::-1]), True


@dataclass(frozen=True)
class Window:
    """How an image goes through the network: height and width, in pixels, of the sliding window and of its steps."""

    crop: Size
    stride: Size
    batch: int = 4
    """Windows that go through a network at once; it does not change the result."""
    scales: tuple[float, ...] = SINGLE
    flip: bool = False
    """The image resized by each scale, and mirrored: the probabilities are averaged."""

    @property
    def single(self) -> bool:
        """One pass over the image as it is."""
        return tuple(self.scales) == SINGLE and not self.flip
