"""Boundary IoU against the paper's definition, one class at a time."""

import math

import cv2
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from components.metrics.boundary import band_width, boundary_counts, boundary_iou

Ids = NDArray[np.uint8]


def band_by_erosion(mask: NDArray[np.bool_], distance: int) -> NDArray[np.bool_]:
    """What `distance` erosions by 3 x 3 take from one class's mask, with nothing beyond the image."""
    framed = np.pad(mask.astype(np.uint8), 1)
    eroded = cv2.erode(framed, np.ones((3, 3), np.uint8), iterations=distance)
    return mask & ~eroded[1:-1, 1:-1].astype(bool)


@st.composite
def masks(draw: st.DrawFn) -> tuple[Ids, Ids, float]:
    """A label with void pixels and a prediction, in blocks, so that there are regions with an inside."""
    random = np.random.default_rng(draw(st.integers(0, 2**32 - 1)))
    height, width = draw(st.tuples(st.integers(1, 40), st.integers(1, 40)))
    block = draw(st.integers(1, 12))
    label, prediction = (
        np.kron(random.integers(0, 4, (height, width)), np.ones((block, block)))[:height, :width].astype(np.uint8)
        for _ in range(2)
    )
    if draw(st.booleans()):
        prediction = np.where(random.random(label.shape) < 0.1, prediction, label)
    label[np.roll(label, draw(st.integers(0, 5)), 1) == 3] = 255
    return label, prediction, draw(st.sampled_from([0.0, 0.02, 0.1, 0.6]))


@settings(max_examples=150, deadline=None)
@given(masks())
def test_equals_an_erosion_for_each_class(case: tuple[Ids, Ids, float]) -> None:
    label, prediction, ratio = case
    counts = boundary_counts(label, prediction, 4, 255, ratio)
    height, width = label.shape
    counted, distance = label != 255, band_width(height, width, ratio)
    for class_id in range(4):
        truth = band_by_erosion(label == class_id, distance)
        predicted = band_by_erosion((prediction == class_id) & counted, distance)
        assert counts[class_id].tolist() == [(truth & predicted).sum(), truth.sum(), predicted.sum()]


def test_a_square_that_is_one_pixel_off() -> None:
    label, prediction = np.zeros((2, 40, 40), np.uint8)
    label[10:30, 10:30] = 1
    prediction[10:30, 11:31] = 1
    # Bands of width 1: the squares' outlines of 76 pixels each share two sides of 19.
    assert band_width(40, 40) == 1
    counts = boundary_counts(label, prediction, 2)
    assert counts[1].tolist() == [38, 76, 76]
    assert boundary_iou(counts)[1] == pytest.approx(38 / 114)


def test_absent_classes_void_and_sums() -> None:
    label = np.zeros((20, 20), np.uint8)
    counts = boundary_counts(label, label, 3)
    assert boundary_iou(counts)[0] == 1
    assert math.isnan(boundary_iou(counts)[1])
    assert boundary_counts(np.full_like(label, 255), label, 3).sum() == 0
    label[:, 10:] = 255
    assert boundary_iou(boundary_counts(label, np.zeros_like(label), 3) + counts)[0] == 1


def test_the_width_is_a_share_of_the_diagonal() -> None:
    assert band_width(1024, 2048) == 46
    assert band_width(3, 4) == 1
    with pytest.raises(ValueError, match="shape"):
        boundary_counts(np.zeros((2, 2), np.uint8), np.zeros((2, 3), np.uint8), 2)
