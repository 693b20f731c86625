"""The charts of a run's report: mIoU and pseudo-label quality by epoch."""

import math
from collections.abc import Mapping, Sequence

from markupsafe import Markup

from components.evaluation.verdict import Row, Verdict
from components.pages.charts import Scale, Series, epoch_ticks, grid, inline, line, round_ticks, sample
from components.pages.charts import key as legend_key
from components.runs.result import VARIANTS, Variant

VARIANT_NAMES: Mapping[Variant, str] = {
    "left": "left network",
    "right": "right network",
    "ensemble": "both, probabilities averaged",
}
SERIES: Mapping[Variant, Series] = {
    "left": Series("left", "", "circle"),
    "right": Series("right", "7 4", "square"),
    "ensemble": Series("ensemble", "2 3", "diamond"),
}


def miou_by_epoch(verdict: Verdict, width: int, height: int) -> Markup:
    """Draw a line per variant, the 95 % interval of the best variant as a band, and a ring around the best checkpoint.

    `width` and `height` are in CSS pixels at natural size.
    """
    rows = [row for row in verdict.rows if any(math.isfinite(value) for value in row.mean_iou.values())]
    epochs = [row.epoch for row in rows]
    figures = [value for row in rows for value in (*row.mean_iou.values(), *row.interval)]
    values = [100 * value for value in figures if math.isfinite(value)]
    scale, axes = _axes(epochs, values, width, height, "validation mIoU (%)")
    best = verdict.best
    title = (
        f"mIoU by epoch for {len(rows)} checkpoints; the best is {100 * best.mean_iou:.1f} % at epoch "
        f"{best.epoch} ({VARIANT_NAMES[best.variant]})"
    )
    if math.isfinite(verdict.interval.low):
        title += f", 95 % interval {100 * verdict.interval.low:.1f} to {100 * verdict.interval.high:.1f} %"
    parts = [
        *axes,
        _band(scale, best.variant, rows),
        *(_series(scale, variant, [(row.epoch, 100 * row.mean_iou[variant]) for row in rows]) for variant in VARIANTS),
        *_ring(scale, best.epoch, 100 * best.mean_iou),
    ]
    return inline(width, height, title, parts)


def shares_by_epoch(
    lines: Mapping[Variant, Sequence[tuple[int, float | None]]], title: str, width: int, height: int
) -> Markup:
    """Draw shares in [0, 1] by epoch, each in the style of a variant; None leaves a point out."""
    known = {
        variant: [(epoch, 100 * share) for epoch, share in points if share is not None]
        for variant, points in lines.items()
    }
    epochs = sorted({epoch for points in known.values() for epoch, _ in points})
    values = [value for points in known.values() for _, value in points]
    if not values:
        return Markup("")
    scale, axes = _axes(epochs, values, width, height, "share of the pixels (%)")
    return inline(width, height, title, [*axes, *(_series(scale, variant, known[variant]) for variant in known)])


def band_key(variant: Variant) -> Markup:
    """Return a sample of the band for a legend."""
    return legend_key(f'<rect class="band {variant}" x="1" y="0" width="32" height="12"/>')


def key(variant: Variant) -> Markup:
    """Return a sample of the line for a legend."""
    return legend_key(sample(SERIES[variant], 0, 6))


def _axes(
    epochs: Sequence[int], values: Sequence[float], width: int, height: int, y_title: str
) -> tuple[Scale, list[str]]:
    y_ticks = round_ticks(min(values), max(values), 5)
    x_ticks = {float(epoch): str(epoch) for epoch in epoch_ticks(epochs, 10 if width > 500 else 6)}
    scale = Scale(width, height, (epochs[0], epochs[-1]), (y_ticks[0], y_ticks[-1]))
    return scale, grid(scale, x_ticks, y_ticks, "training epoch", y_title)


def _band(scale: Scale, variant: Variant, rows: Sequence[Row]) -> str:
    """Draw a polygon along the upper bounds and back along the lower ones; a bar for a single checkpoint."""
    known = [(row.epoch, row.interval) for row in rows if math.isfinite(row.interval.low)]
    if not known:
        return ""
    tops = [(scale.x(epoch), scale.y(100 * found.high)) for epoch, found in known]
    bottoms = [(scale.x(epoch), scale.y(100 * found.low)) for epoch, found in reversed(known)]
    if len(known) == 1:
        (x, top), (_, bottom) = tops[0], bottoms[0]
        tops, bottoms = [(x - 9, top), (x + 9, top)], [(x + 9, bottom), (x - 9, bottom)]
    points = " ".join(f"{x:.1f},{y}" for x, y in tops + bottoms)
    return f'<polygon class="band {variant}" points="{points}"/>'


def _series(scale: Scale, variant: Variant, points: Sequence[tuple[int, float]]) -> str:
    return line(SERIES[variant], [(scale.x(epoch), scale.y(value)) for epoch, value in points if math.isfinite(value)])


def _ring(scale: Scale, epoch: int, value: float) -> list[str]:
    x, y = scale.x(epoch), scale.y(value)
    # Above the point, clear of the lines, and inwards at the sides. The top margin leaves room for it.
    anchor = "end" if x > scale.width - 90 else "start" if x < scale.margins.left + 60 else "middle"
    x_text = x + {"end": 9, "start": -9, "middle": 0}[anchor]
    return [
        f'<circle class="ring" cx="{x}" cy="{y}" r="8.5"/>',
        f'<text class="best" x="{x_text:.1f}" y="{y - 14:.1f}" text-anchor="{anchor}">best {value:.1f} %</text>',
    ]
