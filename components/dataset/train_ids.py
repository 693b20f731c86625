"""Labels of other ids than the classes', such as Cityscapes' or CamVid's, mapped once when a dataset is stored."""

import os
from collections.abc import Callable, Iterator, Mapping
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
from components.dataset.scratch import writing
from components.errors import UserError

Ids = NDArray[np.uint8]

_LEVEL = 6
"""Of zlib; a part of what the mapped labels' digests are over, so it stays."""


class Unmapped(UserError):
    """A label that cannot be mapped; `kind` is what a check calls that."""

    def __init__(self, kind: str, text: str) -> None:
        super().__init__(text)
        self.kind = kind


def with_train_ids(layout: Layout, folder: Path, *, keep_going: bool = False) -> Layout:
    """The layout with labels that hold class ids; itself where they do already.

    Args:
        folder: is made; gets links to the dataset's files, and the mapped labels. The dataset's own is not touched.
        keep_going: labels that cannot be mapped stay as they are, and are in `refused`.

    Raises:
        Unmapped: a label is no picture of ids, or holds an id that has no meaning.
        WorkFailed: the disk is full.
    """
    if layout.label_ids is None and layout.label_colors is None:
        return layout
    labels = {sample.label for part in _labeled(layout.lists) for sample in part if sample.label is not None}
    mapped = {name: _mapped(name) for name in sorted(labels)}
    with writing(folder):
        refused = dict(_write(layout, mapped, folder, keep_going=keep_going))
    lists = _renamed(layout.lists, mapped)
    origin = layout.origin or str(layout.folder)
    return replace(
        layout, folder=folder, origin=origin, lists=lists, label_ids=None, label_colors=None, refused=refused
    )


def _write(
    layout: Layout, mapped: Mapping[str, str], folder: Path, *, keep_going: bool
) -> Iterator[tuple[str, tuple[str, str]]]:
    """Links to the files as they are, and the mapped labels; yields those that cannot be mapped, and why."""
    for name in layout.lists.file_names():
        place = folder / mapped.get(name, name)
        place.parent.mkdir(parents=True, exist_ok=True)
        if name not in mapped:
            os.symlink((layout.folder / name).absolute(), place)
    ids_of = _by_color(layout.label_colors) if layout.label_colors else _by_id(layout.label_ids or {})

    def map_one(name: str) -> Unmapped | None:
        try:
            _map(layout.folder / name, folder / mapped[name], ids_of)
        except Unmapped as error:
            if not keep_going:
                raise Unmapped(error.kind, str(error).replace(f"{layout.folder}/", layout.root, 1)) from None
            os.symlink((layout.folder / name).absolute(), folder / mapped[name])
            return error
        return None

    for done, (name, error) in enumerate(zip(mapped, in_threads(map_one, mapped), strict=True), start=1):
        if error:
            yield mapped[name], (error.kind, str(error).replace(f"{layout.folder}/", "", 1))
        if done % 200 == 0 or done == len(mapped):
            progress.advance(STEP, done, len(mapped), "labels mapped to class ids")


def _map(source: Path, target: Path, ids_of: Callable[[Path, Image.Image], Ids]) -> None:
    try:
        with Image.open(source) as picture:
            ids = ids_of(source, picture)
    except (UnidentifiedImageError, OSError, SyntaxError, ValueError, Image.DecompressionBombError) as error:
        reason = "not a picture" if isinstance(error, UnidentifiedImageError) else " ".join(str(error).split())
        raise Unmapped("unreadable", f"label {source} cannot be read ({reason}): replace it") from None
    Image.fromarray(ids).save(target, "PNG", compress_level=_LEVEL)


def _by_id(label_ids: Mapping[int, int]) -> Callable[[Path, Image.Image], Ids]:
    table, known = _table(label_ids)

    def ids_of(source: Path, picture: Image.Image) -> Ids:
        if picture.mode not in ("L", "P"):
            raise Unmapped("mode", f"label {source} is a picture of mode {picture.mode}, and should hold label ids")
        ids = np.asarray(picture, dtype=np.uint8)
        wrong = np.flatnonzero((np.bincount(ids.ravel(), minlength=256) > 0) & ~known).tolist()
        if wrong:
            raise Unmapped(
                "ids", f"label {source} has {', '.join(map(str, wrong[:8]))}, which are no label ids of Cityscapes"
            )
        return table[ids]

    return ids_of


def _by_color(label_colors: Mapping[tuple[int, int, int], int]) -> Callable[[Path, Image.Image], Ids]:
    numbers = {red << 16 | green << 8 | blue: value for (red, green, blue), value in label_colors.items()}

    def ids_of(source: Path, picture: Image.Image) -> Ids:
        pixels = np.asarray(picture.convert("RGB"), dtype=np.uint32)
        colors, places = np.unique(pixels @ np.array([1 << 16, 1 << 8, 1], np.uint32), return_inverse=True)
        wrong = [color for color in colors.tolist() if color not in numbers]
        if wrong:
            named = ", ".join(f"({color >> 16}, {color >> 8 & 255}, {color & 255})" for color in wrong[:4])
            raise Unmapped("ids", f"label {source} has the colours {named}, which no class has")
        return np.array([numbers[color] for color in colors.tolist()], np.uint8)[places].reshape(pixels.shape[:2])

    return ids_of


def _table(label_ids: Mapping[int, int]) -> tuple[NDArray[np.uint8], NDArray[np.bool_]]:
    table, known = np.zeros(256, np.uint8), np.zeros(256, np.bool_)
    for label, train in label_ids.items():
        table[label], known[label] = train, True
    return table, known


def _labeled(lists: Lists) -> list[tuple[Sample, ...]]:
    return [lists.train, lists.val, lists.test]


def _renamed(lists: Lists, mapped: Mapping[str, str]) -> Lists:
    def renamed(samples: tuple[Sample, ...]) -> tuple[Sample, ...]:
        return tuple(
            sample.model_copy(update={"label": mapped[sample.label]}) if sample.label else sample for sample in samples
        )

    return lists.model_copy(
        update={"train": renamed(lists.train), "val": renamed(lists.val), "test": renamed(lists.test)}
    )


def _mapped(name: str) -> str:
    if name.endswith(LABEL_IDS):
        return f"{name.removesuffix(LABEL_IDS)}{TRAIN_IDS}"
    return f"{name.removesuffix('.png').removesuffix('_L')}_trainIds.png"
