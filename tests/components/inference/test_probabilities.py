"""Softmax, the average of two networks, and the most likely class."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from components.inference.probabilities import mean_probabilities, most_likely, predicted_classes, softmax


@given(st.integers(1, 30), st.integers(0, 2**32 - 1), st.booleans())
def test_most_likely_is_argmax(classes: int, seed: int, ties: bool) -> None:
    random = np.random.default_rng(seed)
    values = random.normal(size=(classes, 5, 6)).astype(np.float32)
    if ties:
        values = values.round()
    np.testing.assert_array_equal(most_likely(values), values.argmax(axis=0))


def test_many_classes_need_two_bytes() -> None:
    values = np.random.default_rng(0).normal(size=(300, 4, 4)).astype(np.float32)
    found = most_likely(values)
    assert found.dtype == np.uint16
    np.testing.assert_array_equal(found, values.argmax(axis=0))


def test_softmax_of_large_logits() -> None:
    found = softmax(np.array([[1000.0], [1000.0], [-1000.0]], np.float32))
    np.testing.assert_allclose(found, [[0.5], [0.5], [0.0]])


def test_the_mean_is_of_probabilities_and_not_of_logits() -> None:
    # The left network is sure of class 0 beyond measure; the average of logits would follow it.
    left = np.array([9.0, 0.0, 0.0], np.float32).reshape(3, 1, 1)
    right = np.array([-9.0, 9.0, 0.0], np.float32).reshape(3, 1, 1)
    probabilities = mean_probabilities([left, right])
    expected = [(np.exp(a) / np.exp(a).sum()) for a in (left.ravel(), right.ravel())]
    np.testing.assert_allclose(probabilities.ravel(), np.mean(expected, axis=0), rtol=1e-5)
    assert probabilities.sum() == pytest.approx(1)
    assert predicted_classes([left, right])[0, 0] == np.mean(expected, axis=0).argmax()
