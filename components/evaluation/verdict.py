"""Choose the best checkpoint and network from the scores, with intervals. Pure functions.

The scores may come from a generator: they are used one after the other, and only a few numbers of each are kept.
"""

import math
from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from components.errors import WorkFailed
from components.evaluation.scores import Protocol, Scores
from components.metrics.bootstrap import Bootstrap, Interval, interval
from components.metrics.scores import PerClass, iou
from components.runs.result import VARIANTS, Variant


@dataclass(frozen=True)
class Row:
    """One checkpoint: its mIoU in [0, 1] for each variant."""

    epoch: int
    step: int
    mean_iou: dict[Variant, float]
    interval: Interval
    """95 % interval of the best checkpoint's variant."""
    class_iou: PerClass
    """(C,), in [0, 1], of that variant."""
    agreement: float | None = None
    """As in Scores."""


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


@dataclass(frozen=True)
class _Scored:
    """The part of a checkpoint's scores that a verdict needs."""

    epoch: int
    step: int
    protocol: Protocol
    images: tuple[str, ...]
    mean_iou: dict[Variant, float]
    class_iou: dict[Variant, PerClass]
    draws: dict[Variant, NDArray[np.float64]]
    """The mean IoU of each bootstrap draw."""
    agreement: float | None

    def choice(self, variant: Variant) -> Choice:
        return Choice(self.epoch, self.step, variant, self.mean_iou[variant])


def decide(scores: Iterable[Scores]) -> Verdict:
    """Choose the highest mIoU.

    A tie goes to a single network rather than the average of both, which costs twice as much to run, and then to the
    earlier epoch.

    Raises:
        WorkFailed: there are no scores, they were measured in different ways, or none has an mIoU.
    """
    ordered = sorted(map(_Drawing(), scores), key=lambda item: item.epoch)
    if not ordered:
        raise WorkFailed("no checkpoint has been scored, so none can be selected")
    choices = [item.choice(variant) for variant in VARIANTS for item in ordered]
    choices = [choice for choice in choices if math.isfinite(choice.mean_iou)]
    if not choices:
        raise WorkFailed("no validation pixel has a label, so the mIoU is undefined")
    # max() returns the first of equal values, and the choices are in order of preference.
    best = max(choices, key=lambda choice: choice.mean_iou)
    winner = next(item for item in ordered if item.epoch == best.epoch)

    def lead(other: _Scored, variant: Variant) -> Lead:
        over = other.choice(variant)
        found = interval(winner.draws[best.variant] - other.draws[variant])
        return Lead(over, best.mean_iou - over.mean_iou, found)

    last = ordered[-1]
    return Verdict(
        best=best,
        interval=interval(winner.draws[best.variant]),
        last=last.choice(best.variant),
        lead=None if last is winner else lead(last, best.variant),
        variants=tuple(lead(winner, variant) for variant in VARIANTS if variant != best.variant),
        rows=tuple(
            Row(
                item.epoch,
                item.step,
                item.mean_iou,
                interval(item.draws[best.variant]),
                item.class_iou[best.variant],
                item.agreement,
            )
            for item in ordered
        ),
    )


class _Drawing:
    """Resamples the images of all checkpoints in the same way, so that differences are paired."""

    def __init__(self) -> None:
        self._first: _Scored | None = None
        self._draws: Bootstrap | None = None

    def __call__(self, scores: Scores) -> _Scored:
        """Return what the verdict needs. Raises WorkFailed if the scores are not comparable with the first ones."""
        if self._first is not None:
            _check_comparable(self._first, scores)
        draws = self._draws = self._draws or scores.bootstrap()
        scored = _Scored(
            scores.epoch,
            scores.step,
            scores.protocol,
            scores.images if self._first is None else self._first.images,
            {variant: scores.mean_iou(variant) for variant in VARIANTS},
            {variant: iou(scores.total(variant)) for variant in VARIANTS},
            {variant: draws.mean_iou(scores.counts[variant].by_image) for variant in VARIANTS},
            scores.agreement,
        )
        self._first = self._first or scored
        return scored


def _check_comparable(first: _Scored, other: Scores) -> None:
    if (other.protocol, other.images) != (first.protocol, first.images):
        raise WorkFailed(
            f"the scores of epochs {first.epoch} and {other.epoch} come from different images or settings and "
            "cannot be compared: remove them and evaluate again"
        )
