"""95 % intervals of the mean IoU from resampled images (Efron's percentile bootstrap).

Each draw samples as many images as there are, with replacement, adds up their confusion matrices and computes the mean
IoU of the sum, as for the full set. Checkpoints are compared on the same draws, so the difficulty of an image, which
affects both, cancels.

Images are assumed to be independent. Frames of one video are not, and their intervals come out too narrow.
"""

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from components.metrics.confusion import Matrix

DRAWS = 2000
LEVEL = 0.95
SEED = 0


class Interval(NamedTuple):
    low: float
    high: float


class Bootstrap:
    """The draws for one set of images. Results of the same Bootstrap can be compared draw by draw."""

    def __init__(self, images: int, draws: int = DRAWS, seed: int = SEED) -> None:
        random = np.random.default_rng(seed)
        # How often each draw contains each image: integers below 2**53, so float64 products are exact.
        self._counts = random.multinomial(images, np.full(images, 1 / images), size=draws).astype(np.float64)

    def mean_iou(self, matrices: Matrix) -> NDArray[np.float64]:
        """Return the mean IoU of each draw, in [0, 1], from the images' matrices (N, C, C).

        A draw without labelled pixels gives NaN. So does a single image, which cannot show how images vary.
        """
        if len(matrices) < 2:
            return np.full(len(self._counts), np.nan)
        classes = matrices.shape[-1]
        hit = np.diagonal(matrices, axis1=1, axis2=2)
        union = matrices.sum(axis=1) + matrices.sum(axis=2) - hit
        # Intersections and unions add up over images, so resampling these is enough.
        sums = self._counts @ np.concatenate([hit, union], axis=1).astype(np.float64)
        ious = np.full((len(sums), classes), np.nan)
        np.divide(sums[:, :classes], sums[:, classes:], out=ious, where=sums[:, classes:] > 0)
        present = np.isfinite(ious).sum(axis=1)
        means = np.full(len(sums), np.nan)
        np.divide(np.nansum(ious, axis=1), present, out=means, where=present > 0)
        return means


def interval(draws: NDArray[np.float64], level: float = LEVEL) -> Interval:
    """Return the interval that holds the middle `level` of the draws, or (NaN, NaN) if all draws are NaN."""
    finite = draws[np.isfinite(draws)]
    if not finite.size:
        return Interval(float("nan"), float("nan"))
    low, high = np.quantile(finite, [(1 - level) / 2, (1 + level) / 2])
    return Interval(float(low), float(high))
