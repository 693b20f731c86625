"""Encoded photographs and labels to pixels; what cannot be read is refused with a reason."""

import io
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image, UnidentifiedImageError

from components.dataset.pictures import upright_rgb
from components.metrics.confusion import ClassIds
from components.prediction.memory import give_back_freed

Pixels = NDArray[np.uint8]

# Pillow warns from this size and refuses from twice as much; by itself at a third of it, which is less than what
# panoramas and aerial photographs have.
Image.MAX_IMAGE_PIXELS = 1 << 28
LARGE = 64 << 20
"""Bytes of pixels from which on the memory that decoding took is given back at once."""
LABEL_MODES = frozenset({"L", "P", "1", "I;16"})


class Unreadable(Exception):
    """A file that cannot be decoded as a photograph. The text is the reason, without the file's name."""


def decode(data: bytes) -> Pixels:
    """Encoded image to (H, W, 3) uint8 RGB, turned upright as its EXIF data says.

    Grey, palette, RGBA and CMYK images are converted, 16-bit ones brought to 8. Raises Unreadable.
    """
    try:
        pixels = upright_rgb(_opened(data))
    except ValueError as error:
        raise Unreadable(str(error)) from None
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
    """Class ids (H, W), as the picture's values are. Raises Unreadable that names the label."""
    try:
        picture = _opened(read_file(path))
    except Unreadable as error:
        raise Unreadable(f"its label {path}: {error}") from None
    if picture.mode not in LABEL_MODES:
        raise Unreadable(f"its label {path} has mode {picture.mode}, and must hold class ids (8 or 16 bits)")
    return np.array(picture, np.uint16 if picture.mode == "I;16" else np.uint8)


def _opened(data: bytes) -> Image.Image:
    if not data:
        raise Unreadable("the file is empty")
    try:
        picture = Image.open(io.BytesIO(data))
        picture.load()
    except UnidentifiedImageError:
        raise Unreadable("it is no image, or of an unknown format") from None
    except Image.DecompressionBombError:
        raise Unreadable(f"it has more than {2 * (Image.MAX_IMAGE_PIXELS or 0) / 1e6:.0f} million pixels") from None
    except (OSError, ValueError, SyntaxError, EOFError) as error:
        raise Unreadable(" ".join(str(error).split()) or type(error).__name__) from None
    return picture
