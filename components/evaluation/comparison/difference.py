"""Compare the best results of two runs on the same images, with the interval of the paired difference."""

import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING

import numpy as np

from components.errors import UserError, WorkFailed
from components.evaluation.comparison.blocks import image_blocks
from components.evaluation.scores import Scores, unpack
from components.metrics.bootstrap import FEW_IMAGES, Bootstrap, Interval, interval
from components.metrics.confusion import ClassCounts
from components.runs.result import RunResult, find_result
from components.storage import keys
from components.storage.client import MissingObject

if TYPE_CHECKING:
    from components.storage.client import Store


@dataclass(frozen=True)
class Side:
    """One of the two runs: its best checkpoint, and mIoUs in [0, 1]."""

    run_key: str
    epoch: int
    variant: str
    mIoU: float  # noqa: N815 - the field's usual spelling
    mIoU_low: float | None  # noqa: N815
    mIoU_high: float | None  # noqa: N815


@dataclass(frozen=True)
class RunDifference:
    """The difference in mIoU of two runs on the same images, in [-1, 1]."""

    first: Side
    second: Side
    images: int
    blocks: int
    """Number of blocks of frames and single images that were resampled; `images` if no images are frames."""
    sequences: int
    difference: float
    """`first` minus `second`."""
    low: float
    high: float
    """`low` to `high` is the 95 % interval from blocks drawn for both runs; NaN for a single block."""
    notes: tuple[str, ...]
    """Other differences between the runs, which the difference in mIoU may come from."""

    @property
    def verdict(self) -> str:
        """Say in words what the interval means."""
        if 1 < self.images < FEW_IMAGES:
            return f"{self.images} images are too few to tell which run is better"
        if self.low > 0 or self.high < 0:
            better, other = (self.first, self.second) if self.low > 0 else (self.second, self.first)
            return f"{better.run_key} is better than {other.run_key} on these images"
        if np.isnan(self.low):
            single = "a single block of frames" if self.sequences else "a single image"
            return f"{single} does not tell which run is better"
        return "the interval includes 0: these images do not tell which run is better"

    def as_json(self) -> str:
        values = {name: None if value != value else value for name, value in asdict(self).items()}
        return json.dumps({**values, "verdict": self.verdict}, indent=2)


def run_difference(store: "Store", first: str, second: str) -> RunDifference:
    """Compare the best checkpoints of two finished runs on the images that both were scored on.

    Raises:
        UserError: a run is not finished, or the runs were scored on different images or classes.
        WorkFailed: scores are missing or unreadable.
    """
    results = [_result(store, key) for key in (first, second)]
    return difference_of(results, [scores_of(store, result) for result in results])


def difference_of(results: Sequence[RunResult], scores: Sequence[Scores]) -> RunDifference:
    """Compare two results, given the scores of their best checkpoints. Raises UserError as `run_difference` does."""
    _check_comparable(results, scores)
    counts = [_in_order(found, result, scores[0].images) for found, result in zip(scores, results, strict=True)]
    # Scores of an earlier version do not tell near copies.
    near = {image for item in scores for image in item.near_copies}
    blocks = image_blocks(scores[0].images, near)
    draws = Bootstrap(len(scores[0].images), blocks=blocks.of_image)
    found: Interval = interval(draws.mean_iou(counts[0]) - draws.mean_iou(counts[1]))
    values = [result.best.mIoU or 0.0 for result in results]
    return RunDifference(
        first=_side(results[0]),
        second=_side(results[1]),
        images=len(scores[0].images),
        blocks=blocks.count,
        sequences=blocks.sequences,
        difference=values[0] - values[1],
        low=found.low,
        high=found.high,
        notes=_notes(results, scores),
    )


def _result(store: "Store", run_key: str) -> RunResult:
    result = find_result(store, run_key)
    if result is None:
        raise UserError(f"run {run_key} has no result yet: finish it with `cps run --resume {run_key}`")
    return result


def scores_of(store: "Store", result: RunResult) -> Scores:
    """Return the scores of a result's best checkpoint. Raises WorkFailed if they are missing or of another one."""
    key = keys.scores(result.run_key, result.best.epoch)
    advice = f"`cps run --resume {result.run_key}` scores it again"
    try:
        found = unpack(store.get_bytes(key), store.uri(key))
    except MissingObject:
        raise WorkFailed(f"{store.uri(key)} is missing: {advice}") from None
    if found is None or found.checkpoint_sha256 != result.protocol.checkpoint_sha256:
        raise WorkFailed(f"{store.uri(key)} does not belong to the run's result: {advice}")
    return found


def _check_comparable(results: Sequence[RunResult], scores: Sequence[Scores]) -> None:
    one, other = results
    if one.dataset.digest != other.dataset.digest:
        raise UserError(
            f"{one.run_key} and {other.run_key} were scored on different datasets ({one.dataset.name}, "
            f"{one.dataset.digest[:8]}, and {other.dataset.name}, {other.dataset.digest[:8]}): "
            "only runs on the same images can be compared"
        )
    first, second = scores
    if set(first.images) != set(second.images):
        shared = len(set(first.images) & set(second.images))
        raise UserError(
            f"{one.run_key} and {other.run_key} share {shared} of {len(first.images)} and {len(second.images)} "
            "validation images: only runs on the same images can be compared"
        )
    if first.protocol.classes != second.protocol.classes:
        raise UserError(f"{one.run_key} and {other.run_key} have different classes and cannot be compared")


def _in_order(scores: Scores, result: RunResult, images: tuple[str, ...]) -> ClassCounts:
    """Return the winner's counts of each image, (N, C) each, in the order of `images`."""
    places = {name: number for number, name in enumerate(scores.images)}
    order = [places[name] for name in images]
    return ClassCounts(*(values[order] for values in scores.counts[result.best.variant].by_image))


def _side(result: RunResult) -> Side:
    best = result.best
    return Side(result.run_key, best.epoch, best.variant, best.mIoU or 0.0, best.mIoU_low, best.mIoU_high)


def _notes(results: Sequence[RunResult], scores: Sequence[Scores]) -> tuple[str, ...]:
    one, other = results
    found = []
    if one.split != other.split:
        found.append(
            f"the runs have different splits (labels {one.labeled_ratio}, seed {one.seed}, and labels "
            f"{other.labeled_ratio}, seed {other.seed}); the interval covers the choice of images only"
        )
    first, second = (asdict(item.protocol) for item in scores)
    differing = [name for name in first if name not in ("split", "classes") and first[name] != second[name]]
    if differing:
        found.append(f"the images were scored with a different {', '.join(differing)}")
    return tuple(found)
