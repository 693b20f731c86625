"""Summarise the raw content of a label file: values, palette indices, or colours."""

from collections.abc import Container, Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from components.dataset.class_files import RGB
from components.dataset.stored.upright import raw_mode

MAX_COLORS = 1024
"""A mask has one colour per class; an image with more is a photograph, or a mask with smoothed edges."""

_RARE = 0.02
"""A value or colour with a smaller share of a label's pixels may come from smoothing or lossy compression …"""
_MANY = 20
"""… if there are more than this many of them,"""
_TIMES = 3
"""and this many times as many as there are others."""

_SCALE = {"L;2": 85, "L;4": 17}
"""Pillow's scale factor for grey samples with fewer than 8 bits."""
_LOSSLESS = frozenset({"PNG", "BMP", "TIFF", "PPM", "GIF", "TGA", "DIB", "PCX"})


@dataclass(frozen=True)
class LabelPixels:
    """A summary of a label file; `kind` determines which of `counts`, `palette` and `colors` are filled."""

    kind: Literal["values", "palette", "colors", "unknown"]
    mode: str
    """Pillow's pixel mode."""
    lossy: str = ""
    """The file format if it is lossy, else empty."""
    transparent: bool = False
    painted: bool = False
    """Whether other labels of the dataset are coloured, so that this one does not hold values either."""
    counts: Mapping[int, int] = field(default_factory=dict)
    """Pixel count of each value or index, as stored, whatever the bit depth."""
    palette: Mapping[int, RGB] = field(default_factory=dict)
    """The colour of each palette index in use."""
    colors: Mapping[RGB, int] | None = field(default_factory=dict)
    """Pixel count of each colour; None if there are more than MAX_COLORS."""
    plain: bool = False
    """Whether the stored bytes are the pixel values: 8-bit grey or palette."""

    @property
    def is_grey(self) -> bool:
        """Whether this is a colour image with three equal channels, that is, values saved as colours."""
        return self.kind == "colors" and bool(self.colors) and all(r == g == b for r, g, b in self.colors or ())


def is_smoothed(counts: Mapping[Any, int], known: Container[Any]) -> bool:
    """Return whether a label has many values or colours of no class, as anti-aliasing and JPEG leave them.

    These occur in few pixels each, while a few others cover most of the label.

    Args:
        counts: pixel count of each value or colour.
        known: the values or colours that belong to classes.
    """
    most = _RARE * sum(counts.values())
    rare = [mark for mark, pixels in counts.items() if pixels < most]
    strange = sum(mark not in known for mark in rare)
    return strange > max(_MANY, _TIMES * (len(counts) - len(rare)))


def label_pixels(picture: Image.Image, data: bytes) -> LabelPixels:
    """Summarise a label.

    Args:
        picture: not loaded yet, because loading makes Pillow forget the bit depth.
        data: the file's bytes.
    """
    lossy = "" if is_lossless(picture, data) else str(picture.format)
    scale = _SCALE.get(raw_mode(picture), 1)
    if getattr(picture, "n_frames", 1) > 1:
        return LabelPixels("unknown", f"{picture.mode} with several pages")
    if picture.mode == "P":
        picture.load()
        counts = _nonzero(picture.histogram())
        return LabelPixels("palette", "P", lossy, counts=counts, palette=_palette(picture, counts), plain=not lossy)
    if picture.mode == "L" and scale == 1:
        return LabelPixels("values", "L", lossy, counts=_nonzero(picture.histogram()), plain=not lossy)
    if (values := stored_values(picture)) is not None:
        found, pixels = np.unique(values, return_counts=True)
        return LabelPixels(
            "values", picture.mode, lossy, counts=dict(zip(found.tolist(), pixels.tolist(), strict=True))
        )
    if picture.mode in ("RGB", "RGBA", "LA", "PA"):
        transparent = picture.mode != "RGB" and picture.getchannel("A").getextrema() != (255, 255)
        listed = picture.convert("RGB").getcolors(MAX_COLORS)
        colors = None if listed is None else {color: pixels for pixels, color in listed}
        return LabelPixels("colors", picture.mode, lossy, transparent, colors=colors)  # type: ignore[arg-type]
    return LabelPixels("unknown", picture.mode, lossy)


def stored_values(picture: Image.Image) -> NDArray[np.integer[Any]] | None:
    """Return the (H, W) samples of a grey image as stored, such as 0 to 3 for 2 bits; None for other images."""
    scale = _SCALE.get(raw_mode(picture), 1)
    if picture.mode == "1":
        return np.asarray(picture).astype(np.uint8)
    if picture.mode != "L" and not picture.mode.startswith("I"):
        return None
    samples = np.asarray(picture)
    return samples if scale == 1 else samples // scale


def _palette(picture: Image.Image, counts: Mapping[int, int]) -> dict[int, RGB]:
    flat = picture.getpalette("RGB") or []
    colors = {index: tuple(flat[3 * index : 3 * index + 3]) for index in counts}
    return {index: (color[0], color[1], color[2]) for index, color in colors.items() if len(color) == 3}


def _nonzero(histogram: list[int]) -> dict[int, int]:
    return {value: pixels for value, pixels in enumerate(histogram) if pixels}


def is_lossless(picture: Image.Image, data: bytes) -> bool:
    """Return whether the file's format preserves pixel values."""
    if picture.format == "WEBP":
        return b"VP8L" in data[:4096]
    if picture.format == "TIFF":
        return picture.info.get("compression") != "jpeg"
    return picture.format in _LOSSLESS
