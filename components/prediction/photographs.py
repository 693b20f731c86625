"""Photographs: found by path, folder or pattern, and decoded as a person would see them."""

import glob
import io
import os
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image, UnidentifiedImageError

from components.dataset.pictures import upright_rgb
from components.errors import UserError

Pixels = NDArray[np.uint8]

SUFFIXES = frozenset({".jpg", ".jpeg", ".png", ".webp", ".bmp", ".tif", ".tiff", ".ppm"})


class Unreadable(Exception):
    """A file that cannot be decoded as a photograph. The text is the reason, without the file's name."""


@dataclass(frozen=True)
class Photograph:
    """An image to predict.

    `name` says where its outputs go: a relative path without a suffix, unique among those that are predicted
    together. `shown` is what people know it by.
    """

    name: str
    shown: str
    read: Callable[[], Pixels]
    """(H, W, 3) uint8 RGB; may raise Unreadable."""
    truth: Callable[[], Pixels] | None = None
    """(H, W) uint8 class ids, where they are known."""


def find_photographs(paths: Sequence[str]) -> list[Photograph]:
    """Files as they are named, folders with all that lies below them, and patterns such as "street/**/*.jpg".

    Raises:
        UserError: something does not exist, or holds no image.
    """
    found: dict[Path, Path] = {}
    for text in paths:
        for path, below in _expand(text):
            found.setdefault(path.resolve(), below)
    if not found:
        raise UserError(f"no images in {', '.join(paths) or 'an empty list'}: looked for {' '.join(sorted(SUFFIXES))}")
    names = unique_names([below.as_posix() for below in found.values()])
    return [
        Photograph(name, os.path.relpath(path), lambda path=path: _read(path))  # type: ignore[misc]
        for path, name in zip(found, names, strict=True)
    ]


def unique_names(files: Sequence[str]) -> list[str]:
    """Relative paths without their suffixes; where two would be equal, later ones get "-2", "-3"."""
    taken: set[str] = set()
    names = []
    for file in files:
        stem = str(Path(*(part for part in Path(file).with_suffix("").parts if part not in ("..", "/"))))
        name, number = stem, 1
        while name.lower() in taken:  # lower case, for file systems that do not tell them apart
            number += 1
            name = f"{stem}-{number}"
        taken.add(name.lower())
        names.append(name)
    return names


def decode(data: bytes) -> Pixels:
    """Encoded image to (H, W, 3) uint8 RGB, turned upright as its EXIF data says.

    Grey, palette, RGBA and CMYK images are converted, 16-bit ones brought to 8. Raises Unreadable.
    """
    if not data:
        raise Unreadable("the file is empty")
    try:
        with Image.open(io.BytesIO(data)) as opened:
            opened.load()
            return upright_rgb(opened)
    except UnidentifiedImageError:
        raise Unreadable("it is no image, or of an unknown format") from None
    except Image.DecompressionBombError:
        raise Unreadable(f"it has more than {2 * (Image.MAX_IMAGE_PIXELS or 0) / 1e6:.0f} million pixels") from None
    except (OSError, ValueError, SyntaxError, EOFError) as error:
        raise Unreadable(" ".join(str(error).split()) or type(error).__name__) from None


def _expand(text: str) -> list[tuple[Path, Path]]:
    """The image files that one argument names, each with the path that its outputs get."""
    path = Path(text)
    if path.is_dir():
        return [(file, file.relative_to(path)) for file in sorted(path.rglob("*")) if _is_image(file)]
    if path.is_file():
        return [(path, Path(path.name))]
    if glob.has_magic(text):
        matches = [Path(match) for match in sorted(glob.glob(text, recursive=True))]
        return [(file, Path(file.name)) for file in matches if _is_image(file)]
    raise UserError(f"images {text!r} do not exist: name a file, a folder, or a quoted pattern such as 'street/*.jpg'")


def _is_image(path: Path) -> bool:
    return path.suffix.lower() in SUFFIXES and path.is_file()


def _read(path: Path) -> Pixels:
    try:
        data = path.read_bytes()
    except OSError as error:
        raise Unreadable(error.strerror or str(error)) from None
    return decode(data)
