"""Recognise labels with smoothed edges or JPEG's noise, many of whose values or colours are no classes.

Where a mask was scaled or drawn with anti-aliasing, the pixels along an edge get values between those of both sides. A
JPEG that was converted to PNG has single pixels of other values around its edges. The pixels of a class, however thin,
mostly touch others of the same class instead.
"""

from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from components.dataset.label_pixels import stored_values
from components.dataset.layouts import Layout
from components.dataset.propose.contents import Contents, Mark
from components.errors import UserError

_EXAMINED = 8
"""How many labels to decode again: those with the most different values or colours."""
_FEW = 3
"""This many values may be classes, whatever they look like."""
_STRAY = 0.6
"""A value is not a class if at least this share of its pixels belongs to no area."""


def check_stray(layout: Layout, contents: Contents) -> None:
    """Raise UserError if at least half of the values or colours in a label form no area of their own."""
    for name in sorted(contents.labels, key=lambda name: (-len(contents.labels[name]), name))[:_EXAMINED]:
        counts = contents.labels[name]
        if len(counts) <= _FEW:
            return
        stray = stray_codes(_pixels(layout.folder / name, is_colored=contents.is_colored))
        kept = sorted((mark for mark in counts if _code(mark) not in stray), key=lambda mark: -counts[mark])
        if len(kept) * 2 > len(counts):
            continue
        what = "colours" if contents.is_colored else "values"
        areas = f"only {', '.join(map(str, kept[:4]))}{' …' if len(kept) > 4 else ''} form areas" if kept else ""
        raise UserError(
            f"label {layout.root}{name} has {len(counts)} {what}, but {areas or 'none forms an area'}: the others are "
            "smoothed edges or noise; export the labels as PNG without anti-aliasing, and resize them without "
            "interpolation"
        )


def stray_codes(pixels: NDArray[np.int32]) -> set[int]:
    """Return the codes of values or colours that form no area of their own.

    Most of their pixels lie between two opposite neighbours in every channel, or touch no other of their code.

    Args:
        pixels: (H, W, channels). The code of a colour is 0xRRGGBB.
    """
    codes = pixels @ (1 << 8 * np.arange(pixels.shape[-1])[::-1])
    stray = np.ones(codes.shape, bool)
    across, down = codes[:, 1:] != codes[:, :-1], codes[1:] != codes[:-1]
    stray[:, 1:] &= across
    stray[:, :-1] &= across
    stray[1:] &= down
    stray[:-1] &= down
    stray[:, 1:-1] |= _lies_between(pixels[:, :-2], pixels[:, 1:-1], pixels[:, 2:])
    stray[1:-1] |= _lies_between(pixels[:-2], pixels[1:-1], pixels[2:])
    found, places = np.unique(codes, return_inverse=True)
    shares = np.bincount(places.ravel(), weights=stray.ravel()) / np.bincount(places.ravel())
    return set(found[shares >= _STRAY].tolist())


def _lies_between(before: NDArray[np.int32], here: NDArray[np.int32], after: NDArray[np.int32]) -> NDArray[np.bool_]:
    low, high = np.minimum(before, after), np.maximum(before, after)
    differs = (here != before).any(axis=-1) & (here != after).any(axis=-1)
    return np.asarray(((low <= here) & (here <= high)).all(axis=-1) & differs)


def _pixels(path: Path, *, is_colored: bool) -> NDArray[np.int32]:
    """Return a label's pixels as (H, W, 1) values or (H, W, 3) colours."""
    with Image.open(path) as picture:
        values = np.asarray(picture) if picture.mode == "P" else stored_values(picture)
        if values is None or is_colored:
            values = np.asarray(picture.convert("RGB"))
            values = values if is_colored else values[..., :1]
    return values.reshape(*values.shape[:2], -1).astype(np.int32)


def _code(mark: Mark) -> int:
    return mark if isinstance(mark, int) else mark[0] << 16 | mark[1] << 8 | mark[2]
