"""Logits of a whole image, optionally averaged over several scales and a mirrored copy.

Each pass is resized to the image and turned into probabilities, and these are averaged, as in the reference
implementation. The logarithm of the average is returned as logits: their softmax gives the average back.
"""

from collections.abc import Iterator, Sequence

import cv2
import numpy as np
from numpy.typing import NDArray

from components.inference.engine import Engine
from components.inference.paddle_engine import Floats
from components.inference.probabilities import softmax
from components.inference.sliding import Size, Window, normalize, sliding_logits


def image_logits(
    engines: Sequence[Engine],
    image: NDArray[np.uint8],
    window: Window,
    *,
    mean: Sequence[float],
    std: Sequence[float],
) -> list[Floats]:
    """Return each engine's logits, (C, H, W) float32, of an RGB image, (H, W, 3) uint8."""
    planes = normalize(image, mean, std)
    if window.single:
        return sliding_logits(engines, planes, window)
    size = planes.shape[1:]
    totals: list[Floats] = []
    passes = 0
    for version, mirrored in _versions(planes, window):
        passes += 1
        for number, logits in enumerate(sliding_logits(engines, version, window)):
            resized = resize(logits[:, :, ::-1] if mirrored else logits, (size[0], size[1]))
            if number == len(totals):
                totals.append(softmax(resized))
            else:
                totals[number] += softmax(resized)
    for total in totals:
        total /= passes
        # Probabilities that underflow to 0 would become infinite logits.
        np.log(np.maximum(total, np.finfo(np.float32).tiny, out=total), out=total)
    return totals


def resize(planes: Floats, size: Size) -> Floats:
    """Resize (C, H, W) to `size` by linear interpolation between pixel centres."""
    if planes.shape[1:] == size:
        return np.ascontiguousarray(planes)
    scaled = [cv2.resize(plane, (size[1], size[0]), interpolation=cv2.INTER_LINEAR) for plane in planes]
    return np.stack(scaled)


def _versions(planes: Floats, window: Window) -> Iterator[tuple[Floats, bool]]:
    """Yield each version of the image, and whether it is mirrored."""
    height, width = planes.shape[1:]
    for scale in window.scales:
        scaled = resize(planes, (max(1, round(height * scale)), max(1, round(width * scale))))
        yield scaled, False
        if window.flip:
            yield np.ascontiguousarray(scaled[:, :, ::-1]), True
