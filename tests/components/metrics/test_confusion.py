"""The confusion matrix against scikit-learn's, and what it refuses."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from components.metrics.confusion import confusion_matrix


@st.composite
def masks(draw: st.DrawFn) -> tuple[int, NDArray[np.uint8], NDArray[np.uint8]]:
    """Classes, label with void pixels, prediction."""
    classes = draw(st.integers(1, 21))
    seed = draw(st.integers(0, 2**32 - 1))
    height, width = draw(st.tuples(st.integers(1, 24), st.integers(1, 24)))
    random = np.random.default_rng(seed)
    # Some classes stay away, as they do in real images.
    present = random.integers(0, classes, max(1, classes // 2))
    label = random.choice(present, (height, width)).astype(np.uint8)
    label[random.random((height, width)) < draw(st.sampled_from([0.0, 0.2, 1.0]))] = 255
    return classes, label, random.integers(0, classes, (height, width)).astype(np.uint8)


# scikit-learn warns of a single class although `labels` names it.
@pytest.mark.filterwarnings("ignore:A single label was found:UserWarning")
@settings(max_examples=60, deadline=None)
@given(masks())
def test_equals_scikit_learn(case: tuple[int, NDArray[np.uint8], NDArray[np.uint8]]) -> None:
    from sklearn import metrics  # seconds, which other test processes are spared

    classes, label, prediction = case
    matrix = confusion_matrix(label, prediction, classes)
    counted = label != 255
    if counted.any():
        expected = metrics.confusion_matrix(label[counted], prediction[counted], labels=range(classes))
    else:
        expected = np.zeros((classes, classes), int)
    assert matrix.dtype == np.int64
    np.testing.assert_array_equal(matrix, expected)


def test_rows_are_the_truth() -> None:
    matrix = confusion_matrix(np.array([0, 0, 1]), np.array([1, 1, 1]), 2)
    assert matrix.tolist() == [[0, 2], [0, 1]]


def test_an_ignored_id_may_be_a_class() -> None:
    matrix = confusion_matrix(np.array([0, 1]), np.array([0, 0]), 2, ignore_index=0)
    assert matrix.tolist() == [[0, 0], [1, 0]]


def test_images_add_up() -> None:
    random = np.random.default_rng(0)
    label, prediction = random.integers(0, 5, (2, 8, 8)), random.integers(0, 5, (2, 8, 8))
    parts = sum(confusion_matrix(label[number], prediction[number], 5) for number in range(2))
    np.testing.assert_array_equal(confusion_matrix(label, prediction, 5), parts)


@pytest.mark.parametrize(
    ("label", "prediction", "says"),
    [
        ([0, 7], [0, 1], "label id 7"),
        ([0, -1], [0, 1], "label id -1"),
        ([0, 1], [0, 3], "predicted id 3"),
        ([0, 1], [0, -2], "predicted id -2"),
        ([0, 1], [0], "shape"),
    ],
)
def test_ids_outside_the_classes_are_refused(label: list[int], prediction: list[int], says: str) -> None:
    with pytest.raises(ValueError, match=says):
        confusion_matrix(np.array(label), np.array(prediction), 3)
