"""Boundary IoU (Cheng et al., "Boundary IoU: Improving Object-Centric Image Segmentation Evaluation", CVPR 2021).

IoU of a large region hardly changes with its outline. Boundary IoU compares, class by class, only the pixels
within a distance of the regions' outlines: the truth's band with the prediction's band.

The distance is a share of the image's diagonal, in the chessboard metric: as the paper has it, the band is what
an erosion by 3 x 3 pixels, repeated so often, takes away, and the image's edge counts as outline.
"""

import math

import numpy as np
from numpy.typing import NDArray

from components.metrics.confusion import ClassIds
from components.metrics.scores import PerClass

RATIO = 0.02
"""The share of the image's diagonal, as in the paper's code."""

BandCounts = NDArray[np.int64]
"""(..., C, 3) pixels by class: in both bands, in the truth's band, in the prediction's band. Images add up."""


def band_width(height: int, width: int, ratio: float = RATIO) -> int:
    """The distance in pixels, at least 1."""
    return max(1, round(ratio * math.hypot(height, width)))


def boundary_counts(
    label: ClassIds,
    prediction: ClassIds,
    num_classes: int,
    ignore_index: int = 255,
    ratio: float = RATIO,
) -> BandCounts:
    """Count the pixels of both bands of one image.

    Where the label has no truth the prediction is taken to have none either: such pixels are in no band, and an
    outline along them is the same in both.

    Args:
        label, prediction: class ids (H, W); ids of the prediction are below `num_classes`.

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
    """(..., C, 3) counts to the boundary IoU (..., C) of each class; NaN where neither has such a band."""
    both, truth, prediction = (counts[..., number] for number in range(3))
    union = truth + prediction - both
    result = np.full(union.shape, np.nan)
    np.divide(both, union, out=result, where=union > 0)
    return result


def _band(ids: ClassIds, distance: int) -> NDArray[np.bool_]:
    """Pixels with another id, or the image's edge, within `distance`.

    The smallest and the largest id around a pixel differ where its neighbourhood has more than one: so one pass
    does for all classes what an erosion for each of them would.
    """
    import cv2

    around = np.ones((2 * distance + 1,) * 2, np.uint8)
    band: NDArray[np.bool_] = cv2.erode(ids, around) != cv2.dilate(ids, around)
    band[:distance] = band[-distance:] = True
    band[:, :distance] = band[:, -distance:] = True
    return band
