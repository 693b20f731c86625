"""The choice of the best checkpoint, the file of scores, and the shards of the fan-out."""

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray

from components.errors import UserError, WorkFailed
from components.evaluation.scores import VARIANTS, Protocol, Scores, pack, unpack
from components.evaluation.shards import parse_shard
from components.evaluation.verdict import Choice, decide

PROTOCOL = Protocol("f" * 64, ("road", "sky"), 255, (32, 48), (32, 24), "paddle")


def matrix(percent: int) -> NDArray[np.int64]:
    """One image whose mIoU is `percent`."""
    return np.array([[[percent, 100 - percent], [0, 0]]]) if percent < 100 else np.array([[[100, 0], [0, 0]]])


def scores(epoch: int, left: int, right: int, mean: int) -> Scores:
    matrices = dict(zip(VARIANTS, map(matrix, (left, right, mean)), strict=True))
    return Scores(epoch, 10 * epoch, "c" * 64, PROTOCOL, ("a.jpg",), matrices)


def test_the_highest_wins_whatever_the_order() -> None:
    verdict = decide([scores(9, 20, 30, 10), scores(3, 40, 60, 50), scores(6, 10, 10, 10)])
    assert verdict.best == Choice(3, 30, "right", pytest.approx(0.3))  # half of 60 %: the class sky scores 0
    assert verdict.last == Choice(9, 90, "right", pytest.approx(0.15))
    assert [row.epoch for row in verdict.rows] == [3, 6, 9]


def test_among_equals_one_network_and_the_earlier_epoch() -> None:
    verdict = decide([scores(1, 10, 50, 50), scores(2, 50, 50, 50), scores(3, 50, 50, 50)])
    assert (verdict.best.epoch, verdict.best.variant) == (2, "left")


def test_one_checkpoint_is_best_and_last() -> None:
    verdict = decide([scores(5, 10, 20, 30)])
    assert verdict.best == verdict.last == Choice(5, 50, "mean", pytest.approx(0.15))


@given(st.lists(st.tuples(*[st.integers(0, 100)] * 3), min_size=1, max_size=30))
def test_nothing_beats_the_best(rows: list[tuple[int, int, int]]) -> None:
    given_scores = [scores(epoch, *row) for epoch, row in enumerate(rows)]
    best = decide(given_scores).best
    figures = [item.mean_iou(variant) for item in given_scores for variant in VARIANTS]
    assert best.mean_iou == max(figures)


def test_no_scores_and_nothing_to_compare() -> None:
    with pytest.raises(WorkFailed, match="no checkpoint"):
        decide([])
    nothing = dict.fromkeys(VARIANTS, np.zeros((1, 2, 2), np.int64))
    with pytest.raises(WorkFailed, match="no validation pixel"):
        decide([replace(scores(1, 1, 1, 1), matrices=nothing)])
    other = replace(scores(2, 1, 1, 1), protocol=replace(PROTOCOL, stride=(32, 48)))
    with pytest.raises(WorkFailed, match="epochs 1 and 2"):
        decide([scores(1, 1, 1, 1), other])


def test_scores_come_back_from_their_file() -> None:
    before = scores(4, 10, 20, 30)
    after = unpack(pack(before), "x")
    assert replace(after, matrices={}) == replace(before, matrices={})
    for variant in VARIANTS:
        np.testing.assert_array_equal(after.matrices[variant], before.matrices[variant])
        assert after.matrices[variant].dtype == np.int64


@pytest.mark.parametrize("size", [0, 10, 400])
def test_a_broken_scores_file_is_named(size: int) -> None:
    with pytest.raises(WorkFailed, match=r"s3://b/k is no scores file"):
        unpack(pack(scores(4, 10, 20, 30))[:size], "s3://b/k")


@given(st.integers(1, 12), st.integers(0, 40))
def test_shards_share_everything_out_once(total: int, items: int) -> None:
    parts = [parse_shard(f"{number}/{total}").take(range(items)) for number in range(total)]
    assert sorted(item for part in parts for item in part) == list(range(items))
    assert max(map(len, parts)) - min(map(len, parts)) <= 1


@pytest.mark.parametrize("text", ["", "1", "2/2", "-1/2", "0/0", "a/b", "1/2/3", "0.5/2"])
def test_malformed_shards(text: str) -> None:
    with pytest.raises(UserError, match="must be i/n"):
        parse_shard(text)
