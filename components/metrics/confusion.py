"""The confusion matrix, from which all metrics but boundary IoU are computed. Matrices add up over images."""

from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

ClassIds = NDArray[np.unsignedinteger[Any]]
Matrix = NDArray[np.int64]


class ClassCounts(NamedTuple):
    """Pixels per class of N images, (N, C) int64 each: all that IoU needs, at 3 C instead of C * C numbers an image."""

    hit: NDArray[np.int64]
    """Correctly classified pixels: the diagonal of each image's confusion matrix."""
    truth: NDArray[np.int64]
    """Pixels of the class in the label: the rows' sums."""
    predicted: NDArray[np.int64]
    """Labelled pixels that were predicted as the class: the columns' sums."""

    @property
    def union(self) -> NDArray[np.int64]:
        union: NDArray[np.int64] = self.truth + self.predicted - self.hit
        return union


def class_counts(matrices: Matrix) -> ClassCounts:
    """Return the counts of images from their confusion matrices, (N, C, C)."""
    return ClassCounts(np.diagonal(matrices, axis1=1, axis2=2).copy(), matrices.sum(axis=2), matrices.sum(axis=1))


def confusion_matrix(
    label: NDArray[np.integer[Any]],
    prediction: NDArray[np.integer[Any]],
    num_classes: int,
    ignore_index: int = 255,
) -> Matrix:
    """Count pixels by (true class, predicted class).

    Args:
        label: class ids of any shape; `ignore_index` marks pixels without ground truth, which are not counted.
        prediction: class ids of the same shape, each below `num_classes`.

    Returns:
        int64 of shape (num_classes, num_classes); rows are true classes, columns are predicted classes.

    Raises:
        ValueError: the shapes differ, or an id is outside the classes.
    """
    if label.shape != prediction.shape:
        raise ValueError(f"label of shape {label.shape} and prediction of shape {prediction.shape}")
    if label.size == 0:
        return np.zeros((num_classes, num_classes), np.int64)
    _check_range(prediction, num_classes)
    if label.min() < 0:
        raise ValueError(f"label id {label.min()} is negative")
    # Ignored pixels land in rows below the matrix, which is cheaper than filtering them out first.
    pairs = label.astype(np.intp)
    pairs *= num_classes
    pairs += prediction
    return matrix_of_pairs(np.bincount(pairs.ravel(), minlength=num_classes * num_classes), num_classes, ignore_index)


def matrix_of_pairs(counts: NDArray[np.int64], num_classes: int, ignore_index: int) -> Matrix:
    """Return the confusion matrix from the counts of (label * num_classes + prediction), as `confusion_matrix` does."""
    _check_rest(counts, num_classes, ignore_index)
    matrix = counts[: num_classes * num_classes].reshape(num_classes, num_classes).astype(np.int64)
    if 0 <= ignore_index < num_classes:
        matrix[ignore_index] = 0
    return matrix


def _check_range(prediction: NDArray[np.integer[Any]], num_classes: int) -> None:
    if prediction.min() < 0 or prediction.max() >= num_classes:
        found = prediction.min() if prediction.min() < 0 else prediction.max()
        raise ValueError(f"predicted id {found} is outside the {num_classes} classes")


def _check_rest(counts: NDArray[np.int64], num_classes: int, ignore_index: int) -> None:
    """Check that every count below the matrix belongs to the ignored id."""
    rest = np.unique(np.flatnonzero(counts[num_classes * num_classes :]) // num_classes) + num_classes
    wrong = rest[rest != ignore_index]
    if wrong.size:
        raise ValueError(f"label id {wrong[0]} is outside the {num_classes} classes and is not {ignore_index}")
