"""The choice of the best checkpoint, the file of scores, and the shards of the fan-out."""

import io
import json
import math
import weakref
from collections.abc import Iterator
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray

from components.errors import UserError, WorkFailed
from components.evaluation.scores import Counts, Protocol, Scores, pack, unpack
from components.evaluation.sweep import parse_shard
from components.evaluation.verdict import Choice, decide
from components.runs.result import VARIANTS

PROTOCOL = Protocol("f" * 64, ("road", "sky"), 255, (32, 48), (32, 24), "paddle")


def matrix(percent: int) -> NDArray[np.int64]:
    """One image whose mIoU is `percent`."""
    return np.array([[[percent, 100 - percent], [0, 0]]]) if percent < 100 else np.array([[[100, 0], [0, 0]]])


def scores(epoch: int, left: int, right: int, mean: int) -> Scores:
    bands = np.array([[[1, 2, 3], [0, 0, 0]]])
    percents = zip(VARIANTS, (left, right, mean), strict=True)
    counts = {variant: Counts.of_images(matrix(percent), bands) for variant, percent in percents}
    return Scores(epoch, 10 * epoch, "c" * 64, PROTOCOL, ("a.jpg",), counts)


def many_images(epoch: int, **shares: float) -> Scores:
    """Sixty images that differ in how hard they are; `shares` is added to each one's share of right pixels."""
    hard = np.random.default_rng(0).uniform(0.3, 0.8, 60)
    counts = {}
    for number, variant in enumerate(VARIANTS):
        noise = np.random.default_rng([epoch, number]).normal(0, 0.02, 60)
        right = np.round(1000 * np.clip(hard + noise + shares.get(variant, 0), 0, 1)).astype(int)
        matrices = np.array([[[hit, 1000 - hit], [1000 - hit, hit]] for hit in right])
        counts[variant] = Counts.of_images(matrices, np.ones((60, 2, 3), np.int64))
    return Scores(epoch, epoch, "c" * 64, PROTOCOL, tuple(map(str, range(60))), counts)


def assert_same_counts(found: Counts, expected: Counts) -> None:
    np.testing.assert_array_equal(found.total, expected.total)
    np.testing.assert_array_equal(found.by_image, expected.by_image)
    np.testing.assert_array_equal(found.bands, expected.bands)


def about(value: float) -> Any:
    return pytest.approx(value)


def test_the_highest_wins_whatever_the_order() -> None:
    verdict = decide([scores(9, 20, 30, 10), scores(3, 40, 60, 50), scores(6, 10, 10, 10)])
    assert verdict.best == Choice(3, 30, "right", about(0.3))  # half of 60 %: the class sky scores 0
    assert verdict.last == Choice(9, 90, "right", about(0.15))
    assert [row.epoch for row in verdict.rows] == [3, 6, 9]


def test_among_equals_one_network_and_the_earlier_epoch() -> None:
    verdict = decide([scores(1, 10, 50, 50), scores(2, 50, 50, 50), scores(3, 50, 50, 50)])
    assert (verdict.best.epoch, verdict.best.variant) == (2, "left")


def test_one_checkpoint_is_best_and_last() -> None:
    verdict = decide([scores(5, 10, 20, 30)])
    assert verdict.best == verdict.last == Choice(5, 50, "ensemble", about(0.15))


def test_a_clear_lead_and_one_that_is_not() -> None:
    verdict = decide([many_images(1, left=0.05), many_images(2)])
    assert (verdict.best.epoch, verdict.best.variant) == (1, "left")
    assert verdict.interval.low < verdict.best.mean_iou < verdict.interval.high
    assert verdict.lead is not None
    assert verdict.lead.over == verdict.last
    assert verdict.lead.difference == pytest.approx(verdict.best.mean_iou - verdict.last.mean_iou)
    assert 0 < verdict.lead.interval.low < verdict.lead.difference < verdict.lead.interval.high
    assert verdict.lead.clear
    # Paired: hard images are hard for both, so the difference is surer than either figure.
    assert np.diff(verdict.lead.interval)[0] < np.diff(verdict.interval)[0] / 3
    assert [lead.over.variant for lead in verdict.variants] == ["right", "ensemble"]
    assert all(lead.over.epoch == 1 and lead.clear for lead in verdict.variants)

    close = decide([many_images(1), many_images(2)])
    assert close.lead is None or not close.lead.clear


def test_no_lead_of_the_last_over_itself_and_no_interval_from_one_image() -> None:
    verdict = decide([scores(1, 10, 10, 10), scores(2, 20, 10, 10)])
    assert verdict.lead is None
    assert all(math.isnan(value) for value in (*verdict.interval, *verdict.rows[0].interval))
    assert not verdict.variants[0].clear


