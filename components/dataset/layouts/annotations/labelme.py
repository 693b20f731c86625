"""LabelMe JSON: one file for each image, with the shapes in the order in which labelme draws them."""

import json
from pathlib import Path
from typing import Annotated

from pydantic import BaseModel, BeforeValidator

from components.dataset.layouts.annotations.json_files import read_json
from components.dataset.layouts.annotations.model import AnnotatedImage, AnnotationFile, Geometry, Shape
from components.dataset.layouts.annotations.shapes import Bitmap, Drawn, NotAnArea, points_of
from components.errors import UserError

_OTHERS = {
    "line": "is a line",
    "linestrip": "is a line",
    "point": "is a point",
    "points": "is a group of points",
}
_CORNERS = ("polygon", "rotation", "oriented_rectangle", "quadrilateral")
"""Types whose points are the corners; the last three are those of labelme 6 and X-AnyLabeling."""


class _Shape(BaseModel):
    label: Annotated[str, BeforeValidator(str)]
    points: list[tuple[float, float]]
    shape_type: str | None = None
    mask: str | None = None


class _File(BaseModel):
    shapes: list[_Shape]
    imagePath: str  # noqa: N815 - as labelme writes them
    imageWidth: int | None = None  # noqa: N815
    imageHeight: int | None = None  # noqa: N815


def read_labelme(root: Path, name: str) -> AnnotationFile:
    """Read the file of one image. Raises UserError if it is damaged."""
    listed = read_json(root / name, _File)
    size = (listed.imageWidth, listed.imageHeight) if listed.imageWidth and listed.imageHeight else None
    shapes = []
    for number, shape in enumerate(listed.shapes, start=1):
        kind = shape.shape_type or "polygon"
        where = f"shape {number} ({kind})"
        try:
            shapes.append(Shape(shape.label.strip(), where, _geometry(kind, shape), is_box=kind == "rectangle"))
        except ValueError as error:
            raise UserError(f"{root / name}: {where} {error}: correct it in labelme") from None
    return AnnotationFile(name, (AnnotatedImage(listed.imagePath, size, tuple(shapes)),))


def _geometry(kind: str, shape: _Shape) -> Geometry:
    points = points_of([number for point in shape.points for number in point])
    if kind == "mask":
        return Bitmap(shape.mask or "", points)
    if kind in _CORNERS or (kind == "rectangle" and len(points) == 4):
        return Drawn("polygon", points)
    if kind in ("rectangle", "circle"):
        return Drawn(kind, points)
    return NotAnArea(_OTHERS.get(kind, f"is a {json.dumps(kind)}"))
