"""What would break a training hours later, found before anything is stored.

Images must be readable, labels hold class ids or the ignore index, and an image and its label be of one size.
"""

import hashlib
import io
import os
from collections.abc import Callable, Iterable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import TypeVar

import numpy as np
from numpy.typing import NDArray
from PIL import Image, UnidentifiedImageError

from components import progress
from components.dataset.layouts import Layout
from components.dataset.manifest import Sample
from components.errors import UserError

_Item = TypeVar("_Item")
_Result = TypeVar("_Result")

STEP = "prepare-dataset"
_ID_MODES = ("L", "P")
"""PIL's names for 8-bit grey and for palette pictures, whose pixels are read as ids."""


def hash_files(layout: Layout) -> dict[str, str]:
    """sha256 of every file that the lists name."""
    names = layout.lists.file_names()

    def digest(name: str) -> str:
        with _open(layout.folder / name) as file:
            return hashlib.file_digest(file, "sha256").hexdigest()

    return dict(zip(names, in_threads(digest, names), strict=True))


def check_files(layout: Layout) -> None:
    """Decode every image and label once.

    Raises:
        UserError: names the file and what is wrong with it; of several, the first in the lists' order.
    """
    samples = _samples(layout)
    allowed = np.zeros(256, dtype=bool)
    allowed[: len(layout.lists.classes)] = True
    allowed[layout.lists.ignore_index] = True
    checks = in_threads(lambda sample: _check(layout, sample, allowed), samples)
    for done, _ in enumerate(checks, start=1):
        if done % 200 == 0 or done == len(samples):
            progress.advance(STEP, done, len(samples), "images checked")


def in_threads(work: Callable[[_Item], _Result], items: Iterable[_Item]) -> Iterable[_Result]:
    """`map` over threads, in order; hashing and decoding release the interpreter's lock."""
    pool = ThreadPoolExecutor(max_workers=(os.cpu_count() or 1) + 1)
    try:
        yield from pool.map(work, items)
    finally:
        # After an error the rest is not worth doing.
        pool.shutdown(wait=True, cancel_futures=True)


def _samples(layout: Layout) -> list[Sample]:
    """Every image once, with its label where any list gives one."""
    lists = layout.lists
    labels: dict[str, Sample] = {}
    for sample in (*lists.train, *lists.val, *lists.test):
        labels[sample.image] = sample
    for own in lists.ratio_lists.values():
        for sample in own.labeled:
            labels[sample.image] = sample
        for image in own.unlabeled:
            labels.setdefault(image, Sample(image=image))
    for image in lists.unlabeled:
        labels.setdefault(image, Sample(image=image))
    return list(labels.values())


def _check(layout: Layout, sample: Sample, allowed: NDArray[np.bool_]) -> None:
    image = layout.folder / sample.image
    with _decoded(image, "image") as picture:
        size = picture.size
    if sample.label is None:
        return
    label = layout.folder / sample.label
    with _decoded(label, "label") as picture:
        if picture.mode not in _ID_MODES:
            raise UserError(
                f"label {label} is a picture of mode {picture.mode}, and should hold class ids: "
                "save it as 8-bit grey or palette PNG"
            )
        if picture.size != size:
            raise UserError(
                f"label {label} is {_size(picture.size)} and its image {image} is {_size(size)}: "
                "give both the same size"
            )
        present = np.bincount(np.asarray(picture, dtype=np.uint8).ravel(), minlength=256) > 0
    wrong = np.flatnonzero(present & ~allowed).tolist()
    if wrong:
        classes = len(layout.lists.classes)
        raise UserError(
            f"label {label} has ids outside the {classes} classes: {_values(wrong)}; "
            f"ids are 0 to {classes - 1}, and {layout.lists.ignore_index} for void"
        )


def _decoded(path: Path, what: str) -> Image.Image:
    with _open(path) as file:
        data = file.read()
    try:
        picture = Image.open(io.BytesIO(data))
        picture.load()
    except (UnidentifiedImageError, OSError, SyntaxError, ValueError, Image.DecompressionBombError) as error:
        reason = "not a picture" if isinstance(error, UnidentifiedImageError) else " ".join(str(error).split())
        raise UserError(f"{what} {path} cannot be read ({reason}): replace it or take it off the lists") from None
    return picture


def _open(path: Path) -> io.BufferedReader:
    try:
        return path.open("rb")
    except OSError as error:
        raise UserError(f"{path} cannot be opened: {error.strerror}") from None


def _size(size: tuple[int, int]) -> str:
    return f"{size[0]}x{size[1]}"


def _values(values: list[int]) -> str:
    shown = ", ".join(str(value) for value in values[:8])
    return f"{shown}, … ({len(values)} values)" if len(values) > 8 else shown
