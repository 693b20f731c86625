"""Encoded photographs and labels to pixels; what cannot be read is refused with a reason."""

import ctypes
import io
from collections.abc import Callable
from pathlib import Path
from typing import TypeVar

import numpy as np
from numpy.typing import NDArray
from PIL import Image, UnidentifiedImageError

from components.dataset.label_pixels import is_lossless, stored_values
from components.dataset.stored.upright import upright_rgb
from components.metrics.confusion import ClassIds

Pixels = NDArray[np.uint8]
T = TypeVar("T")

# Pillow warns from this size and refuses from twice as much; by itself at a third of it, which is less than what
# panoramas and aerial photographs have.
Image.MAX_IMAGE_PIXELS = 1 << 28
LARGE = 64 << 20
"""Bytes of pixels from which on the memory that decoding took is given back at once."""


class Unreadable(Exception):
    """A file that cannot be decoded as a photograph. The text is the reason, without the file's name."""


def decode(data: bytes) -> Pixels:
    """Encoded image to (H, W, 3) uint8 RGB, turned upright as its EXIF data says.

    Grey, palette, RGBA and CMYK images are converted, 16-bit ones brought to 8. Raises Unreadable.
    """
    pixels = _read(data, upright_rgb)
    if pixels.nbytes >= LARGE:
        give_back_freed()
    return pixels


def read_file(path: Path) -> bytes:
    """Raises Unreadable."""
    try:
        return path.read_bytes()
    except OSError as error:
        raise Unreadable(error.strerror or str(error)) from None


def read_label(path: Path) -> ClassIds:
    """Class ids (H, W), as the picture's values are stored. Raises Unreadable that names the label."""
    try:
        data = read_file(path)
        return _read(data, lambda picture: _ids(picture, data))
    except Unreadable as error:
        raise Unreadable(f"its label {path}: {error}") from None


def _ids(picture: Image.Image, data: bytes) -> ClassIds:
    if not is_lossless(picture, data):
        raise ValueError(f"it is saved as {picture.format}, which changes class ids: save it as PNG")
    ids = np.asarray(picture) if picture.mode == "P" else stored_values(picture)
    if ids is None:
        raise ValueError(f"it has mode {picture.mode}, and must hold class ids (8 or 16 bits)")
    return ids.astype(np.uint8 if ids.itemsize == 1 else np.uint16)


def _read(data: bytes, convert: Callable[[Image.Image], T]) -> T:
    """Open a picture and convert it before Pillow forgets how many bits its pixels have. Raises Unreadable."""
    if not data:
        raise Unreadable("the file is empty")
    try:
        with Image.open(io.BytesIO(data)) as picture:
            return convert(picture)
    except UnidentifiedImageError:
        raise Unreadable("it is no image, or of an unknown format") from None
    except Image.DecompressionBombError:
        raise Unreadable(f"it has more than {2 * (Image.MAX_IMAGE_PIXELS or 0) / 1e6:.0f} million pixels") from None
    except (OSError, ValueError, SyntaxError, EOFError) as error:
        raise Unreadable(" ".join(str(error).split()) or type(error).__name__) from None


def give_back_freed() -> None:
    """Return freed memory to the system.

    glibc does so by itself only where nothing in use lies behind it: what Pillow took to decode a large image stays,
    4 bytes a pixel, as long as anything else lives. Elsewhere than on glibc nothing happens.
    """
    trim = getattr(ctypes.CDLL(None), "malloc_trim", None)
    if trim is not None:
        trim(0)
