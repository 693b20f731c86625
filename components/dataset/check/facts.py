"""Read a file once: hash it, decode it, and keep what the checks need to know about its pixels."""

import hashlib
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageOps, UnidentifiedImageError

from components.dataset.check.perceptual import Hashes, perceptual_hash
from components.dataset.heic import open_image
from components.dataset.label_pixels import LabelPixels, label_pixels
from components.dataset.stored.upright import check_range, is_turned
from components.reading import mistaken, read_bytes

ID_MODES = ("L", "P")
"""Pillow's modes for 8-bit grey and palette images, whose pixels are class ids."""


@dataclass(frozen=True)
class FileFacts:
    """Facts about an image or a label. If `problem` is set, reading or decoding failed, and only the name is valid."""

    name: str
    sha256: str
    size: tuple[int, int] = (0, 0)
    """Width and height in pixels; for an image, after its EXIF rotation."""
    mode: str = ""
    """Pillow's pixel mode."""
    problem: str = ""
    turned: bool = False
    """Whether EXIF data rotates or mirrors the image."""
    image_hash: Hashes | None = None
    """An image's perceptual hash."""
    ids: NDArray[np.int64] | None = None
    """(256,) pixel count of each id, for a label that stores ids."""
    pixels: LabelPixels | None = None
    """A label's raw values or colours."""


def image_facts(folder: Path, name: str) -> FileFacts:
    """Read an image."""
    return _facts(folder, name, label=False)


def label_facts(folder: Path, name: str) -> FileFacts:
    """Read a label."""
    return _facts(folder, name, label=True)


def _facts(folder: Path, name: str, *, label: bool) -> FileFacts:
    try:
        data = read_bytes(folder / name)
    except OSError as error:
        return FileFacts(name, "", problem=error.strerror or type(error).__name__)
    sha256 = hashlib.sha256(data).hexdigest()
    try:
        with open_image(data) as picture:
            if label:
                return _label(name, sha256, picture, data)
            check_range(picture)
            turned = is_turned(picture)
            upright = ImageOps.exif_transpose(picture) if turned else picture
            upright.load()
            if upright.mode == "F":
                raise ValueError("its pixels are floating-point numbers")
            return FileFacts(
                name, sha256, upright.size, upright.mode, turned=turned, image_hash=perceptual_hash(upright)
            )
    except UnidentifiedImageError:
        return FileFacts(name, sha256, problem=mistaken(data) or "not an image")
    except Exception as error:  # a decoder may raise anything for broken bytes
        return FileFacts(name, sha256, problem=" ".join(str(error).split()) or type(error).__name__)


def _label(name: str, sha256: str, picture: Image.Image, data: bytes) -> FileFacts:
    pixels = label_pixels(picture, data)
    ids = None
    if pixels.plain:
        ids = np.zeros(256, np.int64)
        ids[list(pixels.counts)] = list(pixels.counts.values())
    return FileFacts(name, sha256, picture.size, pixels.mode, ids=ids, pixels=pixels)
