"""Colours in which pages show classes over photographs: those of the dataset, made readable and told apart.

Distances and changes are measured in OKLab (Ottosson, 2020), whose units are close to perceived differences.
"""

import itertools
import math
from collections.abc import Sequence

import numpy as np
from numpy.typing import ArrayLike, NDArray

from components.pages.palette import RGB

Lab = NDArray[np.float64]

LIGHTNESS = (0.58, 0.86)
"""Darker colours are lost in shadows, lighter ones in the sky."""
CHROMA = 0.17
"""More saturated colours hide the photograph."""
APART = 0.12
"""Least distance between two classes, as far as their number permits."""
_GREY = 0.03
"""Colours of less chroma are greys and stay so."""
_TURNS = (0, -25, 25, -50, 50, -75, 75)
"""Degrees by which a hue may turn."""
_TO_LMS = np.array(
    [
        [0.4122214708, 0.5363325363, 0.0514459929],
        [0.2119034982, 0.6806995451, 0.1073969566],
        [0.0883024619, 0.2817188376, 0.6299787005],
    ]
)
_TO_LAB = np.array(
    [
        [0.2104542553, 0.7936177850, -0.0040720468],
        [1.9779984951, -2.4285922050, 0.4505937099],
        [0.0259040371, 0.7827717662, -0.8086757660],
    ]
)
_FROM_LMS, _FROM_LAB = np.linalg.inv(_TO_LMS), np.linalg.inv(_TO_LAB)


def display_colors(declared: Sequence[RGB]) -> list[RGB]:
    """Return a colour to show for each class, all of them different.

    A colour moves only as far as the classes before it demand: in lightness first, then in hue.
    """
    chosen: list[Lab] = []
    shown: list[RGB] = []
    for color in declared:
        costs, candidates, colors = _candidates(color)
        near = np.full(len(costs), 9.0)
        if chosen:
            near = np.linalg.norm(candidates[:, None] - np.stack(chosen)[None], axis=2).min(axis=1)
        crowding = 40 * np.maximum(0, APART - near) - 3 * np.minimum(near, 0.2)
        order = np.argsort(costs + crowding, kind="stable")
        best = next((number for number in order if colors[number] not in shown), None)
        rgb = colors[int(order[0])] if best is None else colors[int(best)]
        shown.append(rgb if rgb not in shown else _next_unused(rgb, shown))
        chosen.append(to_lab(shown[-1]))
    return shown


def to_lab(colors: ArrayLike) -> Lab:
    """Return sRGB colours (..., 3), from 0 to 255, in OKLab."""
    value = np.asarray(colors) / 255
    linear = np.where(value <= 0.04045, value / 12.92, ((value + 0.055) / 1.055) ** 2.4)
    lab: Lab = np.cbrt(linear @ _TO_LMS.T) @ _TO_LAB.T
    return lab


def _candidates(color: RGB) -> tuple[NDArray[np.float64], Lab, list[RGB]]:
    """Return the cost (N,) of showing each of N colours for this one, the colours (N, 3) in OKLab, and in sRGB."""
    lightness, a, b = (float(value) for value in to_lab(color))
    chroma, hue = min(CHROMA, math.hypot(a, b)), math.atan2(b, a)
    grey = chroma < _GREY
    start = min(max(lightness, LIGHTNESS[0]), LIGHTNESS[1])
    chromas = {chroma} if grey else {chroma, max(chroma, 0.12)}
    lights = [start, *np.linspace(*LIGHTNESS, 8)]
    grid = np.array(list(itertools.product(lights, (0,) if grey else _TURNS, sorted(chromas))))
    light, turn, strength = grid.T
    angles = hue + np.radians(turn)
    colors = _to_rgb(np.stack([light, strength * np.cos(angles), strength * np.sin(angles)], axis=1))
    costs = 2 * np.abs(light - start) + np.abs(turn) / 60 + 2 * (strength - chroma)
    return costs, to_lab(colors), [(int(red), int(green), int(blue)) for red, green, blue in colors]


def _to_rgb(lab: Lab) -> NDArray[np.int64]:
    """Return the nearest sRGB colours (N, 3) of the same lightness and hue, of less chroma where necessary."""
    reduced = np.linspace(1, 0, 41)[:, None, None] * [0, 1, 1] * lab + [1, 0, 0] * lab
    linear = ((reduced @ _FROM_LAB.T) ** 3) @ _FROM_LMS.T
    fits = ((linear > -0.001) & (linear < 1.001)).all(axis=2)
    found = linear[fits.argmax(axis=0), np.arange(len(lab))].clip(0, 1)
    value = np.where(found <= 0.0031308, 12.92 * found, 1.055 * found ** (1 / 2.4) - 0.055)
    rounded: NDArray[np.int64] = np.rint(255 * value).astype(np.int64)
    return rounded


def _next_unused(color: RGB, shown: Sequence[RGB]) -> RGB:
    """Return a colour beside `color` that is not shown yet: masks in pages are read back by colour."""
    red, green, blue = color
    steps = itertools.product(range(48), repeat=3)
    return next(
        candidate
        for x, y, z in steps
        if (candidate := ((red + x) % 256, (green + y) % 256, (blue + z) % 256)) not in shown
    )
