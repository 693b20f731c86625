"""The report of a run: one self-contained page, to be sent to a colleague."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from markupsafe import Markup

from components.evaluation.charts import VARIANT_NAMES, key, miou_by_epoch
from components.evaluation.examples import Example
from components.evaluation.scores import VARIANTS
from components.evaluation.verdict import Verdict
from components.inference.checkpoint import PaintedClass
from components.inference.page import render

TEMPLATE = Path(__file__).with_name("report.html.j2")


def render_report(
    result: Mapping[str, Any],
    verdict: Verdict,
    *,
    classes: Sequence[PaintedClass],
    worst: Sequence[Example],
    best: Sequence[Example],
    facts: Sequence[tuple[str, str]],
) -> str:
    """
    Args:
        result: what result.json holds.
        facts: the protocol, as (name, value), in the order to be shown.
    """
    figures = result["best"]["per_class"]
    painted = {item.name: color_code(item.color) for item in classes}
    present = [item for item in figures if item["iou"] is not None]
    return render(
        TEMPLATE,
        result=result,
        title=f"{result['dataset']['name']} with {result['ratio']} of the labels",
        gain=verdict.best.mean_iou - verdict.last.mean_iou,
        # A wide and a narrow drawing, so that text is as large on a telephone; the page's CSS shows one.
        charts=(
            ("wide", miou_by_epoch(verdict, 760, 330)),
            ("narrow", miou_by_epoch(verdict, 350, 290)),
        ),
        legend=[(key(variant), VARIANT_NAMES[variant]) for variant in VARIANTS],
        verdict=verdict,
        variants=[(variant, VARIANT_NAMES[variant]) for variant in VARIANTS],
        per_class=sorted(present, key=lambda item: -item["iou"]),
        absent=[item["name"] for item in figures if item["iou"] is None],
        colors=painted,
        heat=heat_map(result["confusion_matrix"]["classes"], result["confusion_matrix"]["matrix"]),
        groups=[("Worst images", worst), ("Best images", best)],
        facts=facts,
    )


def heat_map(names: Sequence[str], matrix: Sequence[Sequence[int]]) -> list[dict[str, Any]]:
    """A row for each true class: its pixels' shares by predicted class, or None where the class has no
    pixel."""
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


def color_code(color: tuple[int, int, int]) -> Markup:
    """For CSS, "#80c040". Numbers only, so it is safe in a style."""
    red, green, blue = (int(part) for part in color)
    return Markup(f"#{red:02x}{green:02x}{blue:02x}")
