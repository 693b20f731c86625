"""95 % intervals of the mean IoU from resampled images (Efron's percentile bootstrap).

Each draw samples as many images as there are, with replacement, adds up their counts and computes the mean IoU of the
sum, as for the full set. Checkpoints are compared on the same draws, so the difficulty of an image, which
affects both, cancels.

Images are assumed to be independent. Frames of one video are not, and their intervals come out too narrow.
"""

from collections.abc import Iterator
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from components.metrics.confusion import ClassCounts

DRAWS = 2000
LEVEL = 0.95
SEED = 0
BLOCK = 100
"""Draws that are computed at once. Blocks bound the memory and do not change the result."""


class Interval(NamedTuple):
    low: float
    high: float


class Bootstrap:
    """The draws for one set of images. Results of the same Bootstrap can be compared draw by draw."""

    def __init__(self, images: int, draws: int = DRAWS, seed: int = SEED) -> None:
        random, shares = np.random.default_rng(seed), np.full(images, 1 / images)
        # How often each draw contains each image, in the smallest type, and drawn block by block, to save memory.
        self._times = np.empty((draws, images), np.min_scalar_type(images))
        for block in self._blocks():
            block[...] = random.multinomial(images, shares, size=len(block))

    def mean_iou(self, counts: ClassCounts) -> NDArray[np.float64]:
        """Return the mean IoU of each draw, in [0, 1], from the images' counts.

        A draw without labelled pixels gives NaN. So does a single image, which cannot show how images vary.
        """
        images, classes = counts.hit.shape
        if images < 2:
            return np.full(len(self._times), np.nan)
        # Intersections and unions add up over images, so resampling these is enough.
        values = np.concatenate([counts.hit, counts.union], axis=1).astype(np.float64)
        # All are integers below 2**53, so float64 products and sums are exact.
        sums = np.concatenate([block.astype(np.float64) @ values for block in self._blocks()])
        ious = np.full((len(sums), classes), np.nan)
        np.divide(sums[:, :classes], sums[:, classes:], out=ious, where=sums[:, classes:] > 0)
        present = np.isfinite(ious).sum(axis=1)
        means = np.full(len(sums), np.nan)
        np.divide(np.nansum(ious, axis=1), present, out=means, where=present > 0)
        return means

    def _blocks(self) -> Iterator[NDArray[np.unsignedinteger[Any]]]:
        return (self._times[start : start + BLOCK] for start in range(0, len(self._times), BLOCK))


def interval(draws: NDArray[np.float64], level: float = LEVEL) -> Interval:
    """Return the interval that holds the middle `level` of the draws, or (NaN, NaN) if all draws are NaN."""
    finite = draws[np.isfinite(draws)]
    if not finite.size:
        return Interval(float("nan"), float("nan"))
    low, high = np.quantile(finite, [(1 - level) / 2, (1 + level) / 2])
    return Interval(float(low), float(high))
