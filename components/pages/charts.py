"""The parts that all charts share: scale, ticks, grid, lines and markers, as SVG drawn without a library.

A chart inside a page takes its colours from the page's CSS variables, so it follows the light and dark mode.
"""

import json
import math
import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

from markupsafe import Markup, escape

MARKERS = {
    "circle": "m-3.6 0a3.6 3.6 0 1 0 7.2 0a3.6 3.6 0 1 0-7.2 0z",
    "square": "m-3.3-3.3h6.6v6.6h-6.6z",
    "diamond": "m0-4.6l4.6 4.6-4.6 4.6-4.6-4.6z",
    "triangle": "m0-4.4l4.4 7.6h-8.8z",
    "inverted triangle": "m0 4.4l4.4-7.6h-8.8z",
}


class Margins(NamedTuple):
    """Room around the plot for titles and ticks, in SVG units."""

    top: int = 32
    right: int = 18
    bottom: int = 44
    left: int = 58


class Series(NamedTuple):
    """The look of one series. Series differ in dash and marker too, for readers who cannot tell the colours apart."""

    css_class: str
    """Selects the colour, in charts.css."""
    dash: str
    marker: str
    """A key of MARKERS."""


class Scale:
    """Converts data to SVG units."""

    def __init__(
        self,
        width: int,
        height: int,
        x_range: tuple[float, float],
        y_range: tuple[float, float],
        margins: Margins = Margins(),  # noqa: B008 - immutable
    ) -> None:
        self.width, self.height, self.margins = width, height, margins
        self.right, self.base = width - margins.right, height - margins.bottom
        self._x, self._y = x_range, y_range

    def x(self, value: float) -> float:
        first, last = self._x
        # A single value is centred. Several stay clear of the frame, so that their markers are not cut off.
        share = 0.5 if first == last else 0.03 + 0.94 * (value - first) / (last - first)
        return round(self.margins.left + share * (self.right - self.margins.left), 1)

    def y(self, value: float) -> float:
        low, high = self._y
        return round(self.margins.top + (high - value) / (high - low) * (self.base - self.margins.top), 1)


class Reading(NamedTuple):
    """The values that a page shows when someone points at a place of a chart."""

    x: float
    """In SVG units."""
    title: str
    rows: Sequence[tuple[str, str]]
    """Name and value."""


def inline(width: int, height: int, label: str, parts: Sequence[str], readings: Sequence[Reading] = ()) -> Markup:
    """Return an SVG for a page that includes charts.css. Screen readers read `label` aloud."""
    values = json.dumps([reading._asdict() for reading in readings])
    more = f' data-values="{escape(values)}"' if readings else ""
    cross = [f'<line class="cross" y1="16" y2="{height - 44}"/>'] if readings else []
    return Markup("\n".join([_opening(width, height, label, more), *parts, *cross, "</svg>"]))


def standalone(width: int, height: int, label: str, parts: Sequence[str]) -> str:
    """Return an SVG file: light colours on a white background, without the CSS variables that some viewers ignore.

    Characters that XML forbids, as in a name with an escape sequence, become U+FFFD: the file would be unreadable.
    """
    here = Path(__file__).parent
    page, charts = ((here / name).read_text(encoding="utf-8") for name in ("page.css", "charts.css"))
    light = dict(re.findall(r"--([\w-]+):\s*([^;]+);", page.partition("@media")[0]))
    fonts = re.findall(r"font: \S+ ([^;]+);", page)[0]
    style = re.sub(r"var\(--([\w-]+)\)", lambda found: light[found[1]], charts)
    lines = "\n".join(
        [
            _opening(width, height, label, ' xmlns="http://www.w3.org/2000/svg"'),
            f"<style>\nsvg {{ font-family: {fonts}; }}\n{style}</style>",
            f'<rect width="100%" height="100%" fill="{light["paper"]}"/>',
            *parts,
            "</svg>\n",
        ]
    )
    return _NOT_XML.sub("\N{REPLACEMENT CHARACTER}", lines)