@given(st.lists(st.tuples(*[st.integers(0, 100)] * 3), min_size=1, max_size=30))
def test_nothing_beats_the_best(rows: list[tuple[int, int, int]]) -> None:
    given_scores = [scores(epoch, *row) for epoch, row in enumerate(rows)]
    best = decide(given_scores).best
    figures = [item.mean_iou(variant) for item in given_scores for variant in VARIANTS]
    assert best.mean_iou == max(figures)


def test_no_scores_and_nothing_to_compare() -> None:
    with pytest.raises(WorkFailed, match="no checkpoint"):
        decide([])
    nothing = dict.fromkeys(VARIANTS, Counts.zeros(1, 2))
    with pytest.raises(WorkFailed, match="no validation pixel"):
        decide([replace(scores(1, 1, 1, 1), counts=nothing)])
    other = replace(scores(2, 1, 1, 1), protocol=replace(PROTOCOL, stride=(32, 48)))
    with pytest.raises(WorkFailed, match="epochs 1 and 2"):
        decide([scores(1, 1, 1, 1), other])
    with pytest.raises(WorkFailed, match="epochs 1 and 2"):
        decide([scores(1, 1, 1, 1), many_images(2)])


def test_scores_come_back_from_their_file() -> None:
    before = scores(4, 10, 20, 30)
    after = unpack(pack(before), "x")
    assert after is not None
    assert replace(after, counts={}) == replace(before, counts={})
    for variant in VARIANTS:
        assert_same_counts(after.counts[variant], before.counts[variant])
        assert after.total(variant).dtype == np.int64


def test_scores_with_a_matrix_per_image_are_read() -> None:
    """Format 3, which a sweep that an older version began has left in the store."""
    before, matrices = many_images(2), np.random.default_rng(0).integers(0, 9, (60, 2, 2))
    bands = np.random.default_rng(1).integers(0, 9, (60, 2, 3))
    with np.load(io.BytesIO(pack(before))) as file:
        meta = json.loads(str(file["meta"])) | {"format": 3}
    arrays: dict[str, Any] = dict.fromkeys(VARIANTS, matrices) | {f"bands-{variant}": bands for variant in VARIANTS}
    buffer = io.BytesIO()
    np.savez_compressed(buffer, meta=np.array(json.dumps(meta)), **arrays)
    after = unpack(buffer.getvalue(), "x")
    assert after is not None
    assert after.images == before.images
    for variant in VARIANTS:
        assert_same_counts(after.counts[variant], Counts.of_images(matrices, bands))


def test_a_verdict_keeps_no_checkpoints_scores() -> None:
    """Thousands of images with many classes do not fit in memory for all checkpoints at once."""
    alive: list[weakref.ref[Scores]] = []

    def given_scores() -> Iterator[Scores]:
        for epoch in range(4):
            assert [ref for ref in alive if ref() is not None] == []
            item = many_images(epoch)
            alive.append(weakref.ref(item))
            yield item
            del item

    assert len(decide(given_scores()).rows) == 4


def test_scores_of_one_network_and_scores_in_another_format() -> None:
    whole = scores(4, 10, 20, 30)
    left = replace(whole, counts={"left": whole.counts["left"]})
    after = unpack(pack(left), "x")
    assert after is not None
    assert list(after.counts) == ["left"]
    buffer = io.BytesIO()
    np.savez_compressed(buffer, meta=np.array('{"format": 1}'))
    assert unpack(buffer.getvalue(), "x") is None


@pytest.mark.parametrize("size", [0, 10, 400])
def test_a_broken_scores_file_is_named(size: int) -> None:
    with pytest.raises(WorkFailed, match=r"s3://b/k is not a scores file"):
        unpack(pack(scores(4, 10, 20, 30))[:size], "s3://b/k")


@given(st.integers(1, 256), st.one_of(st.sampled_from([1, 2, 7, 240]), st.integers(0, 300)))
def test_shards_share_everything_out_once(total: int, items: int) -> None:
    parts = [parse_shard(f"{number}/{total}").take(range(items)) for number in range(total)]
    assert sorted(item for part in parts for item in part) == list(range(items))
    assert max(map(len, parts)) - min(map(len, parts)) <= 1


@pytest.mark.parametrize("text", ["", "1", "2/2", "-1/2", "0/0", "a/b", "1/2/3", "0.5/2"])
def test_malformed_shards(text: str) -> None:
    with pytest.raises(UserError, match="must be i/n"):
        parse_shard(text)
