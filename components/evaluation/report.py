"""Render the report of a run as one self-contained page."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from markupsafe import Markup

from components.contract import Class
from components.evaluation.charts import VARIANT_NAMES, band_key, key, miou_by_epoch, shares_by_epoch
from components.evaluation.examples import Example
from components.evaluation.verdict import Verdict
from components.labeled_ratio import labels_text
from components.pages.render import render
from components.runs.result import (
    VARIANTS,
    ConfusionMatrix,
    PseudoLabelEpoch,
    PseudoLabelRecord,
    RunResult,
    Variant,
    useless_text,
)

TEMPLATE = Path(__file__).with_name("report.html.j2")


MEASURES = (
    ("frequency_weighted_IoU", "frequency-weighted IoU", "IoU weighted by each class’s share of the true pixels"),
    ("mean_Dice", "mean Dice", "per class: twice the correct pixels over true plus predicted pixels (F1)"),
    ("boundary_IoU", "mean boundary IoU", "IoU of the pixels near outlines only"),
    ("pixel_accuracy", "pixel accuracy", "share of all pixels that are correct"),
    ("mean_accuracy", "mean class accuracy", "per class: share of its true pixels that was found"),
)
"""Rows of the table of metrics: key in result.json, name, explanation. All are shares, unlike kappa."""


def render_report(
    result: RunResult,
    verdict: Verdict,
    *,
    classes: Sequence[Class],
    worst: Sequence[Example],
    best: Sequence[Example],
    facts: Sequence[tuple[str, str]],
    pseudo_labels: PseudoLabelRecord | None = None,
) -> str:
    """Return the page as HTML.

    Args:
        facts: the protocol as (name, value), in display order.
        pseudo_labels: if training could compare them with hidden labels.
    """
    figures = result.best.per_class
    painted = {item.name: item.color for item in classes}
    return render(
        TEMPLATE,
        result=result,
        useless_text=useless_text,
        title=f"{result.dataset.name} with {labels_text(result.labeled_ratio)}",
        lead=result.lead,
        rivals=[(VARIANT_NAMES[item.over.variant], item) for item in result.variants],
        columns=[("validation", result.best), *([("test", result.test)] if result.test else [])],
        measures=MEASURES,
        # A wide and a narrow drawing, so that text keeps its size on a phone. The page's CSS shows one of them.
        charts=(
            ("wide", miou_by_epoch(verdict, 760, 330)),
            ("narrow", miou_by_epoch(verdict, 350, 290)),
        ),
        legend=[
            *((key(variant), VARIANT_NAMES[variant]) for variant in VARIANTS),
            (band_key(verdict.best.variant), f"95 % interval, {VARIANT_NAMES[verdict.best.variant]}"),
        ],
        verdict=verdict,
        variants=[(variant, VARIANT_NAMES[variant]) for variant in VARIANTS],
        per_class=sorted((item for item in figures if item.iou is not None), key=lambda item: -(item.iou or 0)),
        absent=[item.name for item in figures if item.iou is None],
        colors=painted,
        heat=heat_map(result.confusion_matrix),
        groups=[("Worst images", worst), ("Best images", best)],
        facts=facts,
        audit=_audit(pseudo_labels) if pseudo_labels and pseudo_labels.epochs else None,
    )


@dataclass(frozen=True)
class _Audit:
    """The section on pseudo labels."""

    images: int
    last: PseudoLabelEpoch
    charts: list[tuple[str, Markup]]
    """By size."""
    legend: list[tuple[Markup, str]]
    classes: list[tuple[str, float | None, float | None]]
    """Name, precision, recall."""


def _audit(record: PseudoLabelRecord) -> _Audit:
    epochs, last = record.epochs, record.epochs[-1]
    lines: dict[Variant, list[tuple[int, float | None]]] = {
        "left": [(found.epoch, found.accuracy) for found in epochs],
        "right": [(found.epoch, found.agreement) for found in epochs],
    }
    title = "Accuracy of the pseudo labels and agreement of the networks, by epoch"
    return _Audit(
        images=record.images,
        last=last,
        charts=[
            (size, shares_by_epoch(lines, title, width, height))
            for size, width, height in (("wide", 760, 280), ("narrow", 350, 250))
        ],
        legend=[(key("left"), "accuracy of the pseudo labels"), (key("right"), "agreement of the networks")],
        classes=list(zip(record.classes, last.precision, last.recall, strict=True)),
    )


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


def heat_map(confusion: ConfusionMatrix) -> list[HeatRow]:
    """Return a row per true class with the shares of its pixels by predicted class."""
    rows = []
    for name, counts in zip(confusion.classes, confusion.matrix, strict=True):
        total = sum(counts)
        cells = tuple(
            HeatCell(predicted, number / total if total else None, own=predicted == name)
            for predicted, number in zip(confusion.classes, counts, strict=True)
        )
        rows.append(HeatRow(name, cells, total))
    return rows
