"""Render the report of a run as one self-contained page."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from components.contract import Class
from components.evaluation.charts import VARIANT_NAMES, band_key, key, miou_by_epoch, shares_by_epoch
from components.evaluation.examples import Example
from components.evaluation.scores import VARIANTS, Variant
from components.evaluation.verdict import Verdict
from components.labeled_ratio import labels_text
from components.pages.render import render

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
    result: Mapping[str, Any],
    verdict: Verdict,
    *,
    classes: Sequence[Class],
    worst: Sequence[Example],
    best: Sequence[Example],
    facts: Sequence[tuple[str, str]],
    pseudo_labels: Mapping[str, Any] | None = None,
) -> str:
    """Return the page as HTML.

    Args:
        result: the content of result.json.
        facts: the protocol as (name, value), in display order.
        pseudo_labels: the content of pseudo-labels.json, if training could compare them with hidden labels.
    """
    figures = result["best"]["per_class"]
    painted = {item.name: item.color for item in classes}
    present = [item for item in figures if item["iou"] is not None]
    return render(
        TEMPLATE,
        result=result,
        title=f"{result['dataset']['name']} with {labels_text(result['ratio'])}",
        lead=result["lead"],
        rivals=[(VARIANT_NAMES[item["over"]["variant"]], item) for item in result["variants"]],
        columns=[("validation", result["best"]), *([("test", result["test"])] if result["test"] else [])],
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
        per_class=sorted(present, key=lambda item: -item["iou"]),
        absent=[item["name"] for item in figures if item["iou"] is None],
        colors=painted,
        heat=heat_map(result["confusion_matrix"]["classes"], result["confusion_matrix"]["matrix"]),
        groups=[("Worst images", worst), ("Best images", best)],
        facts=facts,
        audit=_audit(pseudo_labels) if pseudo_labels and pseudo_labels["epochs"] else None,
    )


def _audit(record: Mapping[str, Any]) -> dict[str, Any]:
    epochs, last = record["epochs"], record["epochs"][-1]
    lines: dict[Variant, list[tuple[int, float | None]]] = {
        "left": [(found["epoch"], found["accuracy"]) for found in epochs],
        "right": [(found["epoch"], found["agreement"]) for found in epochs],
    }
    title = "Accuracy of the pseudo labels and agreement of the networks, by epoch"
    return {
        "images": record["images"],
        "last": last,
        "charts": [
            (size, shares_by_epoch(lines, title, width, height))
            for size, width, height in (("wide", 760, 280), ("narrow", 350, 250))
        ],
        "legend": [(key("left"), "accuracy of the pseudo labels"), (key("right"), "agreement of the networks")],
        "classes": list(zip(record["classes"], last["precision"], last["recall"], strict=True)),
    }


def heat_map(names: Sequence[str], matrix: Sequence[Sequence[int]]) -> list[dict[str, Any]]:
    """Return a row per true class with its pixels' shares by predicted class, or None if it has no pixel."""
    rows = []
    for name, counts in zip(names, matrix, strict=True):
        total = sum(counts)
        cells = [
            {
                "predicted": predicted,
                "share": number / total if total else None,
                "strong": bool(total and number / total > 0.5),
                "own": predicted == name,
            }
            for predicted, number in zip(names, counts, strict=True)
        ]
        rows.append({"name": name, "cells": cells, "pixels": total})
    return rows
