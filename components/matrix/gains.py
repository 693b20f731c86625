"""Compare runs with their supervised baselines seed by seed, to see whether Cross Pseudo Supervision helped."""

import math
import statistics
from collections.abc import Iterable
from dataclasses import dataclass
from fractions import Fraction

from components.matrix.cells import METHODS, Cell, Method, Score

CONFIDENCE = 0.95


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


@dataclass(frozen=True)
class Gain:
    """CPS minus the baseline of the same seed, in mIoU, with a Student t interval over seeds."""

    labeled_ratio: str
    labeled: int
    """Number of labelled images, averaged as in Point."""
    differences: tuple[float, ...]

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

        error = statistics.stdev(self.differences) / math.sqrt(count)
        return float(t.ppf((1 + CONFIDENCE) / 2, count - 1)) * error

    @property
    def verdict(self) -> str:
        """One sentence that claims no more than the seeds support."""
        points, width = 100 * self.mean, self.half_width
        change = "gained" if points >= 0 else "lost"
        if width is None:
            return f"CPS {change} {abs(points):.1f} points with one seed, too few for an interval"
        interval = f"{abs(points):.1f} ± {100 * width:.1f} points"
        if abs(self.mean) > width:
            return f"CPS {change} {interval}"
        return f"no clear difference: CPS {change} {interval}"


def points(scores: Iterable[Score]) -> list[Point]:
    """Return the points of each method by increasing ratio."""
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
    return sorted(found, key=lambda point: (METHODS.index(point.method), Fraction(point.labeled_ratio)))


def gains(scores: Iterable[Score]) -> list[Gain]:
    """Return the gains by increasing ratio, over the seeds for which both CPS and its baseline have a score."""
    by_cell = {score.cell: score for score in scores}
    differences: dict[str, list[tuple[int, float, int]]] = {}
    for cell, score in by_cell.items():
        baseline = by_cell.get(Cell(cell.labeled_ratio, cell.seed, "supervised"))
        if cell.method == "cps" and baseline is not None:
            entry = (cell.seed, score.mean_iou - baseline.mean_iou, score.labeled)
            differences.setdefault(cell.labeled_ratio, []).append(entry)
    found = [
        Gain(
            labeled_ratio=ratio,
            labeled=round(statistics.fmean(labeled for _, _, labeled in entries)),
            differences=tuple(difference for _, difference, _ in sorted(entries)),
        )
        for ratio, entries in differences.items()
    ]
    return sorted(found, key=lambda gain: Fraction(gain.labeled_ratio))
