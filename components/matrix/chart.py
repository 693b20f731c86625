"""The label-efficiency chart: mIoU by number of labelled images for each method and published results."""

import math
from collections.abc import Mapping, Sequence
from typing import NamedTuple

from markupsafe import Markup, escape

from components.matrix.cells import CPS, SUPERVISED, Method
from components.matrix.gains import Point, lines_of
from components.matrix.published_results import Published
from components.pages.charts import Margins, Scale, Series, grid, inline, key, line, round_ticks, sample, standalone

SERIES: Mapping[Method, Series] = {
    CPS: Series("cps", "", "circle"),
    SUPERVISED: Series("supervised", "7 4", "square"),
}
RECIPES = (
    Series("left", "", "diamond"),
    Series("left", "2 3", "triangle"),
    Series("right", "9 3", "inverted triangle"),
    Series("right", "5 2 1 2", "diamond"),
)
"""For methods that are recipes, in turn."""
PUBLISHED = tuple(Series("published", "2 4", marker) for marker in ("triangle", "inverted triangle", "diamond"))
SHIFT = 8.0
"""Horizontal distance of the methods' points in SVG units, so that their error bars do not overlap."""
WIDE, NARROW = (900, 480), (380, 360)
"""Width and height at natural size, in CSS pixels. Charts narrower than 500 have no room for the curves' names."""
LEAST_SPAN = 10.0
"""Least range of the vertical axis, in percentage points."""
NAME_HEIGHT, LINE_HEIGHT, CHARACTER_WIDTH = 20, 16, 8


class Value(NamedTuple):
    """One point of a curve, in percent."""

    labeled: int
    mean: float
    spread: float = 0.0
    """One standard deviation over seeds; 0 where it is unknown."""


class Curve(NamedTuple):
    name: Sequence[str]
    """In lines."""
    series: Series
    values: Sequence[Value]
    shift: float = 0.0
    """SVG units to the right."""


def curves(points: Sequence[Point], references: Sequence[Published]) -> list[Curve]:
    """Return the published results, then the baseline and the other methods, which are drawn over them."""
    labeled = {point.labeled_ratio: point.labeled for point in points}
    found = [
        Curve(
            (reference.name,),
            PUBLISHED[number % len(PUBLISHED)],
            [
                Value(labeled[ratio], 100 * reference.by_ratio[ratio])
                for ratio in labeled
                if ratio in reference.by_ratio
            ],
        )
        for number, reference in enumerate(references)
    ]
    methods = list(dict.fromkeys(point.method for point in points))
    recipes = [method for method in methods if method not in SERIES]
    for place, method in enumerate(reversed(methods)):
        own = [point for point in points if point.method == method]
        values = [Value(point.labeled, 100 * point.mean, 100 * (point.spread or 0.0)) for point in own]
        series = SERIES[method] if method in SERIES else RECIPES[recipes.index(method) % len(RECIPES)]
        found.append(Curve(lines_of(method), series, values, SHIFT * ((len(methods) - 1) / 2 - place)))
    return [curve for curve in found if curve.values]


def legend(points: Sequence[Point], references: Sequence[Published]) -> list[tuple[Markup, str]]:
    """Return (sample, name) of each curve, the baseline and published results last."""
    return [(key(sample(curve.series, 0, 6)), " ".join(curve.name)) for curve in reversed(curves(points, references))]


def inline_chart(points: Sequence[Point], references: Sequence[Published], label: str, size: tuple[int, int]) -> Markup:
    """Return the chart for a page. A narrow one needs `legend` beside it."""
    return inline(*size, label, _plot(points, references, size, top=16))


def chart_file(points: Sequence[Point], references: Sequence[Published], title: str, label: str) -> str:
    """Return the chart as an SVG file with its own title."""
    spread = any(point.spread is not None for point in points)
    note = "Mean over seeds; bars show one standard deviation" if spread else "One seed"
    heading = [
        f'<text class="title" x="16" y="30">{escape(title)}</text>',
        f'<text x="16" y="52">{note}. The vertical axis begins at {vertical_ticks(points, references)[0]:g} %.</text>',
    ]
    size = WIDE[0], WIDE[1] + 64
    return standalone(*size, label, [*heading, *_plot(points, references, size, top=80)])


