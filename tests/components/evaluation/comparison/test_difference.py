"""The paired comparison of two runs, from their stored scores."""

import json
from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from components.errors import UserError, WorkFailed
from components.evaluation.comparison.difference import run_difference
from components.evaluation.comparison.draws import last_draws
from components.evaluation.scores import Counts, Protocol, Scores, pack
from components.metrics.bootstrap import interval
from components.runs.record import DatasetRef
from components.storage import keys
from components.storage.client import Store
from tests.run_objects import make_best, make_result

PROTOCOL = Protocol("f" * 64, ("road", "sky"), 255, (32, 48), (32, 24), "paddle")
HARD = np.random.default_rng(0).uniform(0.3, 0.8, 60)


def put_run(store: Store, key: str, right: Any, images: tuple[str, ...] = (), **changes: Any) -> None:
    """A finished run whose best network gets the share `right` of each image's pixels right."""
    hits = np.round(1000 * np.asarray(right)).astype(int)
    matrices = np.array([[[hit, 1000 - hit], [1000 - hit, hit]] for hit in hits])
    names = images or tuple(f"{number}.jpg" for number in range(len(hits)))
    bands = np.ones((len(hits), 2, 3), np.int64)
    protocol = replace(PROTOCOL, **changes.pop("protocol", {}))
    counts = Counts.of_images(matrices, bands)
    scores = Scores(6, 60, "a" * 64, protocol, names, {"ensemble": counts}, changes.pop("near_copies", ()))
    store.put_bytes(keys.scores(key, 6), pack(scores))
    result = make_result(key, best=make_best(mIoU=scores.mean_iou("ensemble")), images=len(hits), **changes)
    store.put_json(keys.run(key, "result.json"), result.model_dump(mode="json"))


def test_a_difference_that_every_image_shows_is_clear_whatever_the_order(store: Store) -> None:
    put_run(store, "a", HARD + 0.05)
    put_run(store, "b", HARD[::-1], tuple(f"{number}.jpg" for number in range(60))[::-1])
    found = run_difference(store, "a", "b")
    assert 0 < found.low < found.difference < found.high < 0.1
    assert found.verdict == "a is better than b on these images"
    assert run_difference(store, "b", "a").verdict == found.verdict
    assert found.notes == ()
    assert json.loads(found.as_json())["first"]["run_key"] == "a"


def test_frames_of_a_clip_are_drawn_in_blocks_whichever_run_knows_of_them(store: Store) -> None:
    """The lead comes from the first half of a clip: single frames make it look sure, blocks of frames do not."""
    names = tuple(f"clip_{number:03d}.jpg" for number in range(60))
    lead = np.where(np.arange(60) < 15, 0.12, -0.02)
    put_run(store, "a", HARD + lead, names)
    put_run(store, "b", HARD, names)
    single = run_difference(store, "a", "b")
    assert (single.blocks, single.sequences) == (60, 0)
    put_run(store, "a", (HARD + lead)[::-1], names[::-1], near_copies=names[1:])
    for pair in (("a", "b"), ("b", "a")):
        found = run_difference(store, *pair)
        assert (found.blocks, found.sequences) == (8, 1)
        assert found.low < 0 < found.high
        assert found.high - found.low > 1.5 * (single.high - single.low)


def test_noise_is_not_called_better(store: Store) -> None:
    put_run(store, "a", HARD + np.random.default_rng(1).normal(0, 0.05, 60))
    put_run(store, "b", HARD + np.random.default_rng(2).normal(0, 0.05, 60), split="6" * 64)
    found = run_difference(store, "a", "b")
    assert found.low < 0 < found.high
    assert found.verdict.startswith("the interval includes 0")
    assert "different splits" in found.notes[0]


def test_a_single_image_has_no_interval(store: Store) -> None:
    for key in "ab":
        put_run(store, key, HARD[:1], protocol={"flip": key == "a"})
    found = run_difference(store, "a", "b")
    assert json.loads(found.as_json())["low"] is None
    assert found.verdict.startswith("a single image")
    assert found.notes == ("the images were scored with a different flip",)
    for key in "ab":
        put_run(store, key, HARD[:3], ("Seq05VD_f00030.png", "Seq05VD_f00060.png", "Seq05VD_f00090.png"))
    assert (run_difference(store, "a", "b").blocks, run_difference(store, "a", "b").sequences) == (3, 1)


@pytest.mark.parametrize(
    ("count", "verdict"), [(9, "9 images are too few to tell which run is better"), (10, "a is better")]
)
def test_a_clear_lead_on_few_images_names_no_winner(store: Store, count: int, verdict: str) -> None:
    put_run(store, "a", HARD[:count] + 0.05)
    put_run(store, "b", HARD[:count])
    found = run_difference(store, "a", "b")
    assert found.low > 0
    assert found.verdict.startswith(verdict)


def test_runs_that_cannot_be_compared_are_refused_in_one_line(store: Store) -> None:
    put_run(store, "a", HARD)
    put_run(store, "fewer", HARD[:30])
    put_run(store, "elsewhere", HARD, dataset=DatasetRef(digest="2" * 64, name="camvid"))
    put_run(store, "classes", HARD, protocol={"classes": ("road", "car")})
    for other, reason in (
        ("fewer", "share 30 of 60 and 30 validation images"),
        ("elsewhere", "different datasets"),
        ("classes", "different classes"),
        ("unfinished", "no result yet: finish it with `cps run --resume unfinished`"),
    ):
        with pytest.raises(UserError, match=reason):
            run_difference(store, "a", other)
    store.remove(keys.scores("fewer", 6))
    with pytest.raises(WorkFailed, match=r"missing: `cps run --resume fewer` scores it again"):
        run_difference(store, "a", "fewer")


def test_the_draws_of_two_runs_give_the_interval_of_their_difference(store: Store) -> None:
    put_run(store, "a", HARD + 0.05)
    put_run(store, "b", HARD)
    found, draws = run_difference(store, "a", "b"), [last_draws(store, key) for key in "ab"]
    assert draws[0] is not None
    assert draws[1] is not None
    assert draws[0].drawn_from == draws[1].drawn_from
    assert interval(draws[0].values - draws[1].values) == (found.low, found.high)
    put_run(store, "c", HARD[:59])
    other = last_draws(store, "c")
    assert other is not None
    assert other.drawn_from != draws[0].drawn_from
    store.remove(keys.scores("c", 6))
    assert last_draws(store, "c") is None
