"""Figures from a confusion matrix (rows: truth, columns: prediction).

A class that is neither in the truth nor predicted has no IoU: it is NaN here and left out of every mean.
Counting it as 0 would punish a network for a class that the images do not show.
"""

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from components.metrics.confusion import Matrix

PerClass = NDArray[np.float64]


def iou(matrix: Matrix) -> PerClass:
    """Intersection over union of each class, in [0, 1]; NaN where the class is absent from truth and
    prediction.

    A matrix of shape (..., C, C) gives (..., C).
    """
    hit = np.diagonal(matrix, axis1=-2, axis2=-1)
    union = matrix.sum(-1) + matrix.sum(-2) - hit
    return _divide(hit, union)


def class_accuracy(matrix: Matrix) -> PerClass:
    """The share of each class's true pixels that were found (recall); NaN where the truth has none."""
    return _divide(np.diagonal(matrix, axis1=-2, axis2=-1), matrix.sum(-1))


def dice(matrix: Matrix) -> PerClass:
    """Dice's coefficient (F1) of each class, 2 IoU / (1 + IoU); NaN where `iou` is."""
    hit = np.diagonal(matrix, axis1=-2, axis2=-1)
    return _divide(2 * hit, matrix.sum(-1) + matrix.sum(-2))


def mean_over_present(values: PerClass) -> float:
    """The mean without the absent classes (NaN); NaN where every class is absent."""
    return float(np.nanmean(values)) if np.isfinite(values).any() else float("nan")


def mean_iou(matrix: Matrix) -> float:
    """mIoU over the classes that are there; NaN for an empty matrix."""
    return mean_over_present(iou(matrix))


def mean_iou_by_image(matrices: Matrix) -> PerClass:
    """(N, C, C) gives the mIoU of each image over the classes in its truth or prediction; NaN where nothing
    counts."""
    values = iou(matrices)
    present = np.isfinite(values)
    return _divide(np.where(present, values, 0).sum(-1), present.sum(-1))


def pixel_accuracy(matrix: Matrix) -> float:
    """The share of all counted pixels that are right; NaN for an empty matrix."""
    total = matrix.sum()
    return float(np.trace(matrix) / total) if total else float("nan")


def frequency_weighted_iou(matrix: Matrix) -> float:
    """IoU weighted by each class's share of the true pixels; NaN for an empty matrix."""
    total = matrix.sum()
    if not total:
        return float("nan")
    return float(np.nansum(iou(matrix) * (matrix.sum(1) / total)))


def kappa(matrix: Matrix) -> float:
    """Cohen's kappa: how far the agreement goes beyond what the two class frequencies give by chance.

    1 is full agreement, 0 is chance. NaN for an empty matrix, and where one class is all of truth and prediction.
    """
    total = float(matrix.sum())
    if not total:
        return float("nan")
    observed = float(np.trace(matrix)) / total
    by_chance = float((matrix.sum(0) / total) @ (matrix.sum(1) / total))
    return (observed - by_chance) / (1 - by_chance) if by_chance < 1 else float("nan")


class ConstantPrediction(NamedTuple):
    """What a prediction of one class everywhere would score: the floor that any network must clear."""

    class_id: int
    mean_iou: float


def best_constant_prediction(matrix: Matrix) -> ConstantPrediction:
    """The class that scores most when it is predicted everywhere, from the truth's histogram alone (the row
    sums)."""
    histogram = matrix.sum(1)
    total = histogram.sum()
    if not total:
        return ConstantPrediction(0, float("nan"))
    # The winner is in the truth, so the classes that count are those of the truth: one has an IoU, the others
    # 0.
    winner = int(np.argmax(histogram))
    return ConstantPrediction(winner, float(histogram[winner] / total / np.count_nonzero(histogram)))


def _divide(part: NDArray[np.generic], whole: NDArray[np.generic]) -> PerClass:
    result = np.full(np.shape(whole), np.nan)
    np.divide(part, whole, out=result, where=np.asarray(whole) > 0)
    return result
