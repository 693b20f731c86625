"""Charts as inline SVG, drawn here so that a report needs neither a script nor a network.

Colours come from the page's CSS classes (left, right, ensemble), so charts follow its light and dark form. Series
differ in dash and marker too, for those who see no difference in colour.
"""

import math
from collections.abc import Mapping, Sequence

from markupsafe import Markup, escape

from components.evaluation.verdict import Row, Verdict
from components.pages.charts import LEFT, _grid, _Scale, epoch_ticks, round_ticks
from components.runs.result import VARIANTS, Variant

VARIANT_NAMES: Mapping[Variant, str] = {
    "left": "left network",
    "right": "right network",
    "ensemble": "both, probabilities averaged",
}
DASHES: Mapping[Variant, str] = {"left": "", "right": "7 4", "ensemble": "2 3"}


def miou_by_epoch(verdict: Verdict, width: int, height: int) -> Markup:
    """A line for each variant, the 95 % interval of the winner's as a band, the best checkpoint ringed.

    `width` and `height` in CSS pixels at natural size.
    """
    rows = [row for row in verdict.rows if any(math.isfinite(value) for value in row.mean_iou.values())]
    epochs = [row.epoch for row in rows]
    figures = [value for row in rows for value in (*row.mean_iou.values(), *row.interval)]
    values = [100 * value for value in figures if math.isfinite(value)]
    y_ticks = round_ticks(min(values), max(values), 5)
    x_ticks = epoch_ticks(epochs, 10 if width > 500 else 6)
    scale = _Scale(width, height, (epochs[0], epochs[-1]), (y_ticks[0], y_ticks[-1]))
    best = verdict.best
    title = (
        f"mIoU by epoch for {len(rows)} checkpoints; the best is {100 * best.mean_iou:.1f} % at epoch "
        f"{best.epoch} ({VARIANT_NAMES[best.variant]})"
    )
    if math.isfinite(verdict.interval.low):
        title += f", 95 % interval {100 * verdict.interval.low:.1f} to {100 * verdict.interval.high:.1f} %"
    parts = [
        f'<svg class="chart" viewBox="0 0 {width} {height}" width="{width}" height="{height}" role="img" '
        f'aria-label="{escape(title)}">',
        *_grid(scale, x_ticks, y_ticks),
        _band(scale, best.variant, rows),
        *(_series(scale, variant, [(row.epoch, 100 * row.mean_iou[variant]) for row in rows]) for variant in VARIANTS),
        *_ring(scale, best.epoch, 100 * best.mean_iou),
        "</svg>",
    ]
    return Markup("\n".join(parts))


def shares_by_epoch(
    lines: Mapping[Variant, Sequence[tuple[int, float | None]]], title: str, width: int, height: int
) -> Markup:
    """Lines of shares in [0, 1] by epoch, each drawn as a variant is; what is None is left out."""
    known = {
        variant: [(epoch, 100 * share) for epoch, share in line if share is not None] for variant, line in lines.items()
    }
    epochs = sorted({epoch for line in known.values() for epoch, _ in line})
    values = [value for line in known.values() for _, value in line]
    if not values:
        return Markup("")
    y_ticks, x_ticks = round_ticks(min(values), max(values), 5), epoch_ticks(epochs, 10 if width > 500 else 6)
    scale = _Scale(width, height, (epochs[0], epochs[-1]), (y_ticks[0], y_ticks[-1]))
    parts = [
        f'<svg class="chart" viewBox="0 0 {width} {height}" width="{width}" height="{height}" role="img" '
        f'aria-label="{escape(title)}">',
        *_grid(scale, x_ticks, y_ticks, "share of the pixels (%)"),
        *(_series(scale, variant, line) for variant, line in known.items()),
        "</svg>",
    ]
    return Markup("\n".join(parts))


def band_key(variant: Variant) -> Markup:
    """The sample of the band for a legend."""
    return Markup(
        '<svg class="key" viewBox="0 0 34 12" width="34" height="12" aria-hidden="true">'
        f'<rect class="band {variant}" x="1" y="0" width="32" height="12"/></svg>'
    )


def key(variant: Variant) -> Markup:
    """The sample of a line for a legend."""
    return Markup(
        f'<svg class="key" viewBox="0 0 34 12" width="34" height="12" aria-hidden="true">'
        f'<line class="line {variant}" x1="1" y1="6" x2="33" y2="6" stroke-dasharray="{DASHES[variant]}"/>'
        f"{_marker(variant, 17, 6)}</svg>"
    )


def _band(scale: _Scale, variant: Variant, rows: Sequence[Row]) -> str:
    """A polygon over the tops and back under the bottoms; an upright bar where there is one checkpoint."""
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


def _series(scale: _Scale, variant: Variant, points: Sequence[tuple[int, float]]) -> str:
    placed = [(scale.x(epoch), scale.y(value)) for epoch, value in points if math.isfinite(value)]
    path = " ".join(f"{x},{y}" for x, y in placed)
    markers = "".join(_marker(variant, x, y) for x, y in placed) if len(placed) <= 60 else ""
    return f'<polyline class="line {variant}" points="{path}" stroke-dasharray="{DASHES[variant]}"/><g>{markers}</g>'


def _marker(variant: Variant, x: float, y: float) -> str:
    if variant == "left":
        return f'<circle class="dot {variant}" cx="{x}" cy="{y}" r="3.6"/>'
    if variant == "right":
        return f'<rect class="dot {variant}" x="{x - 3.3:.1f}" y="{y - 3.3:.1f}" width="6.6" height="6.6"/>'
    return f'<path class="dot {variant}" d="M{x} {y - 4.6:.1f}l4.6 4.6-4.6 4.6-4.6-4.6z"/>'


def _ring(scale: _Scale, epoch: int, value: float) -> list[str]:
    x, y = scale.x(epoch), scale.y(value)
    # Above the point, where no line is; inwards at the sides. TOP leaves room for it.
    anchor = "end" if x > scale.width - 90 else "start" if x < LEFT + 60 else "middle"
    x_text = x + {"end": 9, "start": -9, "middle": 0}[anchor]
    return [
        f'<circle class="ring" cx="{x}" cy="{y}" r="8.5"/>',
        f'<text class="best" x="{x_text:.1f}" y="{y - 14:.1f}" text-anchor="{anchor}">best {value:.1f} %</text>',
    ]
