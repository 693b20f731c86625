"""Sliding-window inference, as defined by the reference implementation (PaddleSeg, core/infer.py).

Windows of size `crop` move over the image by `stride`; the last window of a row or column is shifted back inside the
image. Overlapping logits are summed and divided by the number of windows that cover each pixel. An image smaller than
the crop is padded at the bottom and right with zeros, the mean colour after normalisation; the padding is cut off
again.
"""

from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import islice, pairwise
from typing import NamedTuple, TypeVar

import numpy as np
from numpy.typing import NDArray

from components.inference.compiled import Waiting
from components.inference.engine import Engine, all_logits, begin_logits
from components.inference.paddle_engine import Floats
from components.networks.processor import usable_cores

Size = tuple[int, int]
"""Height, width in pixels."""
Rows = Callable[[int, int], Floats]
T = TypeVar("T")

SUM_BYTES = 512 << 20
"""Limit for the summed logits of one image's unfinished rows, over all networks."""
WINDOW_BYTES = 256 << 20
"""Limit for the logits of the windows in flight; one window per group is always allowed."""
GROUPS_AHEAD = 2
"""Groups of windows in flight while an earlier group is summed, so that no core is idle."""
BAND_BYTES = 4 << 20
"""Size of a band of finished logits: small enough to stay in the processor's cache for the next operation."""
IMAGE_BYTES = 4 << 30
"""Limit for the logits of all images in flight."""
SINGLE = (1.0,)
"""Scales for one pass at the image's own size."""


@dataclass(frozen=True)
class Window:
    """Sliding-window settings: sizes are (height, width) in pixels."""

    crop: Size
    stride: Size
    batch: int = 4
    """Number of windows per network call; it does not change the result."""
    scales: tuple[float, ...] = SINGLE
    """Factors to resize the image by. `passes.image_logits` averages the probabilities over scales and mirroring."""
    flip: bool = False
    """Add a pass over the mirrored image at each scale."""
    longest_side: int = 0
    """Reduce larger images to this many pixels along the longer side first; 0 keeps their size."""

    @property
    def single(self) -> bool:
        """Whether the image is seen once, neither scaled nor mirrored."""
        return tuple(self.scales) == SINGLE and not self.flip


