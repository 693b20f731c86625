"""The sliding window, as the reference implementation defines it (PaddleSeg, core/infer.py).

Windows of `crop` go over the image by `stride`; the last one of a row or column is shifted inside the image;
logits are added up and divided by how many windows saw a pixel. An image smaller than the crop is padded to
it at the bottom and the right with zeros, which is the mean colour after normalisation, and the padding is
cut off again.
"""

from collections import deque
from collections.abc import Callable, Iterator, Sequence
from itertools import islice, pairwise
from typing import NamedTuple, TypeVar

import numpy as np
from numpy.typing import NDArray

from components.inference.compiled import Waiting
from components.inference.engine import Engine, all_logits, begin_logits
from components.inference.paddle_engine import Floats
from components.inference.probabilities import predicted_classes
from components.metrics.confusion import ClassIds
from components.networks.processor import usable_cores

Size = tuple[int, int]
"""Height, width in pixels."""
Rows = Callable[[int, int], Floats]
T = TypeVar("T")

MEMORY_FOR_SUMS = 512 << 20
"""Bytes that the open rows of one image may take, over all networks."""
MEMORY_FOR_WINDOWS = 256 << 20
"""Bytes that the logits of windows which are on their way may take, where they are more than AHEAD."""
AHEAD = 2
"""Groups of windows that are in the networks while the one before them is added up: no core waits for another."""
BAND_BYTES = 4 << 20
"""Of logits that are given away at once: what is done with them next finds them in the processor's cache."""

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


class Band(NamedTuple):
    """Finished rows of some columns of an image: no window that is still to come touches them."""

    top: int
    left: int
    logits: list[Floats]
    """Of each engine, (C, rows, columns). The caller may change them, and keeps none of them: they are reused."""


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
    size = image.shape[1], image.shape[2]
    whole: list[Floats] = []
    for band in sliding_bands(
        engines, lambda top, bottom: image[:, top:bottom], size, crop=crop, stride=stride, batch=batch
    ):
        if band.logits[0].shape[1:] == size:
            return band.logits
        whole = whole or [np.empty((len(logits), *size), np.float32) for logits in band.logits]
        for total, logits in zip(whole, band.logits, strict=True):
            total[_place(band)] = logits
    return whole


def sliding_classes(
    engines: Sequence[Engine],
    image: NDArray[np.uint8],
    *,
    mean: Sequence[float],
    std: Sequence[float],
    crop: Size,
    stride: Size,
    batch: int = 4,
) -> ClassIds:
    """Class ids (H, W) of an image, (H, W, 3) uint8 RGB, by one engine or by the average of several.

    The same ids as from `sliding_logits`, in memory that does not grow with the image.
    """
    size = image.shape[0], image.shape[1]
    ids: ClassIds | None = None
    rows = lambda top, bottom: normalize(image[top:bottom], mean, std)  # noqa: E731
    for band in sliding_bands(engines, rows, size, crop=crop, stride=stride, batch=batch):
        found = predicted_classes(band.logits)
        if found.shape == size:
            return found
        ids = np.empty(size, found.dtype) if ids is None else ids
        ids[_place(band)[1:]] = found
    assert ids is not None  # an image has rows
    return ids


def sliding_bands(
    engines: Sequence[Engine], rows: Rows, size: Size, *, crop: Size, stride: Size, batch: int = 4
) -> Iterator[Band]:
    """Run every engine over the same windows of one image, and give the logits away as they are finished.

    Only the rows that windows still add to are held, of so many columns that they fit MEMORY_FOR_SUMS: an image of
    any size takes no more. A wider one goes in strips, and windows across their borders run for both.

    Args:
        rows: gives normalised rows, (3, bottom - top, W).
        size, crop, stride: height, width in pixels.
        batch: how many windows go through an engine at once; it does not change the result.
    """
    (height, width), (side, across) = size, crop
    tops, lefts = (window_starts(*line) for line in zip(size, crop, stride, strict=True))
    if len(tops) == len(lefts) == 1:
        window = _pad(rows(0, height), crop)[None]
        yield Band(0, 0, [logits[0, :, :height, :width] for logits in all_logits(engines, window)])
        return
    visits = [_visits(*line) for line in zip(size, crop, stride, strict=True)]

    def begun(sums: _Sums) -> Iterator[tuple[bool, list[int], Waiting]]:
        """Whether windows are the first of a row of them, where they begin, and what waits for their logits."""
        for top in tops:
            pixels = _pad(rows(top, min(top + side, height)), crop)
            for number, group in enumerate(_groups(lefts, batch, sums, across)):
                windows = np.stack([pixels[..., left : left + across] for left in group])
                yield number == 0, group, begin_logits(engines, windows)

    begin = 0
    while begin < width:
        sums = _Sums(begin, max(width, across), side)
        done = pairwise(tops)
        for first, group, wait in _ahead(begun(sums), sums):
            logits = wait()
            if first and sums.known:
                yield from sums.finish(*next(done), visits)
            sums.add(logits, group)
        yield from sums.finish(tops[-1], height, visits)
        begin = sums.end


