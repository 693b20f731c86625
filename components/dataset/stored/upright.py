"""Convert an opened picture to the pixels that networks see, in training, evaluation and prediction alike."""

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageOps

_ORIENTATION = 0x0112
_TWELVE_BITS = 1 << 12
_BAND = 1 << 24
"""Pixels that are copied from an opened picture at once."""


def is_turned(picture: Image.Image) -> bool:
    """Return whether its EXIF data asks for a rotation or a reflection."""
    return picture.getexif().get(_ORIENTATION, 1) in range(2, 9)


def orientation(picture: Image.Image) -> int:
    """Return the EXIF orientation that `picture.size` still needs to be upright: 1 is none, 5 to 8 swap the sides.

    Pillow turns TIFFs itself, and reports their upright size from the start.
    """
    is_left = is_turned(picture) and picture.format != "TIFF"
    return int(picture.getexif()[_ORIENTATION]) if is_left else 1


def upright_size(picture: Image.Image) -> tuple[int, int]:
    """Return height and width of the picture turned upright."""
    width, height = picture.size
    return (width, height) if orientation(picture) > 4 else (height, width)


def upright_rgb(picture: Image.Image) -> NDArray[np.uint8]:
    """Return (H, W, 3) uint8, turned upright by its EXIF data and reduced to 8 bits. Do not modify it.

    Raises ValueError for pixels that cannot be converted, or that use only 10 or 12 of 16 bits.
    """
    check_range(picture)
    if is_turned(picture):
        picture = ImageOps.exif_transpose(picture)
    if picture.mode.startswith("I"):
        return _from_16_bits(np.asarray(picture))
    if picture.mode == "F":
        raise ValueError("its pixels are floating-point numbers")
    return _pixels(picture if picture.mode == "RGB" else picture.convert("RGB"))


def check_range(picture: Image.Image) -> None:
    """Raise ValueError for 16-bit pixels that use 12 bits or fewer, which would look nearly black.

    Call it before the picture is loaded: afterwards Pillow no longer knows how many bits a colour picture had.
    """
    is_grey = picture.mode.startswith("I")
    if not is_grey and ";16" not in raw_mode(picture):
        return
    # Pillow keeps only the high bytes of 16-bit colours.
    highest = int(np.asarray(picture).max(initial=0))
    if 0 < highest < (_TWELVE_BITS if is_grey else _TWELVE_BITS >> 8):
        raise ValueError("its 16-bit pixels use 12 bits or fewer and would look black: stretch them, and save 8 bits")


def raw_mode(picture: Image.Image) -> str:
    """Return Pillow's name for the pixel format in the file, or "" if the picture is loaded or has no file."""
    tile = getattr(picture, "tile", ())
    if not tile:
        return ""
    parameters = tile[0][3]
    return str(parameters[0] if isinstance(parameters, tuple) and parameters else parameters)


def _pixels(picture: Image.Image) -> NDArray[np.uint8]:
    """Return the pixels; copy a large picture some rows at a time, because Pillow duplicates what it returns."""
    width, height = picture.size
    if width * height <= _BAND:
        return np.asarray(picture)
    pixels = np.empty((height, width, 3), np.uint8)
    step = max(1, _BAND // width)
    for top in range(0, height, step):
        bottom = min(top + step, height)
        pixels[top:bottom] = np.asarray(picture.crop((0, top, width, bottom)))
    return pixels


def _from_16_bits(grey: NDArray[np.generic]) -> NDArray[np.uint8]:
    # Pillow's own conversion would turn everything above 255 into white.
    values = grey.astype(np.int64)
    if values.min(initial=0) < 0 or values.max(initial=0) > 65535:
        raise ValueError("its pixels have more than 16 bits")
    return np.repeat((values // 257).astype(np.uint8)[..., None], 3, axis=2)