def window_starts(length: int, crop: int, stride: int) -> list[int]:
    """Return where windows start along one axis of `length` pixels, so that they cover it.

    Raises:
        ValueError: the stride is not positive, or is larger than the crop and would skip pixels.
    """
    if not 0 < stride <= crop:
        raise ValueError(f"stride {stride} must be positive and at most the crop, {crop}")
    if length <= crop:
        return [0]
    steps = -(-(length - crop) // stride)
    return [min(step * stride, length - crop) for step in range(steps + 1)]


def normalize(image: NDArray[np.uint8], mean: Sequence[float], std: Sequence[float]) -> Floats:
    """Convert uint8 RGB (H, W, 3) to float32 (3, H, W): (value / 255 - mean) / std."""
    scale = (1 / (255 * np.asarray(std, np.float64))).astype(np.float32)
    shift = (np.asarray(mean, np.float64) / np.asarray(std, np.float64)).astype(np.float32)
    planes = np.empty((3, *image.shape[:2]), np.float32)
    for channel in range(3):
        np.multiply(image[..., channel], scale[channel], out=planes[channel])
        planes[channel] -= shift[channel]
    return planes


class Band(NamedTuple):
    """Finished logits of a rectangle of the image: no later window overlaps it."""

    top: int
    left: int
    logits: list[Floats]
    """(C, rows, columns) for each engine. Callers may modify the arrays but not keep them: their memory is reused."""

    @property
    def place(self) -> tuple[slice, slice]:
        """Rows and columns of the image."""
        rows, columns = self.logits[0].shape[1:]
        return slice(self.top, self.top + rows), slice(self.left, self.left + columns)


def sliding_logits(engines: Sequence[Engine], image: Floats, window: Window) -> list[Floats]:
    """Return each engine's logits, (C, H, W) float32, of a normalised RGB image, (3, H, W) float32.

    This is one pass: it ignores the window's scales, flip and longest side. All engines see the same windows.
    """
    size = image.shape[1], image.shape[2]
    return whole_logits(sliding_bands(engines, lambda top, bottom: image[:, top:bottom], size, window), size)


def whole_logits(bands: Iterable[Band], size: Size) -> list[Floats]:
    """Return the logits of an image, (C, H, W) for each engine, from all of its bands."""
    whole: list[Floats] = []
    for band in bands:
        if band.logits[0].shape[1:] == size:
            return band.logits
        whole = whole or [np.empty((len(logits), *size), np.float32) for logits in band.logits]
        for total, logits in zip(whole, band.logits, strict=True):
            total[:, *band.place] = logits
    return whole


def sliding_bands(engines: Sequence[Engine], rows: Rows, size: Size, window: Window) -> Iterator[Band]:
    """Run every engine over the same windows of one image and yield the logits as they are finished.

    Memory holds only the rows that later windows still add to, and only as many columns as fit SUM_BYTES. A wider
    image is processed in vertical strips; windows across the border of two strips run once for each.

    Args:
        rows: returns the image's normalised rows from top to bottom, (3, bottom - top, W).
        size: of the image.
    """
    (height, width), crop = size, window.crop
    window_height, window_width = crop
    y_offsets, x_offsets = (window_starts(*axis) for axis in zip(size, crop, window.stride, strict=True))
    if len(y_offsets) == len(x_offsets) == 1:
        only = _pad(rows(0, height), crop)[None]
        yield Band(0, 0, [logits[0, :, :height, :width] for logits in all_logits(engines, only)])
        return
    window_counts = [window_counts_along(*axis) for axis in zip(size, crop, window.stride, strict=True)]

    def started(sums: _Sums) -> Iterator[tuple[bool, list[int], Waiting]]:
        """Start a network call for each group: whether it is the first of its row, its x offsets, the pending call."""
        for top in y_offsets:
            pixels = _pad(rows(top, min(top + window_height, height)), crop)
            for number, group in enumerate(_groups(x_offsets, window.batch, sums, window_width)):
                windows = np.stack([pixels[..., x : x + window_width] for x in group])
                yield number == 0, group, begin_logits(engines, windows)

    begin = 0
    while begin < width:
        sums = _Sums(begin, max(width, window_width), window_height)
        finished_rows = pairwise(y_offsets)
        for first, group, wait in _ahead(started(sums), sums):
            logits = wait()
            if first and sums.allocated:
                yield from sums.finish(*next(finished_rows), window_counts)
            sums.add(logits, group)
        yield from sums.finish(y_offsets[-1], height, window_counts)
        begin = sums.end


class _Sums:
    """Summed logits of the unfinished rows, for the columns from `begin` to `end`."""

    def __init__(self, begin: int, end: int, window_height: int) -> None:
        self.begin, self.end = begin, end
        self._window_height = window_height
        self._totals: list[Floats] = []
        self._bytes_per_window = 0

    def add(self, logits: list[Floats], x_offsets: Sequence[int]) -> None:
        """Add each engine's logits, (B, C, h, w), of windows at the columns `x_offsets`."""
        window_width = logits[0].shape[3]
        if not self._totals:  # the first logits show the number of classes, and so how many columns fit
            self._bytes_per_window = sum(part[0].nbytes for part in logits)
            bytes_per_column = sum(part.shape[1] for part in logits) * self._window_height * 4
            self.end = min(self.end, self.begin + max(window_width, SUM_BYTES // bytes_per_column))
            shape = self._window_height, self.end - self.begin
            self._totals = [np.zeros((part.shape[1], *shape), np.float32) for part in logits]
        for number, x in enumerate(x_offsets):
            first, last = max(x, self.begin), min(x + window_width, self.end)
            for total, part in zip(self._totals, logits, strict=True):
                if first < last:
                    total[..., first - self.begin : last - self.begin] += part[number, ..., first - x : last - x]

    @property
    def allocated(self) -> bool:
        """Whether the first logits have arrived, so that `end` is final."""
        return bool(self._totals)

    def group_size(self, batch: int) -> int:
        """Return how many windows, at most `batch`, may go through the networks together."""
        if not self.allocated:
            return max(1, min(batch, usable_cores()))
        return max(1, min(batch, WINDOW_BYTES // (self._bytes_per_window * (GROUPS_AHEAD + 1))))

    def finish(self, top: int, bottom: int, window_counts: Sequence[Floats]) -> Iterator[Band]:
        """Yield the rows from `top`, the first row held, to `bottom`, then move the other rows up."""
        end = min(self.end, len(window_counts[1]))
        height, columns = bottom - top, slice(0, end - self.begin)
        band_height = max(1, BAND_BYTES // (4 * (end - self.begin) * sum(map(len, self._totals))))
        for start in range(0, height, band_height):
            stop = min(start + band_height, height)
            band = [total[:, start:stop, columns] for total in self._totals]
            counts = np.outer(window_counts[0][top + start : top + stop], window_counts[1][self.begin : end])
            if counts.max() > 1:
                for logits in band:
                    logits /= counts
            yield Band(top + start, self.begin, band)
        for total in self._totals:
            for plane in total:  # one plane at a time: numpy copies overlapping memory first
                plane[:-height] = plane[height:]
                plane[-height:] = 0


def images_in_flight(pixels: int, classes: int) -> int:
    """Return how many images of `pixels` pixels to process in parallel threads: one per core, if their logits fit."""
    bytes_per_image = pixels * classes * 4 * 8  # float32 logits of two networks, probabilities and temporary copies
    return max(1, min(usable_cores(), IMAGE_BYTES // max(1, bytes_per_image)))


def window_counts_along(length: int, crop: int, stride: int) -> Floats:
    """Return how many windows cover each row (or column). For a pixel it is the product of both."""
    counts = np.zeros(length, np.float32)
    for start in window_starts(length, crop, stride):
        counts[start : start + crop] += 1
    return counts


def _pad(image: Floats, crop: Size) -> Floats:
    """Pad the image at the bottom and right to at least `crop`."""
    missing = [max(0, target - length) for target, length in zip(crop, image.shape[1:], strict=True)]
    if not any(missing):
        return image
    return np.pad(image, ((0, 0), (0, missing[0]), (0, missing[1])))


def _ahead(started: Iterator[T], sums: _Sums) -> Iterator[T]:
    """Start GROUPS_AHEAD more items than are yielded, once the first one has shown how many columns fit."""
    pending: deque[T] = deque()
    for item in started:
        pending.append(item)
        while len(pending) > (GROUPS_AHEAD if sums.allocated else 0):
            yield pending.popleft()
    yield from pending


def _groups(x_offsets: Sequence[int], batch: int, sums: _Sums, window_width: int) -> Iterator[list[int]]:
    """Group the windows that overlap the columns of `sums`; the first group may reduce these columns."""
    overlapping = (x for x in x_offsets if x < sums.end and x + window_width > sums.begin)
    while group := list(islice(overlapping, sums.group_size(batch))):
        yield group
