"""Render the report of a run as one self-contained page."""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from components.evaluation.report import findings
from components.evaluation.report.charts import (
    NARROW,
    VARIANT_NAMES,
    WIDE,
    SmallChart,
    band_key,
    key,
    miou_by_epoch,
    small_chart,
)
from components.evaluation.report.examples import Example, highlights
from components.evaluation.report.progress import Progress
from components.evaluation.verdict import Verdict
from components.labeled_ratio import labels_text
from components.pages.charts import round_ticks
from components.pages.render import percent, points, render
from components.pages.shown import Painter
from components.runs.result import (
    VARIANTS,
    ConfusionMatrix,
    Lead,
    PseudoLabelRecord,
    RunResult,
    TrainingCurve,
)

TEMPLATE = Path(__file__).with_name("report.html.j2")
MATRIX = 16
"""Maximum number of classes in the confusion matrix."""
WHOLE_MATRIX = 40
"""Maximum number of classes for which the whole matrix can be unfolded; its cells would make the page too large."""
LEGEND = 25

MEASURES = (
    ("frequency_weighted_IoU", "frequency-weighted IoU", "IoU weighted by each class’s share of the true pixels"),
    ("mean_Dice", "mean Dice", "per class: twice the correct pixels over true plus predicted pixels (F1)"),
    ("boundary_IoU", "mean boundary IoU", "IoU of the pixels near outlines only"),
    ("pixel_accuracy", "pixel accuracy", "share of all pixels that are correct"),
    ("mean_accuracy", "mean class accuracy", "per class: share of its true pixels that was found"),
)
"""Rows of the table of metrics: key in result.json, name, explanation. All are shares, unlike kappa."""


@dataclass(frozen=True)
class Link:
    """Something that belongs to the run: an address if it can be opened, else how to get it."""

    name: str
    said: str
    address: str = ""
    command: str = ""


@dataclass(frozen=True)
class Parts:
    """The parts of the page that are not in the result."""

    painter: Painter
    examples: Sequence[Example] = ()
    """Worst first."""
    facts: Sequence[tuple[str, str]] = ()
    """The protocol as (name, value), in display order."""
    links: Sequence[Link] = ()
    progress: Progress | None = None
    curve: TrainingCurve | None = None
    pseudo_labels: PseudoLabelRecord | None = None
    """If training could compare them with hidden labels."""


def render_report(result: RunResult, verdict: Verdict, parts: Parts) -> str:
    """Return the page as HTML."""
    painter, figures = parts.painter, result.best.per_class
    per_class = sorted((item for item in figures if item.iou is not None), key=lambda item: -(item.iou or 0))
    ids = {name: number for number, name in enumerate(painter.names)}
    audit = parts.pseudo_labels if parts.pseudo_labels and parts.pseudo_labels.epochs else None
    return render(
        TEMPLATE,
        result=result,
        shown_classes=painter.classes,
        findings=findings,
        verdict=findings.judge(result),
        title=f"{result.dataset.name} with {labels_text(result.labeled_ratio)}",
        examples=parts.examples,
        highlights=highlights(parts.examples),
        legend=[
            (ids[item.name], item.name, painter.colors[item.name], percent(item.iou, 0)) for item in per_class[:LEGEND]
        ],
        tracks=_tracks(result),
        sides=[(VARIANT_NAMES[item.over.variant], item, _below(item)) for item in result.variants],
        columns=[("validation", result.best), *([("test", result.test)] if result.test else [])],
        measures=MEASURES,
        # A wide and a narrow drawing, so that text keeps its size on a phone. The page's CSS shows one of them.
        charts=(("wide", miou_by_epoch(verdict, *WIDE)), ("narrow", miou_by_epoch(verdict, *NARROW))),
        chart_keys=[
            *((key(variant), VARIANT_NAMES[variant]) for variant in reversed(VARIANTS)),
            (band_key(verdict.best.variant), f"95 % interval, {VARIANT_NAMES[verdict.best.variant]}"),
        ],
        small_charts=_small_charts(result, parts.curve, audit),
        rows=verdict.rows,
        best=verdict.best,
        variants=VARIANTS,
        per_class=per_class,
        absent=[item.name for item in figures if item.iou is None],
        colors=painter.colors,
        taken_for=findings.taken_for(result.confusion_matrix),
        mistakes=findings.mistakes(result.confusion_matrix),
        heat=heat_map(result.confusion_matrix, MATRIX),
        whole_heat=heat_map(result.confusion_matrix) if MATRIX < len(figures) <= WHOLE_MATRIX else (),
        audit=audit,
        progress=parts.progress,
        links=parts.links,
        facts=parts.facts,
    )


