"""Labels of other ids than the classes', such as Cityscapes' label ids, mapped once when the dataset is stored."""

import os
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image, UnidentifiedImageError

from components import progress
from components.dataset.check import STEP, in_threads
from components.dataset.layouts import Layout
from components.dataset.layouts.cityscapes import LABEL_IDS, TRAIN_IDS
from components.dataset.manifest import Lists, Sample
from components.errors import UserError

_LEVEL = 6
"""Of zlib; a part of what the mapped labels' digests are over, so it stays."""


def with_train_ids(layout: Layout, folder: Path) -> Layout:
    """The layout with labels that hold class ids; itself where they do already.

    Args:
        folder: is made; gets links to the dataset's files, and the mapped labels. The dataset's own is not touched.

    Raises:
        UserError: a label is no picture of ids, or holds an id that has no meaning.
    """
    if layout.label_ids is None:
        return layout
    labels = sorted({sample.label for part in _labeled(layout.lists) for sample in part if sample.label is not None})
    for name in layout.lists.file_names():
        place = folder / _mapped(name)
        place.parent.mkdir(parents=True, exist_ok=True)
        if not name.endswith(LABEL_IDS):
            os.symlink((layout.folder / name).absolute(), place)
    table = _table(layout.label_ids)
    work = in_threads(lambda name: _map(layout.folder / name, folder / _mapped(name), *table), labels)
    for done, _ in enumerate(work, start=1):
        if done % 200 == 0 or done == len(labels):
            progress.advance(STEP, done, len(labels), "labels mapped to train ids")
    return replace(layout, folder=folder, lists=_renamed(layout.lists), label_ids=None)


def _map(source: Path, target: Path, table: NDArray[np.uint8], known: NDArray[np.bool_]) -> None:
    try:
        with Image.open(source) as picture:
            if picture.mode not in ("L", "P"):
                raise UserError(f"label {source} is a picture of mode {picture.mode}, and should hold label ids")
            ids = np.asarray(picture, dtype=np.uint8)
    except (UnidentifiedImageError, OSError, SyntaxError, ValueError, Image.DecompressionBombError) as error:
        reason = "not a picture" if isinstance(error, UnidentifiedImageError) else " ".join(str(error).split())
        raise UserError(f"label {source} cannot be read ({reason}): replace it") from None
    wrong = np.flatnonzero((np.bincount(ids.ravel(), minlength=256) > 0) & ~known).tolist()
    if wrong:
        raise UserError(f"label {source} has {', '.join(map(str, wrong[:8]))}, which are no label ids of Cityscapes")
    Image.fromarray(table[ids]).save(target, "PNG", compress_level=_LEVEL)


def _table(label_ids: Mapping[int, int]) -> tuple[NDArray[np.uint8], NDArray[np.bool_]]:
    table, known = np.zeros(256, np.uint8), np.zeros(256, np.bool_)
    for label, train in label_ids.items():
        table[label], known[label] = train, True
    return table, known


def _labeled(lists: Lists) -> list[tuple[Sample, ...]]:
    return [lists.train, lists.val, lists.test]


def _renamed(lists: Lists) -> Lists:
    def renamed(samples: tuple[Sample, ...]) -> tuple[Sample, ...]:
        return tuple(
            sample.model_copy(update={"label": _mapped(sample.label)}) if sample.label else sample for sample in samples
        )

    return lists.model_copy(
        update={"train": renamed(lists.train), "val": renamed(lists.val), "test": renamed(lists.test)}
    )


def _mapped(name: str) -> str:
    return f"{name.removesuffix(LABEL_IDS)}{TRAIN_IDS}" if name.endswith(LABEL_IDS) else name
