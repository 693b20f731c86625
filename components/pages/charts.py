"""What the charts of all pages have in common: ticks, scale and grid, as inline SVG."""

import math
from collections.abc import Sequence

from markupsafe import escape

TOP, BOTTOM, LEFT, RIGHT = 32, 44, 50, 18
"""Room around the plot, in the SVG's units, for titles and ticks."""


def round_ticks(low: float, high: float, wanted: int) -> list[float]:
    """Round numbers, evenly spaced, from at or below `low` to at or above `high`; at least two."""
    span = max(high - low, 1.0)
    rough = span / wanted
    magnitude = 10 ** math.floor(math.log10(rough))
    step = next(factor * magnitude for factor in (1, 2, 2.5, 5, 10) if factor * magnitude >= rough)
    first = math.floor(low / step) * step
    count = max(1, math.ceil((high - first) / step - 1e-9))
    return [round(first + number * step, 6) for number in range(count + 1)]


def epoch_ticks(epochs: Sequence[int], most: int) -> list[int]:
    """Epochs that have a checkpoint, thinned out evenly where there are more than fit; the first and last
    always."""
    if len(epochs) <= most:
        return list(epochs)
    last = len(epochs) - 1
    return sorted({epochs[round(number * last / (most - 1))] for number in range(most)})


class _Scale:
    """From data to the SVG's units."""

    def __init__(self, width: int, height: int, x_range: tuple[float, float], y_range: tuple[float, float]) -> None:
        self.width, self.height = width, height
        self._x, self._y = x_range, y_range

    def x(self, value: float) -> float:
        first, last = self._x
        # A single checkpoint stands in the middle; several keep off the frame, so that markers are not cut.
        share = 0.5 if first == last else 0.03 + 0.94 * (value - first) / (last - first)
        return round(LEFT + share * (self.width - LEFT - RIGHT), 1)

    def y(self, value: float) -> float:
        low, high = self._y
        return round(TOP + (high - value) / (high - low) * (self.height - TOP - BOTTOM), 1)


def _grid(
    scale: _Scale, x_ticks: Sequence[int], y_ticks: Sequence[float], y_title: str = "validation mIoU (%)"
) -> list[str]:
    right, base = scale.width - RIGHT, scale.height - BOTTOM
    parts = []
    for value in y_ticks:
        y = scale.y(value)
        parts.append(f'<line class="grid" x1="{LEFT}" y1="{y}" x2="{right}" y2="{y}"/>')
        parts.append(f'<text x="{LEFT - 8}" y="{y + 4}" text-anchor="end">{value:g}</text>')
    for epoch in x_ticks:
        x = scale.x(epoch)
        parts.append(f'<line class="grid" x1="{x}" y1="{base}" x2="{x}" y2="{base + 5}"/>')
        parts.append(f'<text x="{x}" y="{base + 19}" text-anchor="middle">{epoch}</text>')
    middle = (TOP + base) / 2
    parts.append(f'<text x="{(LEFT + right) / 2}" y="{scale.height - 6}" text-anchor="middle">training epoch</text>')
    parts.append(f'<text transform="translate(13 {middle}) rotate(-90)" text-anchor="middle">{escape(y_title)}</text>')
    return parts
