"""CVAT's XML, "CVAT for images 1.1": all images with their shapes; `z_order` says which shape is in front.

Documented on CVAT's page "XML annotation format". Masks are run lengths along the rows of a rectangle.
"""

import io
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from xml.etree import ElementTree

import numpy as np

from components.dataset.class_files import RGB
from components.dataset.layouts.annotations.model import AnnotatedImage, AnnotationFile, Geometry, Label, Shape
from components.dataset.layouts.annotations.polygons import Polygons
from components.dataset.layouts.annotations.shapes import Ellipse, NotAnArea, Runs, checked_counts, points_of
from components.dataset.layouts.files import read_text
from components.errors import UserError

_OTHERS = {
    "polyline": "is a polyline",
    "points": "is a group of points",
    "skeleton": "is a skeleton",
    "cuboid": "is a cuboid",
}

Attributes = Mapping[str, str]


def read_cvat(root: Path, name: str) -> AnnotationFile:
    """Read a CVAT file.

    Raises:
        UserError: the file is damaged, is for videos, or declares entities, which CVAT never does.
    """
    path = root / name
    images: list[AnnotatedImage] = []
    labels: list[Label] = []
    tags = 0
    for element in _elements(path):
        if element.tag == "track":
            raise UserError(
                f'{path} has tracks, because it was exported as "CVAT for video": export it as "CVAT for images 1.1"'
            )
        if element.tag == "label" and element.findtext("name") and not element.findtext("parent"):
            labels.append(Label(str(element.findtext("name")).strip(), _color(element.findtext("color"))))
        elif element.tag == "image":
            images.append(_image(path, element))
            tags += len(element.findall("tag"))
    notes = (f"{name}: {tags:,} tags are labels of whole images, not areas, and are not drawn",) if tags else ()
    return AnnotationFile(name, tuple(images), tuple(dict.fromkeys(labels)), notes)


def _elements(path: Path) -> Iterator[ElementTree.Element]:
    """Yield every complete <label>, <image> and <track>, and forget it afterwards."""
    try:
        text = read_text(path)
    except OSError as error:
        raise UserError(f"{path} cannot be opened: {error.strerror}") from None
    if "<!DOCTYPE" in text or "<!ENTITY" in text:
        raise UserError(f"{path} declares a document type or entities, which CVAT does not write: export it again")
    opened: list[ElementTree.Element] = []
    try:
        for event, element in ElementTree.iterparse(io.StringIO(text), ("start", "end")):
            if event == "start":
                opened.append(element)
                continue
            opened.pop()
            if element.tag in ("label", "image", "track"):
                yield element
            if element.tag in ("image", "track") and opened:
                opened[-1].remove(element)
    except ElementTree.ParseError as error:
        raise UserError(f"{path} is damaged or incomplete ({error}): export or copy it again") from None


def _image(path: Path, element: ElementTree.Element) -> AnnotatedImage:
    name = element.get("name")
    if not name:
        raise UserError(f"{path} has an <image> without a name: export it again")
    shapes = []
    for number, entry in enumerate(element, start=1):
        if entry.tag == "tag":
            continue
        where = f"shape {number} ({entry.tag})"
        try:
            reader = _READERS.get(entry.tag)
            geometry = reader(entry.attrib) if reader else NotAnArea(_OTHERS.get(entry.tag, f"is a {entry.tag}"))
            depth = int(entry.get("z_order", 0))
        except KeyError as error:
            raise UserError(f"{path}: image {name}, {where} has no {error.args[0]}: export it again") from None
        except ValueError as error:
            raise UserError(f"{path}: image {name}, {where} {_told(error)}: export it again") from None
        shapes.append(Shape(entry.get("label", "").strip(), where, geometry, depth, is_box=entry.tag == "box"))
    try:
        width, height = int(element.get("width", 0)), int(element.get("height", 0))
    except ValueError:
        raise UserError(f"{path}: image {name} has a width or height that is no number: export it again") from None
    size = (width, height) if width and height else None
    return AnnotatedImage(name, size, tuple(shapes), element.get("subset", ""))


def _told(error: ValueError) -> str:
    text = str(error)
    return text if text.startswith("has ") else "has an attribute that is not a number"


def _polygon(attributes: Attributes) -> Geometry:
    numbers = [float(number) for point in attributes["points"].split(";") for number in point.split(",")]
    return Polygons((points_of(numbers),))


def _box(attributes: Attributes) -> Geometry:
    left, top, right, bottom = (float(attributes[name]) for name in ("xtl", "ytl", "xbr", "ybr"))
    corners = np.array([[left, top], [right, top], [right, bottom], [left, bottom]])
    turn = np.radians(float(attributes.get("rotation", 0)))
    center = corners.mean(0)
    rotated = (corners - center) @ np.array([[np.cos(turn), np.sin(turn)], [-np.sin(turn), np.cos(turn)]])
    return Polygons((points_of((rotated + center if turn else corners).ravel().tolist()),))


def _ellipse(attributes: Attributes) -> Geometry:
    x, y, across, down = points_of([float(attributes[name]) for name in ("cx", "cy", "rx", "ry")]).ravel().tolist()
    return Ellipse((x, y), (across, down), float(attributes.get("rotation", 0)))


def _mask(attributes: Attributes) -> Geometry:
    left, top, width, height = (int(attributes[name]) for name in ("left", "top", "width", "height"))
    counts = checked_counts([int(number) for number in attributes["rle"].split(",")])
    return Runs(counts, width, height, by_columns=False, left=left, top=top, is_whole=False)


_READERS: Mapping[str, Callable[[Attributes], Geometry]] = {
    "polygon": _polygon,
    "box": _box,
    "ellipse": _ellipse,
    "mask": _mask,
}


def _color(text: str | None) -> RGB | None:
    """Return a colour such as #ff0000, or None for anything else."""
    try:
        red, green, blue = bytes.fromhex((text or "").removeprefix("#"))
    except ValueError:
        return None
    return red, green, blue
