"""Compare the runs of methods with those of a reference seed by seed, to see whether a method helps."""

import math
import statistics
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from fractions import Fraction
from typing import Literal, NamedTuple

import numpy as np

from components.matrix.cells import CPS, SUPERVISED, Cell, Method, Score, settings_of
from components.metrics.bootstrap import LEVEL, interval

CONFIDENCE = LEVEL
NAMES = {CPS: "CPS", SUPERVISED: "supervised baseline"}

Call = Literal["clear gain", "clear loss", "not clear", "one seed"]


def name_of(method: Method) -> str:
    """Return a method's name for readers: a recipe's is its own, and settings are spaced so that lines can break."""
    return " ".join(lines_of(method))


def lines_of(method: Method) -> list[str]:
    """Return the same name in lines, one for each setting of the method."""
    first, *others = settings_of(method)
    return [NAMES.get(first, first), *(f"+ {setting}" for setting in others)]


@dataclass(frozen=True)
class Point:
    """The scores of one method at one ratio."""

    labeled_ratio: str
    labeled: int
    """Number of labelled images, averaged and rounded if it differs between seeds, as in splits by group."""
    method: Method
    values: tuple[float, ...]
    """mIoU in [0, 1], by seed."""

    @property
    def mean(self) -> float:
        return statistics.fmean(self.values)

    @property
    def spread(self) -> float | None:
        """Standard deviation over seeds, or None for a single seed."""
        return statistics.stdev(self.values) if len(self.values) > 1 else None


class OverImages(NamedTuple):
    """The bootstrap interval of a mean gain over validation images, or blocks of frames, and its two-sided p-value."""

    low: float
    high: float
    p_value: float


@dataclass(frozen=True)
class Gain:
    """A method minus the reference of the same seed, in mIoU, with a Student t interval over seeds."""

    labeled_ratio: str
    labeled: int
    """Number of labelled images, averaged as in Point."""
    differences: tuple[float, ...]
    method: Method = CPS
    reference: Method = SUPERVISED
    images: OverImages | None = None
    """None if the runs' scores are unknown, or not on the same images."""
    corrected_p: float | None = None
    """`p_value` with Holm's correction for all gains of the matrix; None before it."""
    notes: tuple[str, ...] = ()
    """Other differences between the runs and their references, which the gain may come from."""

    @property
    def mean(self) -> float:
        return statistics.fmean(self.differences)

    @property
    def half_width(self) -> float | None:
        """Half the width of the 95 % interval, or None for a single seed, which shows no variation."""
        count = len(self.differences)
        if count < 2:
            return None
        from scipy.stats import t

        return float(t.ppf((1 + CONFIDENCE) / 2, count - 1)) * self._error

    @property
    def p_value(self) -> float | None:
        """The larger p-value of the gain over seeds and over images, or None for a single seed.

        A gain must be significant in both tests at the same level: an intersection-union test (Berger, 1982), whose
        p-value is the larger one.
        """
        count = len(self.differences)
        if count < 2:
            return None
        from scipy.stats import t

        over_seeds = float(2 * t.sf(abs(self.mean) / self._error, count - 1)) if self._error else float(not self.mean)
        return max(over_seeds, self.images.p_value) if self.images else over_seeds

    @property
    def call(self) -> Call:
        """Whether the gain or loss is clear, after Holm's correction."""
        p_value = self.p_value if self.corrected_p is None else self.corrected_p
        if p_value is None:
            return "one seed"
        if p_value >= 1 - CONFIDENCE:
            return "not clear"
        return "clear gain" if self.mean > 0 else "clear loss"

    @property
    def verdict(self) -> str:
        """One sentence that claims no more than seeds and images support."""
        points, width, name = 100 * self.mean, self.half_width, name_of(self.method)
        change = "gained" if points >= 0 else "lost"
        if width is None:
            return f"{name} {change} {abs(points):.1f} points with one seed, too few for an interval"
        said = f"{name} {change} {abs(points):.1f} ± {100 * width:.1f} points"
        if self.call != "not clear":
            return said
        return f"no clear difference: {said}{self._doubt(width)}"

    def _doubt(self, width: float) -> str:
        """Return why a gain is not clear although its interval over seeds excludes zero."""
        if abs(self.mean) <= width:
            return ""
        if self.images and self.images.low <= 0 <= self.images.high:
            return f", but {100 * self.images.low:+.1f} to {100 * self.images.high:+.1f} on other images"
        return ", but not after the correction for all comparisons"

    @property
    def _error(self) -> float:
        return statistics.stdev(self.differences) / math.sqrt(len(self.differences))


