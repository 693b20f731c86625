"""Orders are functions of the seed and the step: complete, repeatable, and never an image with itself."""

from collections import Counter

import pytest
from hypothesis import given
from hypothesis import strategies as st

from components.errors import UserError
from components.training.sampling import labeled_indices, unlabeled_pairs


@given(count=st.integers(2, 40), seed=st.integers(0, 5), batch=st.integers(1, 9))
def test_no_image_is_paired_with_itself_and_each_comes_once_a_pass(count, seed, batch):
    steps = -(-3 * count // batch)
    pairs = [pair for step in range(steps) for pair in unlabeled_pairs(count, seed, step, batch)]
    assert all(first != second for first, second in pairs)
    for number in range(3):
        passed = pairs[number * count : (number + 1) * count]
        assert Counter(first for first, _ in passed) == Counter(range(count))
        assert Counter(second for _, second in passed) == Counter(range(count))


def test_labeled_list_repeats_in_a_new_order_each_pass():
    indices = [index for step in range(6) for index in labeled_indices(8, 3, step, 4)]
    passes = [tuple(indices[start : start + 8]) for start in (0, 8, 16)]
    assert all(sorted(one) == list(range(8)) for one in passes)
    assert len(set(passes)) == 3


def test_seeds_and_steps_decide_alone():
    assert unlabeled_pairs(50, 1, 7, 4) == unlabeled_pairs(50, 1, 7, 4)
    assert unlabeled_pairs(50, 1, 7, 4) != unlabeled_pairs(50, 2, 7, 4)


def test_one_unlabelled_image_is_refused():
    with pytest.raises(UserError, match="needs 2 unlabelled images, there is 1"):
        unlabeled_pairs(1, 0, 0, 1)
