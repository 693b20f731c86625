"""The charts of a run's report: mIoU, losses, learning rate and pseudo-label quality by epoch."""

import math
from collections.abc import Mapping, Sequence
from typing import NamedTuple

from markupsafe import Markup

from components.evaluation.verdict import Row, Verdict
from components.pages.charts import (
    Margins,
    Reading,
    Scale,
    Series,
    epoch_ticks,
    grid,
    inline,
    line,
    round_ticks,
    sample,
)
from components.pages.charts import key as legend_key
from components.runs.result import VARIANTS, Variant

VARIANT_NAMES: Mapping[Variant, str] = {
    "left": "left network",
    "right": "right network",
    "ensemble": "both, probabilities averaged",
}
SERIES: Mapping[Variant, Series] = {
    "left": Series("left", "7 3", "square"),
    "right": Series("right", "2 3", "diamond"),
    "ensemble": Series("ensemble", "", "circle"),
}
PAIR = Series("first", "", "circle"), Series("second", "5 4", "square")
"""The two lines of a small chart."""
WIDE, NARROW, SMALL = (1160, 380), (350, 300), (350, 220)
"""Width and height at natural size, in CSS pixels. A small chart is drawn once, for all screens."""


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
    return inline(width, height, title, parts, [_reading(scale, row, verdict) for row in rows])


def _reading(scale: Scale, row: Row, verdict: Verdict) -> Reading:
    figures = [(VARIANT_NAMES[variant], row.mean_iou[variant]) for variant in reversed(VARIANTS)]
    rows = [(name, f"{100 * value:.1f} %") for name, value in figures if math.isfinite(value)]
    if math.isfinite(row.interval.low):
        rows.append(
            (f"95 % interval, {verdict.best.variant}", f"{100 * row.interval.low:.1f} to {100 * row.interval.high:.1f}")
        )
    return Reading(scale.x(row.epoch), f"epoch {row.epoch}", rows)


class SmallChart(NamedTuple):
    """A chart beside others, with the samples of its lines."""

    title: str
    unit: str
    keys: list[tuple[Markup, str]]
    drawing: Markup


def small_chart(title: str, unit: str, lines: Mapping[str, Sequence[tuple[float, float]]]) -> SmallChart | None:
    """Draw up to two lines of (epoch, value), or return None if there is no value. The axis includes zero if near."""
    known = {name: [point for point in points if math.isfinite(point[1])] for name, points in lines.items()}
    xs = sorted({x for points in known.values() for x, _ in points})
    values = [value for points in known.values() for _, value in points]
    if not values:
        return None
    width, height = SMALL
    low, high = min(values), max(values)
    y_ticks = round_ticks(0.0 if 0 <= low < 0.6 * high else low, high, 4)
    x_ticks = {float(tick): f"{tick:g}" for tick in round_ticks(xs[0], xs[-1], 4) if xs[0] <= tick <= xs[-1]}
    scale = Scale(width, height, (xs[0], xs[-1]), (y_ticks[0], y_ticks[-1]), Margins(top=12, right=12, left=52))
    drawn = zip(PAIR, known.items(), strict=False)
    paths = [(series, name, [(scale.x(x), scale.y(value)) for x, value in points]) for series, (name, points) in drawn]
    plotted = [line(series, points) if len(points) == 1 else _path(series, points) for series, _, points in paths]
    label = f"{title} by epoch: " + "; ".join(
        f"{name} from {points[0][1]:.3g} to {points[-1][1]:.3g}" for name, points in known.items() if points
    )
    by_x = {name: dict(points) for name, points in known.items()}
    readings = [
        Reading(scale.x(x), f"epoch {x:.3g}", [(name, f"{at[x]:.3g}") for name, at in by_x.items() if x in at])
        for x in xs
    ]
    keys = [(legend_key(_sample(series)), name) for series, name, _ in paths] if len(paths) > 1 else []
    axes = grid(scale, x_ticks, y_ticks, "epoch", "")
    return SmallChart(title, unit, keys, inline(width, height, label, [*axes, *plotted], readings))


def _path(series: Series, points: Sequence[tuple[float, float]]) -> str:
    """Draw a line without markers, which would hide it where there are many points."""
    path = " ".join(f"{x},{y}" for x, y in points)
    return (
        f'<g class="{series.css_class}"><polyline class="line" points="{path}" stroke-dasharray="{series.dash}"/></g>'
    )


def _sample(series: Series) -> str:
    return (
        f'<g class="{series.css_class}"><line class="line" x1="1" y1="6" x2="33" y2="6" '
        f'stroke-dasharray="{series.dash}"/></g>'
    )


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