def points(scores: Iterable[Score]) -> list[Point]:
    """Return the points of each method by increasing ratio, the supervised baseline last."""
    groups: dict[tuple[Method, str], list[Score]] = {}
    for score in scores:
        groups.setdefault((score.cell.method, score.cell.labeled_ratio), []).append(score)
    found = [
        Point(
            labeled_ratio=ratio,
            labeled=round(statistics.fmean(score.labeled for score in group)),
            method=method,
            values=tuple(score.mean_iou for score in sorted(group, key=lambda score: score.cell.seed)),
        )
        for (method, ratio), group in groups.items()
    ]
    order = list(dict.fromkeys(method for method, _ in groups))
    order.sort(key=lambda method: method == SUPERVISED)
    return sorted(found, key=lambda point: (order.index(point.method), Fraction(point.labeled_ratio)))


def gains(scores: Iterable[Score], reference: Method = SUPERVISED) -> list[Gain]:
    """Return the gains over `reference` by method and increasing ratio, with Holm's correction.

    Each is over the seeds for which both the method and the reference have a score.
    """
    by_cell = {score.cell: score for score in scores}
    pairs: dict[tuple[Method, str], list[tuple[Score, Score]]] = {}
    for cell, score in sorted(by_cell.items(), key=lambda item: item[0].seed):
        other = by_cell.get(Cell(cell.labeled_ratio, cell.seed, reference))
        if cell.method != reference and other is not None:
            pairs.setdefault((cell.method, cell.labeled_ratio), []).append((score, other))
    found = [
        Gain(
            labeled_ratio=ratio,
            labeled=round(statistics.fmean(score.labeled for score, _ in own)),
            differences=tuple(score.mean_iou - other.mean_iou for score, other in own),
            method=method,
            reference=reference,
            images=_over_images(own),
            notes=_notes(own, reference),
        )
        for (method, ratio), own in pairs.items()
    ]
    order = list(dict.fromkeys(cell.method for cell in by_cell))
    return _corrected(sorted(found, key=lambda gain: (order.index(gain.method), Fraction(gain.labeled_ratio))))


def holm(p_values: Sequence[float]) -> list[float]:
    """Return p-values corrected for the number of comparisons (Holm, 1979), each at most 1.

    If those below 0.05 are called significant, the chance that any of them is so by chance is below 0.05.
    """
    order = sorted(range(len(p_values)), key=lambda place: p_values[place])
    corrected, least = [0.0] * len(p_values), 0.0
    for rank, place in enumerate(order):
        least = max(least, min(1.0, (len(p_values) - rank) * p_values[place]))
        corrected[place] = least
    return corrected


def _corrected(found: Sequence[Gain]) -> list[Gain]:
    tested = {place: gain.p_value for place, gain in enumerate(found) if gain.p_value is not None}
    by_place = dict(zip(tested, holm(list(tested.values())), strict=True))
    return [replace(gain, corrected_p=by_place.get(place)) for place, gain in enumerate(found)]


def _over_images(pairs: Sequence[tuple[Score, Score]]) -> OverImages | None:
    """Return the interval of the mean gain over seeds, with the same images drawn for all runs."""
    draws = [score.draws for pair in pairs for score in pair]
    known = [item for item in draws if item is not None]
    if len(known) < len(draws) or len({item.drawn_from for item in known}) > 1:
        return None
    differences = [one.values - other.values for one, other in zip(known[::2], known[1::2], strict=True)]
    mean = np.mean(differences, axis=0)
    mean = mean[np.isfinite(mean)]
    if not mean.size:
        return None
    low, high = interval(mean)
    # One more draw on each side, because no finite number of draws shows that something never happens.
    beyond = 1 + min(np.count_nonzero(mean <= 0), np.count_nonzero(mean >= 0))
    return OverImages(low, high, min(1.0, 2 * beyond / (len(mean) + 1)))


def _notes(pairs: Sequence[tuple[Score, Score]], reference: Method) -> tuple[str, ...]:
    found, name = [], name_of(reference)
    if any(score.split != other.split for score, other in pairs):
        found.append(f"not the same labelled images as the {name}")
    steps = sorted({(score.steps, other.steps) for score, other in pairs if score.steps != other.steps})
    found += [f"{own:,} steps, but the {name} {others:,}" for own, others in steps[:1]]
    return tuple(found)
