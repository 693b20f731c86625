"""The label-efficiency curve as a picture: mIoU against labelled images, CPS and its baseline, spread over seeds."""

import io
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from components.matrix.cells import Method
from components.matrix.gains import Point
from components.matrix.published_results import Published

NAMES: dict[Method, str] = {"cps": "CPS", "supervised": "supervised baseline"}


@dataclass(frozen=True)
class Theme:
    """Okabe and Ito's colours, which differ for any colour vision; markers and dashes differ besides."""

    paper: str
    ink: str
    soft: str
    grid: str
    cps: str
    supervised: str


LIGHT = Theme("#ffffff", "#1b1f24", "#5b6470", "#dde1e6", "#0072b2", "#d55e00")
DARK = Theme("#14171b", "#e8eaed", "#9aa4b1", "#333a43", "#56b4e9", "#e69f00")
BESIDE = 1.015
"""How far a method's points stand from the exact number of images on the log axis, so that no bar hides the other's."""


def draw(
    points: Sequence[Point],
    references: Sequence[Published],
    *,
    title: str,
    width: float,
    height: float,
    theme: Theme = LIGHT,
) -> bytes:
    """A PNG of `width` x `height` CSS pixels at twice that resolution. Bars are one standard deviation over seeds."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(width / 100, height / 100), dpi=200, facecolor=theme.paper, layout="constrained")
    axes = figure.add_subplot(facecolor=theme.paper)
    for method in NAMES:
        _curve(axes, [point for point in points if point.method == method], method, theme)
    labeled = {point.ratio: point.labeled for point in points}
    for number, reference in enumerate(references):
        _reference(axes, reference, labeled, number, theme)
    _dress(axes, labeled, title, theme)
    out = io.BytesIO()
    figure.savefig(out, format="png", facecolor=theme.paper)
    return out.getvalue()


def _curve(axes: Any, points: Sequence[Point], method: Method, theme: Theme) -> None:
    if not points:
        return
    color, beside = (theme.cps, 1 / BESIDE) if method == "cps" else (theme.supervised, BESIDE)
    axes.errorbar(
        [point.labeled * beside for point in points],
        [100 * point.mean for point in points],
        yerr=[100 * (point.spread or 0.0) for point in points],
        label=NAMES[method],
        color=color,
        marker="o" if method == "cps" else "s",
        linestyle="-" if method == "cps" else "--",
        linewidth=2,
        markersize=6,
        capsize=4,
    )


def _reference(axes: Any, reference: Published, labeled: dict[str, int], number: int, theme: Theme) -> None:
    known = [ratio for ratio in labeled if ratio in reference.by_ratio]
    if known:
        axes.plot(
            [labeled[ratio] for ratio in known],
            [100 * reference.by_ratio[ratio] for ratio in known],
            label=reference.name,
            color=theme.soft,
            marker="^v*"[number % 3],
            linestyle=":",
            linewidth=1.4,
        )


def _dress(axes: Any, labeled: dict[str, int], title: str, theme: Theme) -> None:
    axes.set_xscale("log")
    axes.set_xticks(list(labeled.values()), [f"{count:,}\n{ratio}" for ratio, count in labeled.items()])
    axes.minorticks_off()
    if len(labeled) == 1:
        only = next(iter(labeled.values()))
        axes.set_xlim(only / 2, only * 2)
    axes.set_xlabel("labelled images, and which share that is", color=theme.soft)
    axes.set_ylabel("validation mIoU (%)", color=theme.soft)
    axes.set_title(title, color=theme.ink, loc="left", fontsize=11, fontweight="bold")
    axes.grid(axis="y", color=theme.grid, linewidth=0.8)
    axes.set_axisbelow(True)
    axes.tick_params(colors=theme.soft)
    for side, spine in axes.spines.items():
        spine.set_visible(side in ("left", "bottom"))
        spine.set_color(theme.grid)
    legend = axes.legend(frameon=False, fontsize=9)
    for text in legend.get_texts():
        text.set_color(theme.ink)
