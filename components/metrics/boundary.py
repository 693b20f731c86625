"""Boundary IoU (Cheng et al., "Boundary IoU: Improving Object-Centric Image Segmentation Evaluation", CVPR 2021).

The IoU of a large region barely depends on its outline. Boundary IoU therefore compares, for each class, only the
pixels within some distance of an outline: the band of the truth with the band of the prediction.

The distance is a share of the image's diagonal, in the chessboard metric. As in the paper, the band holds the pixels
that repeated erosion by 3 x 3 pixels removes, and the image's edge counts as an outline.
"""

import math

import numpy as np
from numpy.typing import NDArray

from components.metrics.confusion import ClassIds
from components.metrics.scores import PerClass

RATIO = 0.02
"""Width of the band as a share of the image's diagonal, as in the paper's code."""

BandCounts = NDArray[np.int64]
"""(..., C, 3) pixels per class: in both bands, in the truth's band, in the prediction's. Counts add up over images."""


def band_width(height: int, width: int, ratio: float = RATIO) -> int:
    """Return the width of the band in pixels, at least 1."""
    return max(1, round(ratio * math.hypot(height, width)))


def boundary_counts(
    label: ClassIds,
    prediction: ClassIds,
    num_classes: int,
    ignore_index: int = 255,
    ratio: float = RATIO,
) -> BandCounts:
    """Count the pixels in the bands of one image.

    Pixels without ground truth are ignored in the prediction too: they belong to no band, and an outline along them is
    the same in label and prediction.

    Args:
        label: class ids (H, W); `ignore_index` marks pixels without ground truth.
        prediction: class ids (H, W) below `num_classes`.

    Returns:
        (num_classes, 3) int64.
    """
    if label.shape != prediction.shape:
        raise ValueError(f"label of shape {label.shape} and prediction of shape {prediction.shape}")
    void = label == ignore_index
    distance = band_width(label.shape[0], label.shape[1], ratio)
    truth_band = _band(label, distance) & ~void
    predicted = np.where(void, label, prediction)
    prediction_band = _band(predicted, distance) & ~void
    both = truth_band & prediction_band & (label == predicted)
    return np.stack(
        [
            np.bincount(label[both], minlength=num_classes),
            np.bincount(label[truth_band], minlength=num_classes),
            np.bincount(predicted[prediction_band], minlength=num_classes),
        ],
        axis=1,
    ).astype(np.int64)


def boundary_iou(counts: BandCounts) -> PerClass:
    """Return the boundary IoU (..., C) of each class from counts (..., C, 3); NaN if neither side has a band."""
    both, truth, prediction = (counts[..., number] for number in range(3))
    union = truth + prediction - both
    result = np.full(union.shape, np.nan)
    np.divide(both, union, out=result, where=union > 0)
    return result


def _band(ids: ClassIds, distance: int) -> NDArray[np.bool_]:
    """Mark the pixels within `distance` of another id or of the image's edge.

    A pixel near another id has different smallest and largest ids around it, so one pass finds the bands of all classes
    without an erosion for each.
    """
    import cv2

    around = np.ones((2 * distance + 1,) * 2, np.uint8)
    band: NDArray[np.bool_] = cv2.erode(ids, around) != cv2.dilate(ids, around)
    band[:distance] = band[-distance:] = True
    band[:, :distance] = band[:, -distance:] = True
    return band
