"""COCO JSON: images, categories and annotations with polygons or run lengths, in one file for each part.

COCO does not say which of two overlapping annotations is in front. The smaller one is drawn over the larger one, so
that a cup on a table stays visible. `iscrowd` marks regions of many objects in COCO itself, but every brush mask in the
exports of CVAT and Datumaro; either way its category is right, so it is drawn below the other annotations.
"""

from collections import Counter
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Annotated, Any

from pydantic import BaseModel, PlainValidator

from components.dataset.layouts.annotations.json_files import read_json
from components.dataset.layouts.annotations.model import AnnotatedImage, AnnotationFile, Geometry, Label, Shape
from components.dataset.layouts.annotations.polygons import Polygons
from components.dataset.layouts.annotations.shapes import NotAnArea, Runs, checked_counts, compressed_counts, points_of
from components.errors import UserError

_Id = int | str


def _geometry(value: Any) -> Geometry | None:
    """Return an annotation's `segmentation` as a geometry, or None if it has none."""
    if isinstance(value, dict):
        return _runs(value.get("counts"), value.get("size"))
    if value is None or value == []:
        return None
    if not isinstance(value, list):
        raise ValueError("is neither polygons nor run lengths")
    rings = [value] if isinstance(value[0], int | float) else value
    points = tuple(points_of(ring) for ring in rings if ring)
    return Polygons(points) if points else None


def _runs(counts: Any, size: Any) -> Runs:
    if not isinstance(size, list) or len(size) != 2 or not all(isinstance(side, int) and side > 0 for side in size):
        raise ValueError('has no "size" of its run lengths, such as [height, width]')
    numbers = compressed_counts(counts) if isinstance(counts, str) else checked_counts(counts)
    return Runs(numbers, width=size[1], height=size[0])


def _is_there(value: Any) -> bool:
    return bool(value)


_Presence = Annotated[bool, PlainValidator(_is_there)]
"""A field of which only the presence matters, so that its content takes no memory."""


class _Image(BaseModel):
    id: _Id
    file_name: str
    width: int | None = None
    height: int | None = None


class _Category(BaseModel):
    id: _Id
    name: str


class _Annotation(BaseModel):
    id: _Id | None = None
    image_id: _Id
    category_id: _Id = "none"
    segmentation: Annotated[Any, PlainValidator(_geometry)] = None
    iscrowd: bool | None = None
    bbox: _Presence = False
    keypoints: _Presence = False
    caption: _Presence = False
    segments_info: _Presence = False

    def other_task(self) -> str:
        """Return what the annotation has instead of an area."""
        if self.keypoints:
            return "has keypoints"
        return "has a box" if self.bbox else "has no outline"


class _File(BaseModel):
    images: list[_Image]
    annotations: list[_Annotation]
    categories: list[_Category] | None = None


def read_coco(root: Path, name: str) -> AnnotationFile:
    """Read a COCO file.

    Raises:
        UserError: the file is damaged, holds another task, such as boxes or captions, or contradicts itself.
    """
    path = root / name
    listed = read_json(path, _File)
    _check_task(path, listed.annotations)
    categories = _categories(path, listed)
    _check_ids(path, listed, categories)
    shapes: dict[_Id, list[Shape]] = {}
    for place, annotation in enumerate(listed.annotations):
        shapes.setdefault(annotation.image_id, []).append(_shape(place, annotation, categories))
    return AnnotationFile(
        name,
        tuple(
            AnnotatedImage(
                image.file_name,
                (image.width, image.height) if image.width and image.height else None,
                tuple(shapes.get(image.id, ())),
            )
            for image in listed.images
        ),
        tuple(Label(label) for label in dict.fromkeys(categories.values())),
        tuple(_notes(name, listed)),
    )


def _check_task(path: Path, annotations: Sequence[_Annotation]) -> None:
    """Raise UserError if no annotation is an area."""
    if any(annotation.segments_info for annotation in annotations):
        raise UserError(
            f"{path} is a COCO panoptic file, which is not supported: use the instances file of the same images, or "
            "save its PNGs as masks of category ids"
        )
    if not annotations or any(annotation.segmentation is not None for annotation in annotations):
        return
    first = annotations[0]
    task = "captions" if first.caption else "keypoints" if first.keypoints else "boxes" if first.bbox else "no outlines"
    raise UserError(
        f"{path} has {task}, but no areas: export the annotations as polygons or masks (COCO's segmentation format)"
    )


def _categories(path: Path, listed: _File) -> dict[_Id, str]:
    """Return the category names by id, in the order of their ids."""
    if not listed.categories and listed.annotations:
        raise UserError(f'{path} has no "categories", which name the classes: export it again with its categories')
    categories: dict[_Id, str] = {}
    for category in sorted(listed.categories or (), key=lambda each: (isinstance(each.id, str), each.id)):
        if categories.setdefault(category.id, category.name.strip()) != category.name.strip():
            raise UserError(f"{path} uses category id {category.id} twice: give each category its own id")
    return categories


def _check_ids(path: Path, listed: _File, categories: dict[_Id, str]) -> None:
    images = Counter(image.id for image in listed.images)
    repeated = next((number for number, count in images.items() if count > 1), None)
    if repeated is not None:
        raise UserError(f"{path} uses image id {repeated} twice: give each image its own id")
    for place, annotation in enumerate(listed.annotations):
        where = f"{path}: {_where(place, annotation)}"
        if annotation.image_id not in images:
            raise UserError(
                f'{where} is on image {annotation.image_id}, which "images" does not list: add or remove it'
            )
        if annotation.category_id not in categories:
            raise UserError(
                f'{where} has category {annotation.category_id}, which "categories" does not list: add or remove it'
            )


def _shape(place: int, annotation: _Annotation, categories: dict[_Id, str]) -> Shape:
    geometry = annotation.segmentation or NotAnArea(annotation.other_task())
    depth = -1 if annotation.iscrowd else 0
    return Shape(categories[annotation.category_id], _where(place, annotation), geometry, depth)


def _where(place: int, annotation: _Annotation) -> str:
    return f"annotation {place if annotation.id is None else annotation.id}"


def _notes(name: str, listed: _File) -> Iterator[str]:
    crowds = sum(bool(annotation.iscrowd) for annotation in listed.annotations)
    if crowds:
        yield f"{name}: annotations with iscrowd ({crowds:,}) are drawn as their category, below the others"
    names = Counter(category.name.strip() for category in listed.categories or ())
    for label, count in names.items():
        if count > 1:
            yield f"{name}: {count} categories are named {label!r} and become one class"