def vertical_ticks(points: Sequence[Point], references: Sequence[Published]) -> list[float]:
    """Return the ticks of the mIoU axis in percent. It spans at least LEAST_SPAN, so that noise does not look large."""
    found = curves(points, references)
    ends = [value.mean + side * value.spread for curve in found for value in curve.values for side in (-1, 1)]
    low, high = min(ends), max(ends)
    missing = max(0.0, LEAST_SPAN - (high - low)) / 2
    low = max(0.0, low - missing)
    return round_ticks(low, max(high, min(100.0, max(high + missing, low + LEAST_SPAN))), 5)


def _plot(points: Sequence[Point], references: Sequence[Published], size: tuple[int, int], top: int) -> list[str]:
    found, (width, height) = curves(points, references), size
    named = width >= 500
    longest = max(len(part) for curve in found for part in curve.name)
    room = 64 + CHARACTER_WIDTH * longest if named else 18
    y_ticks = vertical_ticks(points, references)
    labeled = {point.labeled_ratio: point.labeled for point in sorted(points, key=lambda point: point.labeled)}
    x_range = math.log(min(labeled.values())), math.log(max(labeled.values()))
    margins = Margins(top=top, right=room, bottom=62)
    scale = Scale(width, height, x_range, (y_ticks[0], y_ticks[-1]), margins)
    return [
        *grid(
            scale,
            _ticks(scale, labeled),
            y_ticks,
            "labelled images, and their share of all labels",
            "validation mIoU (%)",
        ),
        *(_curve(scale, curve) for curve in found),
        *(_names(scale, found) if named else []),
    ]


def _ticks(scale: Scale, labeled: Mapping[str, int]) -> dict[float, str]:
    """Label the ticks by number of images and ratio, except where a label would touch the one before."""
    ticks: dict[float, str] = {}
    last = -math.inf
    for ratio, count in labeled.items():
        x = scale.x(math.log(count))
        is_clear = x - last > 4 + CHARACTER_WIDTH * max(len(ratio), len(f"{count:,}"))
        ticks[math.log(count)] = f"{count:,}\n{ratio}" if is_clear else ""
        last = x if is_clear else last
    return ticks


def _place(scale: Scale, curve: Curve, value: Value) -> tuple[float, float]:
    return round(scale.x(math.log(value.labeled)) + curve.shift, 1), scale.y(value.mean)


def _curve(scale: Scale, curve: Curve) -> str:
    places = [_place(scale, curve, value) for value in curve.values]
    bars = "".join(
        f"M{x} {scale.y(value.mean + value.spread)}V{scale.y(value.mean - value.spread)}"
        for (x, _), value in zip(places, curve.values, strict=True)
        if value.spread
    )
    return f'<path class="whisker {curve.series.css_class}" d="{bars}"/>{line(curve.series, places)}'


def _names(scale: Scale, found: Sequence[Curve]) -> list[str]:
    """Write the curves' names to the right of the plot, each as near to its curve's end as the others allow."""
    ends = sorted((_place(scale, curve, curve.values[-1])[1], number) for number, curve in enumerate(found))
    heights: list[float] = []
    free = -math.inf
    for y, number in ends:
        heights.append(max(y, free))
        free = heights[-1] + NAME_HEIGHT + LINE_HEIGHT * (len(found[number].name) - 1)
    over = max(0.0, free - NAME_HEIGHT - scale.base)
    left, parts = scale.right + 12, []
    for height, (_, number) in zip(heights, ends, strict=True):
        y, curve = round(height - over, 1), found[number]
        parts.append(sample(curve.series, left, y))
        for place, text in enumerate(curve.name):
            at = f'x="{left + 42}" y="{y + 4 + LINE_HEIGHT * place:.1f}"'
            parts.append(f'<text class="name {curve.series.css_class}" {at}>{escape(text)}</text>')
    return parts
