"""Figures from confusion matrices, against plain loops and scikit-learn."""

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from numpy.typing import NDArray
from sklearn.metrics import jaccard_score

from components.metrics.confusion import confusion_matrix
from components.metrics.scores import (
    best_constant_prediction,
    class_accuracy,
    frequency_weighted_iou,
    iou,
    mean_iou,
    mean_iou_by_image,
    pixel_accuracy,
)

matrices = st.integers(1, 6).flatmap(lambda n: arrays(np.int64, (n, n), elements=st.sampled_from([0, 0, 1, 7, 500])))


def iou_by_loop(matrix: NDArray[np.int64]) -> list[float]:
    values = []
    for number in range(len(matrix)):
        hit = int(matrix[number, number])
        union = int(matrix[number, :].sum()) + int(matrix[:, number].sum()) - hit
        values.append(hit / union if union else math.nan)
    return values


@given(matrices)
def test_iou_by_definition(matrix: NDArray[np.int64]) -> None:
    expected = iou_by_loop(matrix)
    np.testing.assert_allclose(iou(matrix), expected)
    there = [value for value in expected if not math.isnan(value)]
    assert mean_iou(matrix) == pytest.approx(sum(there) / len(there) if there else math.nan, nan_ok=True)
    np.testing.assert_allclose(mean_iou_by_image(matrix[None]), [mean_iou(matrix)])


def test_equals_scikit_learn() -> None:
    random = np.random.default_rng(3)
    label, prediction = random.integers(0, 4, 500), random.integers(0, 4, 500)
    matrix = confusion_matrix(label, prediction, 4)
    np.testing.assert_allclose(iou(matrix), jaccard_score(label, prediction, average=None))
    assert mean_iou(matrix) == pytest.approx(jaccard_score(label, prediction, average="macro"))
    assert frequency_weighted_iou(matrix) == pytest.approx(jaccard_score(label, prediction, average="weighted"))
    assert pixel_accuracy(matrix) == pytest.approx((label == prediction).mean())


def test_an_absent_class_is_left_out_of_the_mean() -> None:
    matrix = np.array([[8, 2, 0], [0, 10, 0], [0, 0, 0]])
    assert math.isnan(iou(matrix)[2])
    assert mean_iou(matrix) == pytest.approx((8 / 10 + 10 / 12) / 2)


def test_a_class_that_is_only_predicted_counts_as_zero() -> None:
    matrix = np.array([[8, 2], [0, 0]])
    assert iou(matrix)[1] == 0
    assert math.isnan(class_accuracy(matrix)[1])
    assert mean_iou(matrix) == pytest.approx(0.4)


def test_nothing_to_count() -> None:
    empty = np.zeros((3, 3), np.int64)
    assert math.isnan(mean_iou(empty))
    assert math.isnan(pixel_accuracy(empty))
    assert math.isnan(frequency_weighted_iou(empty))
    assert math.isnan(best_constant_prediction(empty).mean_iou)


@given(st.lists(st.integers(0, 50), min_size=1, max_size=8).filter(any))
def test_the_best_constant_is_the_best_of_all_constants(histogram: list[int]) -> None:
    scores = []
    for class_id in range(len(histogram)):
        constant = np.zeros((len(histogram),) * 2, np.int64)
        constant[:, class_id] = histogram
        scores.append(mean_iou(constant))
    # Any prediction of the same labels has the same row sums.
    found = best_constant_prediction(np.diag(histogram))
    assert found.mean_iou == pytest.approx(max(scores))
    assert scores[found.class_id] == pytest.approx(max(scores))
