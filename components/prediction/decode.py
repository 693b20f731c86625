"""Decode photographs and labels, or reject them with a reason."""

import ctypes
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TypeVar

import numpy as np
from numpy.typing import NDArray
from PIL import Image, UnidentifiedImageError

from components.dataset.heic import open_image
from components.dataset.label_pixels import is_lossless, stored_values
from components.dataset.stored.upright import upright_rgb
from components.errors import UserError
from components.metrics.confusion import ClassIds
from components.reading import mistaken, read_bytes

Pixels = NDArray[np.uint8]
T = TypeVar("T")

# Pillow warns above this number of pixels and rejects images above twice as many. Its default is a third of this, which
# is too little for panoramas and aerial photographs.
Image.MAX_IMAGE_PIXELS = 1 << 28
LARGE = 64 << 20
"""Size in bytes of decoded pixels from which the memory used for decoding is returned to the system at once."""


class Unreadable(Exception):
    """A file that cannot be decoded. The message is the reason, without the file's name."""


def decode(data: bytes) -> Pixels:
    """Decode an image to (H, W, 3) uint8 RGB, rotated upright according to its EXIF data.

    Grey, palette, RGBA and CMYK images are converted, and 16-bit images are scaled to 8 bits. Raises Unreadable.
    """
    pixels = _read(data, upright_rgb)
    if pixels.nbytes >= LARGE:
        release_freed_memory()
    return pixels


def pixels_of(picture: Image.Image) -> Pixels:
    """Convert an opened picture as `decode` does. Raises Unreadable."""
    with _refusing():
        return upright_rgb(picture)


def read_file(path: Path) -> bytes:
    """Return the file's content. Raises Unreadable."""
    try:
        return read_bytes(path)
    except OSError as error:
        raise Unreadable(error.strerror or str(error)) from None


def read_label(path: Path) -> ClassIds:
    """Return the class ids (H, W) stored in a label image. Raises Unreadable, whose message names the label."""
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
        raise ValueError(
            f"it has pixel mode {picture.mode}, but must hold class ids: save it as 8-bit or 16-bit grey or palette PNG"
        )
    return ids.astype(np.uint8 if ids.itemsize == 1 else np.uint16)


def _read(data: bytes, convert: Callable[[Image.Image], T]) -> T:
    """Open an image and convert it while Pillow still knows the bit depth of its pixels. Raises Unreadable."""
    with _refusing(data), open_image(data) as picture:
        return convert(picture)


@contextmanager
def _refusing(data: bytes = b"") -> Iterator[None]:
    """Turn the errors of Pillow into Unreadable; `data` is the file's content, if it is known."""
    try:
        yield
    except UnidentifiedImageError:
        raise Unreadable(mistaken(data) or "it is not an image, or its format is not supported") from None
    except Image.DecompressionBombError:
        raise Unreadable(f"it has more than {2 * (Image.MAX_IMAGE_PIXELS or 0) / 1e6:.0f} million pixels") from None
    except (UserError, OSError, ValueError, SyntaxError, EOFError) as error:
        raise Unreadable(" ".join(str(error).split()) or type(error).__name__) from None


def release_freed_memory() -> None:
    """Return freed memory to the system.

    glibc does not release freed memory below memory in use, so it would keep the 4 bytes per pixel that Pillow needs to
    decode a large image. Without glibc, do nothing.
    """
    trim = getattr(ctypes.CDLL(None), "malloc_trim", None)
    if trim is not None:
        trim(0)
