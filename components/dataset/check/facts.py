"""One file, read once: its sha256, whether it decodes, and what the checks need to know of its pixels."""

import hashlib
import io
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageOps, UnidentifiedImageError

from components.dataset.check.perceptual import Hashes, perceptual_hash
from components.dataset.label_pixels import LabelPixels, label_pixels
from components.dataset.stored.upright import check_range, is_turned
from components.errors import UserError

_POINTER = b"version https://git-lfs"
ID_MODES = ("L", "P")
"""PIL's names for 8-bit grey and for palette pictures, whose pixels are read as ids."""


@dataclass(frozen=True)
class FileFacts:
    """An image or a label. Where `problem` says why it cannot be decoded, the rest but the sha256 is empty."""

    name: str
    sha256: str
    size: tuple[int, int] = (0, 0)
    """Width, height in pixels; of an image when it is upright."""
    mode: str = ""
    """PIL's."""
    problem: str = ""
    turned: bool = False
    """An image that its EXIF data turns or mirrors."""
    looks: Hashes | None = None
    """An image's perceptual hash."""
    ids: NDArray[np.int64] | None = None
    """(256,) pixels of each id, of a label whose pixels are ids."""
    pixels: LabelPixels | None = None
    """What a label holds, before anything is made of it."""


def image_facts(folder: Path, name: str) -> FileFacts:
    """Raises UserError where the file cannot be opened."""
    return _facts(folder, name, label=False)


def label_facts(folder: Path, name: str) -> FileFacts:
    """Raises UserError where the file cannot be opened."""
    return _facts(folder, name, label=True)


def read_bytes(path: Path) -> bytes:
    try:
        return path.read_bytes()
    except OSError as error:
        raise UserError(f"{path} cannot be opened: {error.strerror}") from None


def _facts(folder: Path, name: str, *, label: bool) -> FileFacts:
    data = read_bytes(folder / name)
    sha256 = hashlib.sha256(data).hexdigest()
    try:
        with Image.open(io.BytesIO(data)) as picture:
            if label:
                return _label(name, sha256, picture, data)
            check_range(picture)
            turned = is_turned(picture)
            upright = ImageOps.exif_transpose(picture) if turned else picture
            upright.load()
            if upright.mode == "F":
                raise ValueError("its pixels are floating-point numbers")
            return FileFacts(name, sha256, upright.size, upright.mode, turned=turned, looks=perceptual_hash(upright))
    except UnidentifiedImageError:
        return FileFacts(name, sha256, problem=_no_picture(data))
    except Exception as error:  # a decoder may raise anything for broken bytes
        return FileFacts(name, sha256, problem=" ".join(str(error).split()) or type(error).__name__)


def _label(name: str, sha256: str, picture: Image.Image, data: bytes) -> FileFacts:
    pixels = label_pixels(picture, data)
    ids = None
    if pixels.plain:
        ids = np.zeros(256, np.int64)
        ids[list(pixels.counts)] = list(pixels.counts.values())
    return FileFacts(name, sha256, picture.size, pixels.mode, ids=ids, pixels=pixels)


def _no_picture(data: bytes) -> str:
    if not data:
        return "empty"
    if data.startswith(_POINTER):
        return "a Git LFS pointer instead of the file; fetch it with `git lfs pull`"
    return "not a picture"