_NOT_XML = re.compile("[^\t\n\r -\ud7ff\ue000-\ufffd\U00010000-\U0010ffff]")


def _opening(width: int, height: int, label: str, more: str = "") -> str:
    return (
        f'<svg{more} class="chart" viewBox="0 0 {width} {height}" width="{width}" height="{height}" role="img" '
        f'aria-label="{escape(label)}">'
    )


def round_ticks(low: float, high: float, wanted: int) -> list[float]:
    """Return evenly spaced round numbers from at or below `low` to at or above `high`, at least two."""
    span = max(high - low, 1.0)
    rough = span / wanted
    magnitude = 10 ** math.floor(math.log10(rough))
    step = next(factor * magnitude for factor in (1, 2, 2.5, 5, 10) if factor * magnitude >= rough)
    first = math.floor(low / step) * step
    count = max(1, math.ceil((high - first) / step - 1e-9))
    return [round(first + number * step, 6) for number in range(count + 1)]


def epoch_ticks(epochs: Sequence[int], most: int) -> list[int]:
    """Return the epochs of checkpoints, thinned evenly to `most`; the first and the last always stay."""
    if len(epochs) <= most:
        return list(epochs)
    last = len(epochs) - 1
    return sorted({epochs[round(number * last / (most - 1))] for number in range(most)})


def grid(scale: Scale, x_ticks: Mapping[float, str], y_ticks: Sequence[float], x_title: str, y_title: str) -> list[str]:
    """Draw horizontal lines, and ticks and a title for both axes. The labels of `x_ticks` may have several lines."""
    left, right, base = scale.margins.left, scale.right, scale.base
    parts = []
    for value in y_ticks:
        y = scale.y(value)
        parts.append(f'<line class="grid" x1="{left}" y1="{y}" x2="{right}" y2="{y}"/>')
        parts.append(f'<text x="{left - 8}" y="{y + 4}" text-anchor="end">{value:g}</text>')
    for value, label in x_ticks.items():
        x = scale.x(value)
        parts.append(f'<line class="grid" x1="{x}" y1="{base}" x2="{x}" y2="{base + 5}"/>')
        for number, line in enumerate(label.splitlines()):
            parts.append(f'<text x="{x}" y="{base + 19 + 16 * number}" text-anchor="middle">{line}</text>')
    middle, centre = (scale.margins.top + base) / 2, (left + right) / 2
    parts.append(f'<text x="{centre}" y="{scale.height - 6}" text-anchor="middle">{escape(x_title)}</text>')
    parts.append(f'<text transform="translate(13 {middle}) rotate(-90)" text-anchor="middle">{escape(y_title)}</text>')
    return parts


def line(series: Series, points: Sequence[tuple[float, float]]) -> str:
    """Draw a line through `points`, which are in SVG units. Up to 60 points get a marker each."""
    path = " ".join(f"{x},{y}" for x, y in points)
    markers = "".join(marker(series, x, y) for x, y in points) if len(points) <= 60 else ""
    return (
        f'<g class="{series.css_class}"><polyline class="line" points="{path}" stroke-dasharray="{series.dash}"/>'
        f"{markers}</g>"
    )


def marker(series: Series, x: float, y: float) -> str:
    return f'<path class="dot" d="M{x} {y}{MARKERS[series.marker]}"/>'


def sample(series: Series, x: float, y: float) -> str:
    """Draw a short piece of the line with a marker, 34 units wide and centred on `y`."""
    return (
        f'<g class="{series.css_class}"><line class="line" x1="{x + 1}" y1="{y}" x2="{x + 33}" y2="{y}" '
        f'stroke-dasharray="{series.dash}"/>{marker(series, x + 17, y)}</g>'
    )


def key(content: str) -> Markup:
    """Wrap a sample in an SVG for an HTML legend."""
    return Markup(f'<svg class="key" viewBox="0 0 34 12" width="34" height="12" aria-hidden="true">{content}</svg>')
