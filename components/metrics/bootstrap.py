"""How sure a mean IoU is: 95 % intervals by drawing the images anew (Efron's percentile bootstrap).

A draw takes as many images as there are, with replacement, adds up their confusion matrices and computes the mean
IoU of the sum, in the way it is computed for all images. Two checkpoints are compared on the same draws, so what
makes an image hard for both of them cancels.

The images are taken to be independent. Frames of one film are not: their intervals are then too narrow.
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
    """The draws for one set of images; what is computed with one Bootstrap can be compared draw by draw."""

    def __init__(self, images: int, draws: int = DRAWS, seed: int = SEED) -> None:
        random = np.random.default_rng(seed)
        # How often each image is in each draw. Whole numbers below 2**53, so products of float64 are exact.
        self._counts = random.multinomial(images, np.full(images, 1 / images), size=draws).astype(np.float64)

    def mean_iou(self, matrices: Matrix) -> NDArray[np.float64]:
        """(N, C, C) matrices of the images to the mean IoU of each draw.

        NaN where a draw has no labelled pixel, and for a single image, which does not show how images differ.
        """
        if len(matrices) < 2:
            return np.full(len(self._counts), np.nan)
        classes = matrices.shape[-1]
        hit = np.diagonal(matrices, axis1=1, axis2=2)
        union = matrices.sum(axis=1) + matrices.sum(axis=2) - hit
        # Intersections and unions add up over images, so the matrices themselves need not be resampled.
        sums = self._counts @ np.concatenate([hit, union], axis=1).astype(np.float64)
        ious = np.full((len(sums), classes), np.nan)
        np.divide(sums[:, :classes], sums[:, classes:], out=ious, where=sums[:, classes:] > 0)
        present = np.isfinite(ious).sum(axis=1)
        means = np.full(len(sums), np.nan)
        np.divide(np.nansum(ious, axis=1), present, out=means, where=present > 0)
        return means


def interval(draws: NDArray[np.float64], level: float = LEVEL) -> Interval:
    """The middle `level` of the draws. NaN twice where there is none."""
    finite = draws[np.isfinite(draws)]
    if not finite.size:
        return Interval(float("nan"), float("nan"))
    low, high = np.quantile(finite, [(1 - level) / 2, (1 + level) / 2])
    return Interval(float(low), float(high))
