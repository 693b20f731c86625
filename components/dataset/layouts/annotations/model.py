"""What the readers of annotation files return: the shapes on each image, in the order in which they are drawn."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal, NamedTuple, Protocol

import numpy as np
from numpy.typing import NDArray

from components.dataset.class_files import RGB

Format = Literal["coco", "labelme", "cvat"]

TITLES: Mapping[Format, str] = {"coco": "COCO", "labelme": "LabelMe", "cvat": "CVAT"}

BACKGROUND = ("background", "_background_")
"""The names of pixels without an annotation; the second is labelme's."""


class Patch(NamedTuple):
    """The part of a mask that a shape covers."""

    top: int
    left: int
    mask: NDArray[np.bool_]
    """(height, width), inside the image."""


class Geometry(Protocol):
    def patch(self, width: int, height: int) -> Patch | None:
        """Return the pixels that the shape covers in an image of this size, or None if there are none.

        Raises:
            ValueError: the shape is not an area, or its description is faulty.
        """


@dataclass(frozen=True, slots=True)
class Shape:
    label: str
    """The name of its class in the annotation file."""
    where: str
    """What messages call it, such as `annotation 17`."""
    geometry: Geometry
    depth: int = 0
    """Shapes with a greater depth cover those with a smaller one."""
    is_box: bool = False
    """Whether it is an upright rectangle, which often only frames an object."""


@dataclass(frozen=True, slots=True)
class AnnotatedImage:
    file_name: str
    """As written in the annotation file."""
    size: tuple[int, int] | None
    """Width and height that the coordinates refer to, or None if the file does not say."""
    shapes: tuple[Shape, ...]
    subset: str = ""
    """The part of the dataset that the annotation file names."""


@dataclass(frozen=True)
class Label:
    """A class as declared in an annotation file."""

    name: str
    color: RGB | None = None


@dataclass(frozen=True)
class AnnotationFile:
    name: str
    """Relative to the dataset's folder."""
    images: tuple[AnnotatedImage, ...]
    labels: tuple[Label, ...] = ()
    """In the file's order; empty if it declares none."""
    notes: tuple[str, ...] = ()


@dataclass(frozen=True)
class Source:
    """Where the label of an image comes from."""

    image: str
    """The image's name relative to the dataset's folder."""
    file: str
    """The annotation file's."""
    annotated: AnnotatedImage


@dataclass(frozen=True)
class Drawing:
    """The labels of a dataset that are drawn rather than read."""

    format: Format
    labels: Mapping[str, Source]
    """By the name of the label to draw, relative to the dataset's folder."""
    files: frozenset[str]
    """All annotation files that were read."""
