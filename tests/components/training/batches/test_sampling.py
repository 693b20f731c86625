"""Orders are functions of the seed and the step: complete, repeatable, and never an image with itself."""

from collections import Counter

import pytest
from hypothesis import given
from hypothesis import strategies as st

from components.errors import UserError
from components.training.batches.data import Share
from components.training.batches.sampling import labeled_indices, unlabeled_pairs


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


@given(count=st.integers(2, 40), each=st.integers(1, 4), processes=st.integers(1, 6), step=st.integers(0, 50))
def test_processes_share_a_step_without_overlap_and_in_one_order(count, each, processes, step):
    batch = each * processes
    shares = [Share(rank, processes).slots(batch) for rank in range(processes)]
    assert [slot for share in shares for slot in share] == list(range(batch))
    for drawn in (labeled_indices(count, 0, step, batch), unlabeled_pairs(count, 0, step, batch)):
        # What all processes see in a step is what one alone would: so their number may change at any step.
        assert [drawn[slot] for share in shares for slot in share] == drawn


@given(count=st.integers(8, 40), each=st.integers(1, 3), processes=st.integers(1, 4), seed=st.integers(0, 3))
def test_all_processes_together_walk_each_pass_once_and_in_a_new_order(count, each, processes, seed):
    batch = each * processes
    seen = [
        drawn[slot]
        for drawn in (unlabeled_pairs(count, seed, step, batch) for step in range(-(-2 * count // batch)))
        for rank in range(processes)
        for slot in Share(rank, processes).slots(batch)
    ]
    first, second = seen[:count], seen[count : 2 * count]
    assert Counter(image for image, _ in first) == Counter(image for image, _ in second) == Counter(range(count))
    assert first != second


def test_seeds_and_steps_decide_alone():
    assert unlabeled_pairs(50, 1, 7, 4) == unlabeled_pairs(50, 1, 7, 4)
    assert unlabeled_pairs(50, 1, 7, 4) != unlabeled_pairs(50, 2, 7, 4)


def test_one_unlabelled_image_is_refused():
    with pytest.raises(UserError, match="needs at least 2 unlabelled images, and there is 1"):
        unlabeled_pairs(1, 0, 0, 1)
