"""What pages show of an image: the photograph and its masks as data: URIs of bounded size."""

import io
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TypedDict

import numpy as np
from PIL import Image

from components.contract import Class
from components.metrics.confusion import ClassIds
from components.pages.display import display_colors
from components.pages.palette import RGB, is_background
from components.pages.pictures import Pixels, data_uri, ids_thumbnail, thumbnail
from components.pages.render import css_color

_QUALITIES = (80, 68, 55, 40)
_SMALLEST = 96
"""Pictures are not made narrower than this many pixels to save bytes."""


@dataclass(frozen=True)
class Limits:
    """Upper limits for the pictures of one image, so that a page with many of them stays small."""

    width: int
    """Pixels."""
    photograph: int
    """Bytes."""
    mask: int
    """Bytes."""


@dataclass(frozen=True)
class Picture:
    """A photograph and its masks as data: URIs. Masks that are unknown are ""."""

    name: str
    ratio: float
    """Width over height."""
    photograph: str
    truth: str = ""
    prediction: str = ""
    said: str = ""
    """What readers who cannot see the prediction should know."""

    @property
    def short(self) -> str:
        """Return the name without folders."""
        return self.name.rsplit("/", 1)[-1]


class ShownClass(TypedDict):
    """A class as page.js reads it."""

    name: str
    color: str
    """In CSS."""
    clear: bool
    """Whether it is a background, which is transparent."""


class Painter:
    """Draws masks in the colours that pages show classes in. A background is transparent, and so is void."""

    def __init__(self, classes: Sequence[Class]) -> None:
        self.names = [item.name for item in classes]
        self._colors: list[RGB] = display_colors([item.color for item in classes])
        self._clear = [number for number, item in enumerate(classes) if is_background(item.name)]

    @property
    def classes(self) -> list[ShownClass]:
        colors = zip(self.names, self._colors, strict=True)
        return [
            {"name": name, "color": css_color(color), "clear": number in self._clear}
            for number, (name, color) in enumerate(colors)
        ]

    @property
    def colors(self) -> dict[str, str]:
        """Return the CSS colour of each class by name."""
        return {name: css_color(color) for name, color in zip(self.names, self._colors, strict=True)}

    def mask(self, ids: ClassIds, limits: Limits) -> str:
        """Return ids (H, W) as the data: URI of a PNG. Ids outside the classes are void."""
        width = min(limits.width, ids.shape[1])
        while True:
            data = self._png(ids_thumbnail(ids, width))
            if len(data) <= limits.mask or width <= _SMALLEST:
                return data_uri(data)
            width = width * 3 // 4

    def _png(self, ids: ClassIds) -> bytes:
        count = len(self._colors)
        bounded = np.minimum(ids, count)
        # The n-th transparent class has the opacity n/255, from which page.js tells it from void.
        opacity = [255] * count + [0]
        for position, number in enumerate(self._clear, start=1):
            opacity[number] = position
        colors = [*self._colors, (0, 0, 0)]
        buffer = io.BytesIO()
        if count < 256:
            picture = Image.fromarray(bounded.astype(np.uint8))
            picture.putpalette(np.array(colors, np.uint8).tobytes())
            picture.save(buffer, "PNG", transparency=bytes(opacity))
        else:
            table = np.array([(*color, alpha) for color, alpha in zip(colors, opacity, strict=True)], np.uint8)
            Image.fromarray(table[bounded], "RGBA").save(buffer, "PNG")
        return buffer.getvalue()


def photograph(pixels: Pixels, limits: Limits) -> str:
    """Return a photograph as the data: URI of a WebP that fits the limits; quality is reduced first, then the width."""
    width = min(limits.width, pixels.shape[1])
    while True:
        picture = Image.fromarray(thumbnail(pixels, width))
        for quality in _QUALITIES:
            buffer = io.BytesIO()
            picture.save(buffer, "WEBP", quality=quality)
            if buffer.tell() <= limits.photograph or (width <= _SMALLEST and quality == _QUALITIES[-1]):
                return data_uri(buffer.getvalue())
        width = width * 3 // 4


def ratio(pixels: Pixels | ClassIds) -> float:
    """Return width over height."""
    return float(pixels.shape[1] / pixels.shape[0])
