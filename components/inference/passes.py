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
from components.inference.probabilities import predicted_classes, softmax
from components.inference.sliding import BAND_BYTES, Size, Window, normalize, sliding_classes, sliding_logits
from components.metrics.confusion import ClassIds
from components.networks.image_size import reduced


def image_logits(
    engines: Sequence[Engine],
    image: NDArray[np.uint8],
    window: Window,
    *,
    mean: Sequence[float],
    std: Sequence[float],
) -> list[Floats]:
    """Return each engine's logits, (C, H, W) float32, of an RGB image, (H, W, 3) uint8."""
    size = image.shape[0], image.shape[1]
    planes = normalize(reduced(image, window.longest_side), mean, std)
    if window.single:
        return [resize(logits, size) for logits in sliding_logits(engines, planes, window)]
    totals: list[Floats] = []
    passes = 0
    for version, mirrored in _versions(planes, window):
        passes += 1
        for number, logits in enumerate(sliding_logits(engines, version, window)):
            resized = resize(logits[:, :, ::-1] if mirrored else logits, size)
            if number == len(totals):
                totals.append(softmax(resized))
            else:
                totals[number] += softmax(resized)
    for total in totals:
        total /= passes
        # Probabilities that underflow to 0 would become infinite logits.
        np.log(np.maximum(total, np.finfo(np.float32).tiny, out=total), out=total)
    return totals


def image_classes(
    engines: Sequence[Engine],
    image: NDArray[np.uint8],
    window: Window,
    *,
    mean: Sequence[float],
    std: Sequence[float],
) -> ClassIds:
    """Return class ids (H, W) of an RGB image, (H, W, 3) uint8, from one pass; probabilities of engines are averaged.

    Needs memory for the logits of some rows, not of the whole image.
    """
    small = reduced(image, window.longest_side)
    if small.shape == image.shape:
        return sliding_classes(engines, image, window, mean=mean, std=std)
    height, width = image.shape[:2]
    found = sliding_logits(engines, normalize(small, mean, std), window)
    wide = [resize(logits, (logits.shape[1], width)) for logits in found]
    rows = max(1, BAND_BYTES // (4 * width * sum(map(len, wide))))
    bands = [range(top, min(top + rows, height)) for top in range(0, height, rows)]
    return np.concatenate([predicted_classes([_rows(logits, band, height) for logits in wide]) for band in bands])


def _rows(planes: Floats, band: range, height: int) -> Floats:
    """Return the rows `band` of (C, h, W), resized to `height` rows by linear interpolation between pixel centres."""
    places = np.clip((np.array(band) + 0.5) * planes.shape[1] / height - 0.5, 0, planes.shape[1] - 1)
    above = places.astype(int)
    below = np.minimum(above + 1, planes.shape[1] - 1)
    shares = (places - above).astype(np.float32)[:, None]
    rows: Floats = planes[:, above] * (1 - shares) + planes[:, below] * shares
    return rows


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
