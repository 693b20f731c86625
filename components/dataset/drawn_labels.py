"""Draw the labels of a dataset from its annotations, as 8-bit PNGs of class ids."""

import os
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageOps, UnidentifiedImageError

from components.dataset.check.pairs import size_text
from components.dataset.converted import LEVEL, UnreadableLabel, write_labels
from components.dataset.layouts import Layout
from components.dataset.layouts.annotations.model import TITLES, Drawing, Patch, Shape, Source
from components.dataset.layouts.model import counted
from components.dataset.stored.upright import orientation, upright_size
from components.units import percent

Ids = NDArray[np.uint8]
_ORIENTATION = 0x0112
_UPRIGHT = 1


@dataclass
class _Totals:
    """What was drawn, over all images."""

    annotated: int = 0
    """Pixels with an annotation."""
    covered: int = 0
    """Pixels with annotations of more than one class."""
    images: int = 0
    """Images with such pixels."""
    empty: int = 0
    """Shapes that cover no pixel."""
    first_empty: str = ""
    raw: int = 0
    """Images whose annotations refer to the picture as stored, before its EXIF rotation."""

    def add(self, drawn: "_Drawn", where: str) -> None:
        self.annotated += drawn.annotated
        self.covered += drawn.covered
        self.images += drawn.covered > 0
        if drawn.empty:
            self.empty += len(drawn.empty)
            self.first_empty = self.first_empty or f"{where}, {drawn.empty[0]}"
        self.raw += drawn.is_raw


@dataclass(frozen=True)
class _Drawn:
    ids: Ids
    annotated: int
    covered: int
    empty: tuple[str, ...]
    is_raw: bool


def with_drawn_labels(layout: Layout, drawing: Drawing, folder: Path, *, keep_going: bool) -> Layout:
    """Return the layout with its labels drawn in `folder`, which also gets links to its images.

    Args:
        keep_going: skip labels that cannot be drawn, and list them in `refused`.

    Raises:
        UnreadableLabel: a shape is not an area, or an annotation does not fit its image.
        WorkFailed: the disk is full.
    """
    totals, painter = _Totals(), _Painter(layout, drawing)

    def draw(name: str, target: Path) -> _Drawn:
        source = drawing.labels[name]
        try:
            drawn = painter.draw(source)
        except UnreadableLabel:
            os.symlink((layout.folder / source.file).absolute(), target)
            raise
        Image.fromarray(drawn.ids).save(target, "PNG", compress_level=LEVEL)
        return replace(drawn, ids=np.empty((0, 0), np.uint8))

    names = {name: name for name in sorted(drawing.labels)}
    refused = {}
    for name, drawn in write_labels(layout, names, folder, draw, keep_going=keep_going, what="labels drawn"):
        if isinstance(drawn, UnreadableLabel):
            refused[name] = drawn.kind, str(drawn)
        else:
            totals.add(drawn, drawing.labels[name].image)
    return replace(
        layout,
        folder=folder,
        origin=layout.origin or str(layout.folder),
        drawing=None,
        refused=refused,
        notes=(*layout.notes, *_notes(drawing, totals)),
    )


def _notes(drawing: Drawing, totals: _Totals) -> Iterator[str]:
    if totals.covered:
        winner = {
            "coco": "the smaller annotation is drawn over the larger one, because COCO gives no order",
            "labelme": "the later shape is drawn over the earlier one, as in labelme",
            "cvat": "the one with the greater z_order is drawn over the other, or the later one, as in CVAT",
        }[drawing.format]
        share = percent(totals.covered / max(1, totals.annotated))
        yield (
            f"annotations of two classes on the same pixels in {counted(totals.images, 'images')} "
            f"({share} of the annotated pixels): {winner}"
        )
    if totals.empty:
        yield f"shapes that cover no pixel and are not drawn: {totals.empty:,}, such as {totals.first_empty}"
    if totals.raw:
        yield (
            f"annotated before the rotation in their EXIF data, by the sizes in the {TITLES[drawing.format]} files: "
            f"{counted(totals.raw, 'images')}; the labels are rotated with the images"
        )


class _Painter:
    """Draws the label of one image at a time."""

    def __init__(self, layout: Layout, drawing: Drawing) -> None:
        self.folder, self.by_area = layout.folder, drawing.format == "coco"
        self.names = layout.declared.names
        self.outside = np.uint8(layout.declared.background or 0)

    def draw(self, source: Source) -> _Drawn:
        """Return an image's (H, W) class ids. Raises UnreadableLabel."""
        size, turned = self._size(source)
        canvas: Ids = np.full(size[::-1], self.outside)
        touched = np.zeros(size[::-1], bool)
        covered, empty = 0, []
        for shape, patch in self._patches(source, size):
            if patch is None or not patch.mask.any():
                empty.append(shape.where)
                continue
            (top, left), (height, width) = (patch.top, patch.left), patch.mask.shape
            region = canvas[top : top + height, left : left + width]
            before = touched[top : top + height, left : left + width]
            value = np.uint8(self.names[shape.label])
            covered += int(np.count_nonzero(patch.mask & before & (region != value)))
            region[patch.mask] = value
            before |= patch.mask
        ids = canvas if turned == _UPRIGHT else _turned(canvas, turned)
        return _Drawn(ids, int(np.count_nonzero(touched)), covered, tuple(empty), turned != _UPRIGHT)

    def _patches(self, source: Source, size: tuple[int, int]) -> Iterable[tuple[Shape, Patch | None]]:
        """Return the shapes of an image from back to front."""
        patches = []
        for shape in source.annotated.shapes:
            try:
                patches.append((shape, shape.geometry.patch(*size)))
            except ValueError as error:
                raise UnreadableLabel(
                    "shapes", f"{self._where(source)}, {shape.where} ({shape.label}) {error}"
                ) from None
        return sorted(patches, key=lambda pair: (pair[0].depth, -_area(pair[1]) if self.by_area else 0))

    def _size(self, source: Source) -> tuple[tuple[int, int], int]:
        """Return the size to draw at, and the EXIF orientation that the drawn label still needs.

        Annotations refer to the upright picture, as annotation tools show it, unless only the stored size fits.
        """
        path = self.folder / source.image
        try:
            with Image.open(path) as picture:
                turned, stored, upright = orientation(picture), picture.size, upright_size(picture)[::-1]
        except (UnidentifiedImageError, OSError, SyntaxError, ValueError, Image.DecompressionBombError) as error:
            reason = "not an image" if isinstance(error, UnidentifiedImageError) else " ".join(str(error).split())
            raise UnreadableLabel("unreadable", f"image {path} cannot be read ({reason}): replace it") from None
        wanted = source.annotated.size or upright
        if wanted == upright:
            return upright, _UPRIGHT
        if wanted == stored:
            return stored, turned
        raise UnreadableLabel(
            "size",
            f"{self._where(source)} was annotated at {size_text(wanted)}, but {source.image} is {size_text(upright)}: "
            "use the image that was annotated, or annotate this one",
        )

    def _where(self, source: Source) -> str:
        return f"{self.folder / source.file}: image {source.annotated.file_name}"


def _turned(ids: Ids, by_exif: int) -> Ids:
    picture = Image.fromarray(ids)
    picture.getexif()[_ORIENTATION] = by_exif
    return np.asarray(ImageOps.exif_transpose(picture))


def _area(patch: Patch | None) -> int:
    return 0 if patch is None else int(np.count_nonzero(patch.mask))
