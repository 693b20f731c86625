"""Figures from confusion matrices, against plain loops and scikit-learn."""

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from numpy.typing import NDArray

from components.metrics.confusion import class_counts, confusion_matrix
from components.metrics.scores import (
    best_constant_prediction,
    class_accuracy,
    dice,
    frequency_weighted_iou,
    iou,
    kappa,
    mean_iou,
    mean_iou_by_image,
    mean_over_present,
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
    np.testing.assert_allclose(mean_iou_by_image(class_counts(matrix[None])), [mean_iou(matrix)])


def test_equals_scikit_learn() -> None:
    from sklearn.metrics import cohen_kappa_score, f1_score, jaccard_score

    random = np.random.default_rng(3)
    label, prediction = random.integers(0, 4, 500), random.integers(0, 4, 500)
    matrix = confusion_matrix(label, prediction, 4)
    np.testing.assert_allclose(iou(matrix), jaccard_score(label, prediction, average=None))
    assert mean_iou(matrix) == pytest.approx(jaccard_score(label, prediction, average="macro"))
    assert frequency_weighted_iou(matrix) == pytest.approx(jaccard_score(label, prediction, average="weighted"))
    assert pixel_accuracy(matrix) == pytest.approx((label == prediction).mean())
    np.testing.assert_allclose(dice(matrix), f1_score(label, prediction, average=None))
    assert kappa(matrix) == pytest.approx(cohen_kappa_score(label, prediction))


def test_equals_paddleseg_where_every_class_is_there() -> None:
    """Its figures of an absent class are 0 and stay in its means; its per-class accuracy is the precision."""
    import paddle
    from paddleseg.utils import metrics

    matrix = np.random.default_rng(7).integers(1, 900, (6, 6))
    hit, truth, predicted = (paddle.to_tensor(values) for values in (np.diag(matrix), matrix.sum(1), matrix.sum(0)))
    ious, miou = metrics.mean_iou(hit, predicted, truth)
    np.testing.assert_allclose(iou(matrix), ious)
    assert mean_iou(matrix) == pytest.approx(miou)
    np.testing.assert_allclose(dice(matrix), metrics.dice(hit, predicted, truth)[0])
    assert kappa(matrix) == pytest.approx(metrics.kappa(hit, predicted, truth))
    accuracy, _, recall = metrics.class_measurement(hit, predicted, truth)
    np.testing.assert_allclose(class_accuracy(matrix), recall)
    assert pixel_accuracy(matrix) == pytest.approx(accuracy)


@given(matrices)
def test_dice_follows_from_iou(matrix: NDArray[np.int64]) -> None:
    np.testing.assert_allclose(dice(matrix), 2 * iou(matrix) / (1 + iou(matrix)))


def test_kappa_is_one_for_agreement_and_none_for_chance() -> None:
    assert kappa(np.diag([3, 5, 0])) == 1
    assert kappa(np.array([[8, 2], [8, 2]])) == pytest.approx(0)
    assert math.isnan(kappa(np.array([[9, 0], [0, 0]])))


def test_absent_classes_leave_the_mean_of_the_others() -> None:
    assert mean_over_present(np.array([0.5, math.nan, 1.0])) == 0.75


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
    assert math.isnan(kappa(empty))
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
