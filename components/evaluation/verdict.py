"""Choose the best checkpoint and network from the scores, with intervals. Pure functions."""

import math
from collections.abc import Sequence
from dataclasses import dataclass

from components.errors import WorkFailed
from components.evaluation.scores import Scores
from components.metrics.bootstrap import Bootstrap, Interval, interval
from components.runs.result import VARIANTS, Variant


@dataclass(frozen=True)
class Row:
    """One checkpoint: mIoU in [0, 1] of each variant, and the 95 % interval of the best checkpoint's variant."""

    epoch: int
    step: int
    mean_iou: dict[Variant, float]
    interval: Interval


@dataclass(frozen=True)
class Choice:
    epoch: int
    step: int
    variant: Variant
    mean_iou: float


@dataclass(frozen=True)
class Lead:
    """The lead of the best over another one on the same images, with the 95 % interval of the paired difference."""

    over: Choice
    difference: float
    interval: Interval

    @property
    def clear(self) -> bool:
        """Whether the whole interval lies above zero."""
        return self.interval.low > 0


@dataclass(frozen=True)
class Verdict:
    best: Choice
    interval: Interval
    """95 % interval of the best mIoU."""
    last: Choice
    """The last checkpoint in the winner's variant, which would be the result without a sweep."""
    lead: Lead | None
    """Lead over the last checkpoint, or None if the best one is the last."""
    variants: tuple[Lead, ...]
    """Leads over the other two variants of the same checkpoint."""
    rows: tuple[Row, ...]
    """Ordered by epoch."""


def decide(scores: Sequence[Scores]) -> Verdict:
    """Choose the highest mIoU.

    A tie goes to a single network rather than the average of both, which costs twice as much to run, and then to the
    earlier epoch.

    Raises:
        WorkFailed: there are no scores, they were measured in different ways, or none has an mIoU.
    """
    if not scores:
        raise WorkFailed("no checkpoint has been scored, so none can be selected")
    ordered = sorted(scores, key=lambda item: item.epoch)
    _check_comparable(ordered)
    choices = [
        Choice(item.epoch, item.step, variant, item.mean_iou(variant)) for variant in VARIANTS for item in ordered
    ]
    choices = [choice for choice in choices if math.isfinite(choice.mean_iou)]
    if not choices:
        raise WorkFailed("no validation pixel has a label, so the mIoU is undefined")
    # max() returns the first of equal values, and the choices are in order of preference.
    best = max(choices, key=lambda choice: choice.mean_iou)
    winner = next(item for item in ordered if item.epoch == best.epoch)
    draws = Bootstrap(len(winner.images))
    drawn = draws.mean_iou(winner.matrices[best.variant])

    def lead(other: Scores, variant: Variant) -> Lead:
        over = Choice(other.epoch, other.step, variant, other.mean_iou(variant))
        found = interval(drawn - draws.mean_iou(other.matrices[variant]))
        return Lead(over, best.mean_iou - over.mean_iou, found)

    last = ordered[-1]
    return Verdict(
        best=best,
        interval=interval(drawn),
        last=Choice(last.epoch, last.step, best.variant, last.mean_iou(best.variant)),
        lead=None if last is winner else lead(last, best.variant),
        variants=tuple(lead(winner, variant) for variant in VARIANTS if variant != best.variant),
        rows=tuple(
            Row(
                item.epoch,
                item.step,
                {variant: item.mean_iou(variant) for variant in VARIANTS},
                interval(draws.mean_iou(item.matrices[best.variant])),
            )
            for item in ordered
        ),
    )


def _check_comparable(scores: Sequence[Scores]) -> None:
    first = scores[0]
    for other in scores[1:]:
        if (other.protocol, other.images) != (first.protocol, first.images):
            raise WorkFailed(
                f"the scores of epochs {first.epoch} and {other.epoch} come from different images or settings and "
                "cannot be compared: remove them and evaluate again"
            )