@dataclass(frozen=True)
class Track:
    """A value with its interval on an axis, in percent of the axis's length; `low` and `width` are 0 if unknown."""

    name: str
    value: float | None
    place: float
    low: float = 0.0
    width: float = 0.0


def _tracks(result: RunResult) -> tuple[list[Track], list[tuple[float, str]]]:
    """Return the mIoU and what it must beat on a common axis from zero, and the ticks of the axis."""
    best, test = result.best, result.test
    rows = [(VARIANT_NAMES[best.variant], best.mIoU, best.mIoU_low, best.mIoU_high)]
    if test is not None:
        rows.append(("test list, scored once", test.mIoU, test.mIoU_low, test.mIoU_high))
    if result.baseline is not None:
        gain = result.baseline
        rows.append(("supervised baseline", gain.mIoU, gain.mIoU_low, gain.mIoU_high))
    rows.append((f"always “{result.constant_prediction_class}”", result.constant_prediction_mIoU, None, None))
    high = max(value for _, *values in rows for value in values if value is not None)
    ticks = round_ticks(0, 100 * high, 4)
    end = ticks[-1]
    tracks = [
        Track(
            name,
            value,
            100 * 100 * (value or 0) / end,
            0.0 if low is None else 100 * 100 * low / end,
            0.0 if low is None or upper is None else 100 * 100 * (upper - low) / end,
        )
        for name, value, low, upper in rows
    ]
    return tracks, [(100 * tick / end, f"{tick:g}") for tick in ticks]


def _below(lead: Lead) -> str:
    """Return how far another variant is below the best one."""
    difference = points(abs(lead.difference or 0.0)).removeprefix("+") + " points below"
    if lead.difference_low is None:
        return difference
    return f"{difference}, {'clear' if lead.is_clear else 'not clear'}"


def _small_charts(result: RunResult, curve: TrainingCurve | None, audit: PseudoLabelRecord | None) -> list[SmallChart]:
    charts: list[SmallChart | None] = []
    if curve is not None and curve.points:
        at = [(point.step / curve.steps_per_epoch, point) for point in curve.points]
        losses = {"supervised": [(epoch, point.loss_supervised) for epoch, point in at]}
        if any(point.loss_cross for point in curve.points):
            losses["cross pseudo supervision"] = [(epoch, point.loss_cross) for epoch, point in at]
        power = math.floor(math.log10(max(max(point.learning_rate for point in curve.points), 1e-12)))
        rates = [(epoch, point.learning_rate / 10**power) for epoch, point in at]
        charts.append(small_chart("Losses", "", losses))
        charts.append(small_chart("Learning rate", f"× {10.0**power:g}", {"learning rate": rates}))
    if audit is not None:
        shares = {
            "correct": [(float(found.epoch), _percent(found.accuracy)) for found in audit.epochs],
            "left and right agree": [(float(found.epoch), _percent(found.agreement)) for found in audit.epochs],
        }
        charts.insert(1, small_chart("Pseudo labels", "% of pixels", shares))
    agreed = [(float(row.epoch), 100 * row.agreement) for row in result.checkpoints if row.agreement is not None]
    if len(agreed) > 1:
        title = "Agreement on validation images, without labels"
        charts.append(small_chart(title, "% of pixels", {"left and right agree": agreed}))
    return [chart for chart in charts if chart is not None]


def _percent(share: float | None) -> float:
    return math.nan if share is None else 100 * share


@dataclass(frozen=True)
class HeatCell:
    predicted: str
    share: float | None
    """Of the true class's pixels; None where it has none."""
    own: bool
    """Whether truth and prediction are the same class."""

    @property
    def strong(self) -> bool:
        return self.share is not None and self.share > 0.5


@dataclass(frozen=True)
class HeatRow:
    """A true class: its pixels, and their shares by predicted class."""

    name: str
    cells: tuple[HeatCell, ...]
    pixels: int


def heat_map(confusion: ConfusionMatrix, most: int = 0) -> list[HeatRow]:
    """Return a row per true class with the shares of its pixels by predicted class.

    With more than `most` classes, unless that is 0, only those with the most wrong pixels are rows and columns.
    """
    count = len(confusion.classes)
    shown = findings.costliest(confusion, 12) if most and count > most else range(count)
    rows = []
    for row in shown:
        name, counts = confusion.classes[row], confusion.matrix[row]
        total = sum(counts)
        cells = tuple(
            HeatCell(confusion.classes[column], counts[column] / total if total else None, own=row == column)
            for column in shown
        )
        rows.append(HeatRow(name, cells, total))
    return rows
