"""Which checkpoint is best, and which of its networks: a pure function of the scores."""

import math
from collections.abc import Sequence
from dataclasses import dataclass

from components.errors import WorkFailed
from components.evaluation.scores import VARIANTS, Scores, Variant


@dataclass(frozen=True)
class Row:
    """One checkpoint's mIoU, in [0, 1], for each variant."""

    epoch: int
    step: int
    mean_iou: dict[Variant, float]


@dataclass(frozen=True)
class Choice:
    epoch: int
    step: int
    variant: Variant
    mean_iou: float


@dataclass(frozen=True)
class Verdict:
    best: Choice
    last: Choice
    """The last checkpoint, in the best one's variant: what training would have left without a sweep."""
    rows: tuple[Row, ...]
    """By epoch."""


def decide(scores: Sequence[Scores]) -> Verdict:
    """The highest mIoU wins. Among equals a single network is preferred to the average of two, which costs
    twice as much to use, and then the earlier epoch.

    Raises:
        WorkFailed: there are no scores, they were not taken in one way, or none has an mIoU.
    """
    if not scores:
        raise WorkFailed("no checkpoint has been scored, so there is none to choose")
    ordered = sorted(scores, key=lambda item: item.epoch)
    _check_comparable(ordered)
    rows = tuple(
        Row(item.epoch, item.step, {variant: item.mean_iou(variant) for variant in VARIANTS}) for item in ordered
    )
    choices = [
        Choice(row.epoch, row.step, variant, row.mean_iou[variant])
        for variant in VARIANTS
        for row in rows
        if math.isfinite(row.mean_iou[variant])
    ]
    if not choices:
        raise WorkFailed("no validation pixel has a label, so no checkpoint has an mIoU")
    # max() keeps the first of equals, and the choices are in the order of preference.
    best = max(choices, key=lambda choice: choice.mean_iou)
    last = rows[-1]
    return Verdict(best, Choice(last.epoch, last.step, best.variant, last.mean_iou[best.variant]), rows)


def _check_comparable(scores: Sequence[Scores]) -> None:
    first = scores[0]
    for other in scores[1:]:
        if (other.protocol, other.images) != (first.protocol, first.images):
            raise WorkFailed(
                f"the scores of epochs {first.epoch} and {other.epoch} were taken on other images or with other "
                "settings and cannot be compared: remove them and evaluate again"
            )
