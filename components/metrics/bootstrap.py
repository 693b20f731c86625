"""95 % intervals of the mean IoU from resampled images (Efron's percentile bootstrap).

Each draw samples as many images as there are, with replacement, adds up their counts and computes the mean IoU of the
sum, as for the full set. Checkpoints are compared on the same draws, so the difficulty of an image, which
affects both, cancels.

Images that depend on each other, such as frames of a video, would make the intervals too narrow. They are given as
blocks, and a draw samples as many blocks as there are instead (Carlstein, 1986, "The use of subseries values for
estimating the variance of a general statistic from a stationary sequence").
"""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from components.metrics.confusion import ClassCounts

DRAWS = 2000
LEVEL = 0.95
SEED = 0
FEW_IMAGES = 10
"""With fewer images, an interval is not reliable."""
CHUNK = 100
"""Draws that are computed at once. Chunks bound the memory and do not change the result."""


class Interval(NamedTuple):
    low: float
    high: float


@dataclass(frozen=True)
class Draws:
    """The mean IoU of one network on each draw of some images."""

    values: NDArray[np.float64]
    """(draws,), in [0, 1]; NaN if undefined."""
    drawn_from: str
    """Identifies the images and their blocks: draws can be compared one by one if this is equal."""


class Bootstrap:
    """The draws for one set of images. Results of the same Bootstrap can be compared draw by draw."""

    def __init__(
        self, images: int, draws: int = DRAWS, seed: int = SEED, *, blocks: NDArray[np.intp] | None = None
    ) -> None:
        """Draw.

        Args:
            blocks: the block of each image, (images,), numbered from 0 in the order of the images. By default, each
                image is a block.
        """
        self._count = images if blocks is None else int(blocks.max(initial=-1)) + 1
        # Blocks of single images need no sums of their own, and no memory.
        self._block_of = blocks if self._count < images else None
        random, shares = np.random.default_rng(seed), np.full(self._count, 1 / self._count)
        # How often each draw contains each block, in the smallest type, and drawn chunk by chunk, to save memory.
        self._times = np.empty((draws, self._count), np.min_scalar_type(self._count))
        for chunk in self._chunks():
            chunk[...] = random.multinomial(self._count, shares, size=len(chunk))

    def mean_iou(self, counts: ClassCounts) -> NDArray[np.float64]:
        """Return the mean IoU of each draw, in [0, 1], from the images' counts.

        A draw without labelled pixels gives NaN. So does a single block, which cannot show how images vary.
        """
        classes = counts.hit.shape[1]
        if self._count < 2:
            return np.full(len(self._times), np.nan)
        # Intersections and unions add up over images, so resampling these is enough.
        values = np.concatenate([counts.hit, counts.union], axis=1)
        if self._block_of is not None:
            by_block = np.zeros((self._count, values.shape[1]), values.dtype)
            np.add.at(by_block, self._block_of, values)
            values = by_block
        values = values.astype(np.float64)
        # All are integers below 2**53, so float64 products and sums are exact.
        sums = np.concatenate([chunk.astype(np.float64) @ values for chunk in self._chunks()])
        ious = np.full((len(sums), classes), np.nan)
        np.divide(sums[:, :classes], sums[:, classes:], out=ious, where=sums[:, classes:] > 0)
        present = np.isfinite(ious).sum(axis=1)
        means = np.full(len(sums), np.nan)
        np.divide(np.nansum(ious, axis=1), present, out=means, where=present > 0)
        return means

    def _chunks(self) -> Iterator[NDArray[np.unsignedinteger[Any]]]:
        return (self._times[start : start + CHUNK] for start in range(0, len(self._times), CHUNK))


def interval(draws: NDArray[np.float64], level: float = LEVEL) -> Interval:
    """Return the interval that holds the middle `level` of the draws, or (NaN, NaN) if all draws are NaN."""
    finite = draws[np.isfinite(draws)]
    if not finite.size:
        return Interval(float("nan"), float("nan"))
    low, high = np.quantile(finite, [(1 - level) / 2, (1 + level) / 2])
    return Interval(float(low), float(high))
