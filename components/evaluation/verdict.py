"""Which checkpoint is best, which of its networks, and how sure that is: a pure function of the scores."""

import math
from collections.abc import Sequence
from dataclasses import dataclass

from components.errors import WorkFailed
from components.evaluation.scores import Scores
from components.metrics.bootstrap import Bootstrap, Interval, interval
from components.runs.result import VARIANTS, Variant


@dataclass(frozen=True)
class Row:
    """One checkpoint's mIoU, in [0, 1], for each variant, and the 95 % interval of the winner's variant."""

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
    """How far the best is above another one on the same images, with the paired difference's 95 % interval."""

    over: Choice
    difference: float
    interval: Interval

    @property
    def clear(self) -> bool:
        """Whether the interval leaves out a lead of nothing."""
        return self.interval.low > 0


@dataclass(frozen=True)
class Verdict:
    best: Choice
    interval: Interval
    """95 %, of the best one's mIoU."""
    last: Choice
    """The last checkpoint, in the best one's variant: what training would have left without a sweep."""
    lead: Lead | None
    """Over the last; None where the best is the last."""
    variants: tuple[Lead, ...]
    """Over the other two variants of the same checkpoint."""
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
    choices = [
        Choice(item.epoch, item.step, variant, item.mean_iou(variant)) for variant in VARIANTS for item in ordered
    ]
    choices = [choice for choice in choices if math.isfinite(choice.mean_iou)]
    if not choices:
        raise WorkFailed("no validation pixel has a label, so no checkpoint has an mIoU")
    # max() keeps the first of equals, and the choices are in the order of preference.
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
                f"the scores of epochs {first.epoch} and {other.epoch} were taken on other images or with other "
                "settings and cannot be compared: remove them and evaluate again"
            )