class _Sums:
    """What windows have added up to, over the open rows of the columns from `begin` to `end`."""

    def __init__(self, begin: int, end: int, side: int) -> None:
        self.begin, self.end = begin, end
        self._side = side
        self._totals: list[Floats] = []
        self._window = 0  # bytes of one window's logits, once they are known

    def add(self, logits: list[Floats], lefts: Sequence[int]) -> None:
        """(B, C, h, w) of every engine, of windows that begin at the columns `lefts`."""
        across = logits[0].shape[3]
        if not self._totals:  # the first windows tell how many classes there are, and so how many columns fit
            self._window = sum(part[0].nbytes for part in logits)
            column = sum(part.shape[1] for part in logits) * self._side * 4
            self.end = min(self.end, self.begin + max(across, MEMORY_FOR_SUMS // column))
            shape = self._side, self.end - self.begin
            self._totals = [np.zeros((part.shape[1], *shape), np.float32) for part in logits]
        for number, left in enumerate(lefts):
            first, last = max(left, self.begin), min(left + across, self.end)
            for total, part in zip(self._totals, logits, strict=True):
                if first < last:
                    total[..., first - self.begin : last - self.begin] += part[number, ..., first - left : last - left]

    @property
    def known(self) -> bool:
        """Whether windows have come, and with them how many columns fit."""
        return bool(self._totals)

    def at_once(self, batch: int) -> int:
        """How many of at most `batch` windows may go through the networks together."""
        if not self.known:
            return max(1, min(batch, usable_cores()))
        return max(1, min(batch, MEMORY_FOR_WINDOWS // (self._window * (AHEAD + 1))))

    def finish(self, top: int, bottom: int, visits: Sequence[Floats]) -> Iterator[Band]:
        """Give away the rows from `top`, which is the first one held, to `bottom`; the rest moves up."""
        end = min(self.end, len(visits[1]))
        done, columns = bottom - top, slice(0, end - self.begin)
        each = max(1, BAND_BYTES // (4 * (end - self.begin) * sum(map(len, self._totals))))
        for start in range(0, done, each):
            stop = min(start + each, done)
            band = [total[:, start:stop, columns] for total in self._totals]
            counts = np.outer(visits[0][top + start : top + stop], visits[1][self.begin : end])
            if counts.max() > 1:
                for logits in band:
                    logits /= counts
            yield Band(top + start, self.begin, band)
        for total in self._totals:
            for plane in total:  # one by one: numpy copies what overlaps
                plane[:-done] = plane[done:]
                plane[-done:] = 0


def images_in_flight(pixels: int, classes: int) -> int:
    """How many images of a size to run at once, each in a thread: as many as cores, as long as their logits fit."""
    each = pixels * classes * 4 * 8  # float32 logits of two networks, probabilities and copies on the way
    return max(1, min(usable_cores(), MEMORY_FOR_IMAGES // max(1, each)))


def _visits(length: int, side: int, step: int) -> Floats:
    """How many windows see each row or column; a pixel is seen by the product of both."""
    line = np.zeros(length, np.float32)
    for start in window_starts(length, side, step):
        line[start : start + side] += 1
    return line


def _place(band: Band) -> tuple[slice, slice, slice]:
    rows, columns = band.logits[0].shape[1:]
    return slice(None), slice(band.top, band.top + rows), slice(band.left, band.left + columns)


def _pad(image: Floats, crop: Size) -> Floats:
    """At the bottom and right up to `crop`, where the image is smaller."""
    missing = [max(0, side - length) for side, length in zip(crop, image.shape[1:], strict=True)]
    if not any(missing):
        return image
    return np.pad(image, ((0, 0), (0, missing[0]), (0, missing[1])))


def _ahead(begun: Iterator[T], sums: _Sums) -> Iterator[T]:
    """Ask for AHEAD more than are taken, from the second on: the first one says how many columns there are."""
    waiting: deque[T] = deque()
    for item in begun:
        waiting.append(item)
        while len(waiting) > (AHEAD if sums.known else 0):
            yield waiting.popleft()
    yield from waiting


def _groups(lefts: Sequence[int], batch: int, sums: _Sums, across: int) -> Iterator[list[int]]:
    """The windows that touch the columns of `sums`, which may become fewer with the first group."""
    touching = (left for left in lefts if left < sums.end and left + across > sums.begin)
    while group := list(islice(touching, sums.at_once(batch))):
        yield group
