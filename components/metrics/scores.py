"""Metrics from a confusion matrix (rows: truth, columns: prediction). All but kappa are in [0, 1].

A class that is neither in the truth nor predicted has no IoU: it is NaN and left out of every mean. Counting it as 0
would penalise a network for a class that the images do not show.
"""

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from components.metrics.confusion import ClassCounts, Matrix

PerClass = NDArray[np.float64]


def iou(matrix: Matrix) -> PerClass:
    """Return intersection over union per class, (..., C) from (..., C, C).

    A class absent from both truth and prediction gives NaN.
    """
    hit = np.diagonal(matrix, axis1=-2, axis2=-1)
    union = matrix.sum(-1) + matrix.sum(-2) - hit
    return _divide(hit, union)


def class_accuracy(matrix: Matrix) -> PerClass:
    """Return the share of each class's true pixels that were predicted as such (recall); NaN without true pixels."""
    return _divide(np.diagonal(matrix, axis1=-2, axis2=-1), matrix.sum(-1))


def dice(matrix: Matrix) -> PerClass:
    """Return the Dice coefficient (F1) per class, 2 IoU / (1 + IoU); NaN where `iou` is NaN."""
    hit = np.diagonal(matrix, axis1=-2, axis2=-1)
    return _divide(2 * hit, matrix.sum(-1) + matrix.sum(-2))


def mean_over_present(values: PerClass) -> float:
    """Return the mean over the classes that are not NaN, or NaN if all are."""
    return float(np.nanmean(values)) if np.isfinite(values).any() else float("nan")


def mean_iou(matrix: Matrix) -> float:
    """Return the mean IoU over the classes in the truth or the prediction; NaN for an empty matrix."""
    return mean_over_present(iou(matrix))


def mean_iou_by_image(counts: ClassCounts) -> PerClass:
    """Return the mean IoU of each image, (N,), over the classes in its truth or prediction.

    An image without labelled pixels gives NaN.
    """
    values = _divide(counts.hit, counts.union)
    present = np.isfinite(values)
    return _divide(np.where(present, values, 0).sum(-1), present.sum(-1))


def pixel_accuracy(matrix: Matrix) -> float:
    """Return the share of correctly classified pixels; NaN for an empty matrix."""
    total = matrix.sum()
    return float(np.trace(matrix) / total) if total else float("nan")


def frequency_weighted_iou(matrix: Matrix) -> float:
    """Return the mean IoU weighted by each class's share of the true pixels; NaN for an empty matrix."""
    total = matrix.sum()
    if not total:
        return float("nan")
    return float(np.nansum(iou(matrix) * (matrix.sum(1) / total)))


def kappa(matrix: Matrix) -> float:
    """Return Cohen's kappa: agreement beyond what the class frequencies of truth and prediction give by chance.

    1 is perfect agreement, 0 is chance. NaN for an empty matrix, and if truth and prediction consist of one class.
    """
    total = float(matrix.sum())
    if not total:
        return float("nan")
    observed = float(np.trace(matrix)) / total
    by_chance = float((matrix.sum(0) / total) @ (matrix.sum(1) / total))
    return (observed - by_chance) / (1 - by_chance) if by_chance < 1 else float("nan")


class ConstantPrediction(NamedTuple):
    """The score of predicting one class everywhere: the baseline that any network must beat."""

    class_id: int
    mean_iou: float


def best_constant_prediction(matrix: Matrix) -> ConstantPrediction:
    """Return the class that scores highest if predicted everywhere, from the row sums alone."""
    histogram = matrix.sum(1)
    total = histogram.sum()
    if not total:
        return ConstantPrediction(0, float("nan"))
    # The predicted class is one of the true classes, so the mean is over the true classes: its own IoU and zeros.
    winner = int(np.argmax(histogram))
    return ConstantPrediction(winner, float(histogram[winner] / total / np.count_nonzero(histogram)))


def _divide(part: NDArray[np.generic], whole: NDArray[np.generic]) -> PerClass:
    result = np.full(np.shape(whole), np.nan)
    np.divide(part, whole, out=result, where=np.asarray(whole) > 0)
    return result
