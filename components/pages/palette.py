"""Colours for classes that declare none.

The first six are Okabe and Ito's (2008). The others were added one by one, each as far as possible (CIEDE2000, the
worst of normal vision and Machado's simulations of protanopia, deuteranopia and tritanopia) from those before it, from
black and white, from the neutral grey of the background, and from the vermilion that marks errors.
"""

import colorsys
from collections.abc import Iterator, Sequence
from itertools import count

RGB = tuple[int, int, int]

NEUTRAL: RGB = (80, 80, 80)
"""The colour of a background class: darker than every other class, but not the black of void."""
COLORS: tuple[RGB, ...] = (
    (0, 114, 178),
    (240, 228, 66),
    (0, 158, 115),
    (204, 121, 167),
    (86, 180, 233),
    (230, 159, 0),
    (108, 48, 0),
    (24, 60, 108),
    (192, 240, 180),
    (48, 0, 216),
    (156, 84, 60),
    (132, 120, 252),
    (144, 192, 132),
    (0, 240, 252),
    (252, 168, 204),
    (132, 84, 132),
    (156, 0, 72),
    (120, 144, 72),
    (192, 216, 120),
    (180, 96, 132),
)
_BACKGROUND = frozenset({"background", "bg"})
_NEAR = 24
"""Two colours that differ by less than this in red, green and blue together look the same."""


def class_colors(names: Sequence[str], declared: Sequence[RGB | None] = ()) -> list[RGB]:
    """Return a colour for each class: the declared one, else grey for the background and the palette's for others.

    Colours of the palette that look like a declared one are skipped. All returned colours that are not declared differ.

    Args:
        declared: the colour of each class, or None; may be shorter than `names`.
    """
    given = [*declared, *[None] * (len(names) - len(declared))]
    known = [color for color in given if color is not None]
    unused = (color for color in _palette() if not _is_near(color, known))
    background = next((name for name in names if is_background(name)), None)
    grey = None if _is_near(NEUTRAL, known) else background
    return [color or (NEUTRAL if name == grey else next(unused)) for name, color in zip(names, given, strict=True)]


def is_background(name: str) -> bool:
    """Return whether a class of this name is everything that is no other class."""
    return name.lower().strip("_ ") in _BACKGROUND


def _palette() -> Iterator[RGB]:
    """Yield the palette, and then hues that are a golden ratio apart, with varying lightness and saturation."""
    yield from COLORS
    seen = {*COLORS, NEUTRAL}
    for step in count():
        lightness, saturation = (0.35, 0.5, 0.65, 0.8)[step % 4], (1.0, 0.7, 0.45)[step % 3]
        red, green, blue = colorsys.hls_to_rgb(step * 0.618034 % 1, lightness, saturation)
        color = round(red * 255), round(green * 255), round(blue * 255)
        if color not in seen:
            seen.add(color)
            yield color


def _is_near(color: RGB, taken: Sequence[RGB]) -> bool:
    return any(sum(abs(one - other) for one, other in zip(color, each, strict=True)) < _NEAR for each in taken)
