"""Logits of a whole image, optionally averaged over several scales and a mirrored copy.

Each pass is resized to the image and turned into probabilities, and these are averaged, as in the reference
implementation. The logarithm of the average is returned as logits: their softmax gives the average back.
"""

from collections.abc import Iterator, Sequence

import cv2
import numpy as np
from numpy.typing import NDArray

from components.errors import UserError
from components.inference.engine import Engine
from components.inference.paddle_engine import Floats
from components.inference.probabilities import softmax
from components.inference.sliding import (
    BAND_BYTES,
    Band,
    Size,
    Window,
    normalize,
    sliding_bands,
    sliding_logits,
    whole_logits,
)
from components.networks.image_size import reduced
from components.networks.processor import available_memory
from components.units import memory_text


class TooLarge(UserError):
    """The passes over an image need more memory than there is."""


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
    return whole_logits(image_bands(engines, image, window, mean=mean, std=std), size)


def image_bands(
    engines: Sequence[Engine],
    image: NDArray[np.uint8],
    window: Window,
    *,
    mean: Sequence[float],
    std: Sequence[float],
) -> Iterator[Band]:
    """Yield each engine's logits of an RGB image, (H, W, 3) uint8, at its own size, band by band.

    A single pass at the image's own size holds only some rows of logits. Several passes hold the probabilities of the
    whole image, and the logits of one pass at another scale.

    Raises TooLarge if that needs more memory than there is.
    """
    size, small = (image.shape[0], image.shape[1]), reduced(image, window.longest_side)
    if window.single and small.shape == image.shape:
        yield from sliding_bands(engines, lambda top, bottom: normalize(image[top:bottom], mean, std), size, window)
        return
    planes = normalize(small, mean, std)
    if window.single:
        yield from _at_size(engines, planes, window, size)
        return
    totals: list[Floats] = []
    passes = 0
    for version, mirrored in _versions(planes, window):
        passes += 1
        for band in _at_size(engines, version, window, size):
            if not totals:
                _check_memory(sum(map(len, band.logits)), size, window, (planes.shape[1], planes.shape[2]))
                totals = [np.zeros((len(logits), *size), np.float32) for logits in band.logits]
            rows, columns = band.place
            if mirrored:
                columns = slice(size[1] - columns.stop, size[1] - columns.start)
            for total, logits in zip(totals, band.logits, strict=True):
                total[:, rows, columns] += softmax(logits[:, :, ::-1] if mirrored else logits)
    for total in totals:
        total /= passes
        # Probabilities that underflow to 0 would become infinite logits.
        np.log(np.maximum(total, np.finfo(np.float32).tiny, out=total), out=total)
    for top, bottom in _rows_of_bands(size, sum(map(len, totals))):
        yield Band(top, 0, [total[:, top:bottom] for total in totals])


def resize(planes: Floats, size: Size) -> Floats:
    """Resize (C, H, W) to `size` by linear interpolation between pixel centres."""
    if planes.shape[1:] == size:
        return np.ascontiguousarray(planes)
    scaled = [cv2.resize(plane, (size[1], size[0]), interpolation=cv2.INTER_LINEAR) for plane in planes]
    return np.stack(scaled)


def scaled_size(size: Size, scale: float) -> Size:
    """Return height and width of a pass."""
    return max(1, round(size[0] * scale)), max(1, round(size[1] * scale))


def _at_size(engines: Sequence[Engine], planes: Floats, window: Window, size: Size) -> Iterator[Band]:
    """Yield the logits of one pass over (3, h, w), resized to `size`."""
    if planes.shape[1:] == size:
        yield from sliding_bands(engines, lambda top, bottom: planes[:, top:bottom], size, window)
        return
    found = sliding_logits(engines, planes, window)
    for top, bottom in _rows_of_bands(size, sum(map(len, found))):
        rows = [_rows(logits, range(top, bottom), size[0]) for logits in found]
        yield Band(top, 0, [resize(part, (bottom - top, size[1])) for part in rows])


def _rows_of_bands(size: Size, planes: int) -> Iterator[tuple[int, int]]:
    """Yield top and bottom of bands over the whole width, of about BAND_BYTES each."""
    height, width = size
    count = max(1, BAND_BYTES // (4 * width * planes))
    return ((top, min(top + count, height)) for top in range(0, height, count))


def _rows(planes: Floats, band: range, height: int) -> Floats:
    """Return the rows `band` of (C, h, W), resized to `height` rows by linear interpolation between pixel centres."""
    places = np.clip((np.array(band) + 0.5) * planes.shape[1] / height - 0.5, 0, planes.shape[1] - 1)
    above = places.astype(int)
    below = np.minimum(above + 1, planes.shape[1] - 1)
    shares = (places - above).astype(np.float32)[:, None]
    rows: Floats = planes[:, above] * (1 - shares) + planes[:, below] * shares
    return rows


def _versions(planes: Floats, window: Window) -> Iterator[tuple[Floats, bool]]:
    """Yield each version of the image, and whether it is mirrored."""
    height, width = planes.shape[1:]
    for scale in window.scales:
        scaled = resize(planes, scaled_size((height, width), scale))
        yield scaled, False
        if window.flip:
            yield np.ascontiguousarray(scaled[:, :, ::-1]), True


def _check_memory(planes: int, size: Size, window: Window, seen: Size) -> None:
    """Raise TooLarge if the sums of `planes` classes and the largest pass that is resized do not fit in memory.

    Args:
        planes: number of classes, over all networks.
        size: of the image.
        seen: its size at scale 1, as the networks see it.
    """
    passes = [scaled_size(seen, scale) for scale in window.scales]
    resized = max((height * width for height, width in passes if (height, width) != size), default=0)
    needed = 4 * planes * (size[0] * size[1] + resized)
    free = available_memory()
    if free is not None and needed > free:
        raise TooLarge(
            f"several scales or mirroring need {memory_text(needed)} of memory for an image of {size[1]} x {size[0]} "
            f"pixels, and {memory_text(free)} are free: use smaller images, or one scale without mirroring, which "
            "needs memory for some rows only"
        )
