"""An opened picture as the networks see it: the same in training, evaluation and prediction."""

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageOps

_ORIENTATION = 0x0112
_TWELVE_BITS = 1 << 12
_BAND = 1 << 24
"""Pixels that are taken out of an opened picture at once."""


def is_turned(picture: Image.Image) -> bool:
    """Whether its EXIF data says that it is to be turned or mirrored to be seen as it was taken."""
    return picture.getexif().get(_ORIENTATION, 1) in range(2, 9)


def upright_rgb(picture: Image.Image) -> NDArray[np.uint8]:
    """(H, W, 3) uint8, not to be written to: turned upright as its EXIF data says, brought to 8 bits.

    Raises ValueError for pixels that have no such form, or that a camera of 10 or 12 bits left in 16.
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
    """Raise ValueError for 16-bit pixels that use 12 bits or fewer, which would be read as nearly black.

    To be called before the picture is loaded: of colour pictures, Pillow then forgets how many bits they had.
    """
    is_grey = picture.mode.startswith("I")
    if not is_grey and ";16" not in raw_mode(picture):
        return
    # Of 16-bit colours Pillow keeps the higher bytes.
    highest = int(np.asarray(picture).max(initial=0))
    if 0 < highest < (_TWELVE_BITS if is_grey else _TWELVE_BITS >> 8):
        raise ValueError("its 16-bit pixels use 12 bits or fewer and would look black: stretch them, and save 8 bits")


def raw_mode(picture: Image.Image) -> str:
    """How pixels lie in the file, in Pillow's words; empty once they are loaded, and where there is no file."""
    tile = getattr(picture, "tile", ())
    if not tile:
        return ""
    parameters = tile[0][3]
    return str(parameters[0] if isinstance(parameters, tuple) and parameters else parameters)


def _pixels(picture: Image.Image) -> NDArray[np.uint8]:
    """Those of a large picture some rows at a time, since Pillow holds what it gives away twice."""
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
    # Pillow's own conversion would make white of all that is above 255.
    values = grey.astype(np.int64)
    if values.min(initial=0) < 0 or values.max(initial=0) > 65535:
        raise ValueError("its pixels have more than 16 bits")
    return np.repeat((values // 257).astype(np.uint8)[..., None], 3, axis=2)
