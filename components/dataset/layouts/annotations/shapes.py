"""The pixels that a shape covers.

Pixel (x, y) covers x to x + 1 and y to y + 1. Each tool rounds in its own way where a line cuts through a pixel:
polygons of COCO and CVAT are drawn by pycocotools (`annotations.polygons`), those of LabelMe by Pillow, as these tools
do themselves.
"""

import base64
import binascii
import io
import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw, UnidentifiedImageError

from components.dataset.layouts.annotations.model import Patch

Points = NDArray[np.float64]
"""(n, 2) x and y."""
Counts = NDArray[np.int64]
"""Lengths of alternating runs of pixels outside and inside a mask."""

_FAR = 10
"""A point further from the image than this many times its longer side is an error: drawing it would take gigabytes."""


def points_of(numbers: Sequence[float]) -> Points:
    """Return x, y, x, y, … as points. Raises ValueError for an odd number of coordinates, or one that is no number."""
    try:
        flat = np.asarray(numbers, np.float64)
    except (TypeError, ValueError, OverflowError):
        raise ValueError("has a coordinate that is not a number") from None
    if flat.ndim != 1 or len(flat) % 2:
        raise ValueError("has an odd number of coordinates")
    if not np.isfinite(flat).all():
        raise ValueError("has a coordinate that is not a number")
    return flat.reshape(-1, 2)


@dataclass(frozen=True, slots=True)
class NotAnArea:
    """A shape without an area, such as a point or a line."""

    what: str
    """What it has instead, such as `is a polyline`."""

    def patch(self, width: int, height: int) -> Patch | None:  # noqa: ARG002 - the protocol of shapes
        raise ValueError(f"{self.what}, not an area: draw it as a polygon, or remove it")


@dataclass(frozen=True, slots=True)
class Runs:
    """A mask of the whole image or of a rectangle in it, as run lengths."""

    counts: Counts
    width: int
    height: int
    by_columns: bool = True
    """Whether the runs go down the columns, as COCO's do, or along the rows."""
    left: int = 0
    top: int = 0
    is_whole: bool = True
    """Whether the mask must have the image's size."""

    def patch(self, width: int, height: int) -> Patch | None:
        if self.is_whole and (self.width, self.height) != (width, height):
            raise ValueError(f"is a mask of {self.width}x{self.height} pixels in an image of {width}x{height}")
        return _placed(self.pixels(), self.top, self.left, width, height)

    def pixels(self) -> NDArray[np.bool_]:
        """Return the (height, width) mask. Raises ValueError if the runs do not cover it exactly."""
        total = int(self.counts.sum())
        if total != self.width * self.height:
            raise ValueError(f"has run lengths for {total:,} pixels, but its mask has {self.width * self.height:,}")
        flat = np.repeat(np.arange(len(self.counts)) % 2 == 1, self.counts)
        return flat.reshape(self.width, self.height).T if self.by_columns else flat.reshape(self.height, self.width)


def compressed_counts(text: str) -> Counts:
    """Decode run lengths from COCO's compressed form.

    pycocotools would return uninitialised memory for run lengths that end before the mask does. Each character holds 5
    bits of a number, lowest first, and a sixth bit that is set if the number continues. The fourth number and later
    ones are stored as differences from the number two places before.

    Raises:
        ValueError: the text is not such a form.
    """
    codes = np.frombuffer(text.encode("utf-32-le"), np.uint32).astype(np.int64) - 48
    if not len(codes) or codes.min() < 0 or codes.max() > 63 or codes[-1] & 32:
        raise ValueError("has damaged run lengths")
    ends = np.flatnonzero((codes & 32) == 0)
    starts = np.concatenate(([0], ends[:-1] + 1))
    lengths = ends - starts + 1
    if lengths.max() > 7:  # more than 32 bits
        raise ValueError("has damaged run lengths")
    places = np.arange(len(codes)) - np.repeat(starts, lengths)
    numbers = np.add.reduceat((codes & 31) << (5 * places), starts)
    numbers -= np.where(codes[ends] & 16, 1 << (5 * lengths), 0)
    for first in (1, 2):
        numbers[first::2] = np.cumsum(numbers[first::2])
    return checked_counts(numbers)


def checked_counts(numbers: Any) -> Counts:
    """Return run lengths as an array. Raises ValueError if they are not whole numbers from 0."""
    counts = np.asarray(numbers)
    if counts.ndim != 1 or not len(counts) or not np.issubdtype(counts.dtype, np.integer) or counts.min() < 0:
        raise ValueError("has damaged run lengths")
    if counts.max() > 1 << 32:
        raise ValueError("has damaged run lengths")
    return counts.astype(np.int64)


@dataclass(frozen=True, slots=True)
class Ellipse:
    """The pixels whose centres are inside an ellipse; `rotation` is clockwise, in degrees."""

    center: tuple[float, float]
    radii: tuple[float, float]
    rotation: float

    def patch(self, width: int, height: int) -> Patch | None:
        (x, y), (across, down), turn = self.center, self.radii, math.radians(self.rotation)
        reach = max(across, down)
        if min(across, down) <= 0:
            return None
        window = Window.around(np.array([[x - reach, y - reach], [x + reach, y + reach]]), width, height)
        if window is None:
            return None
        columns = window.left + np.arange(window.width) + 0.5 - x
        rows = (window.top + np.arange(window.height) + 0.5 - y)[:, None]
        along = columns * math.cos(turn) + rows * math.sin(turn)
        aside = rows * math.cos(turn) - columns * math.sin(turn)
        return Patch(window.top, window.left, (along / across) ** 2 + (aside / down) ** 2 <= 1)


@dataclass(frozen=True, slots=True)
class Drawn:
    """A shape that Pillow draws as labelme does, including its outline."""

    kind: str
    """`polygon`, `rectangle` or `circle`: a circle has its centre and a point on it."""
    points: Points

    def patch(self, width: int, height: int) -> Patch | None:
        points = self.points
        if self.kind == "polygon" and len(points) < 3:
            return None
        if self.kind != "polygon" and len(points) != 2:
            raise ValueError(f"is a {self.kind} with {len(points)} points instead of 2")
        if self.kind == "circle":
            radius = math.dist(*points)
            points = np.array([points[0] - radius, points[0] + radius])
        elif self.kind == "rectangle":
            points = np.array([points.min(0), points.max(0)])
        window = Window.around(points, width, height)
        if window is None:
            return None
        picture = Image.new("L", (window.width, window.height))
        draw = ImageDraw.Draw(picture)
        corners = [(x, y) for x, y in (points - (window.left, window.top)).tolist()]
        method = {"polygon": draw.polygon, "rectangle": draw.rectangle, "circle": draw.ellipse}[self.kind]
        method(corners, fill=1, outline=1)
        return Patch(window.top, window.left, np.asarray(picture) > 0)


@dataclass(frozen=True, slots=True)
class Bitmap:
    """labelme's mask: a PNG in base64, at the first of two points."""

    png: str
    points: Points

    def patch(self, width: int, height: int) -> Patch | None:
        if len(self.points) != 2:
            raise ValueError(f"is a mask with {len(self.points)} points instead of 2")
        try:
            with Image.open(io.BytesIO(base64.b64decode(self.png, validate=True))) as picture:
                mask = np.asarray(picture.convert("L")) > 0
        except (binascii.Error, OSError, SyntaxError, ValueError, UnidentifiedImageError):
            raise ValueError("has a damaged mask image") from None
        left, top = self.points[0].round().astype(int).tolist()
        return _placed(mask, top, left, width, height)


@dataclass(frozen=True, slots=True)
class Window:
    """The rectangle of an image that a shape may cover."""

    left: int
    top: int
    width: int
    height: int

    @staticmethod
    def around(points: Points, width: int, height: int) -> "Window | None":
        """Return the part of an image around some points, or None if they are outside.

        Raises:
            ValueError: a point is so far away that it must belong to another image.
        """
        if np.abs(points).max() > _FAR * max(width, height):
            raise ValueError(f"is far outside the image of {width}x{height} pixels")
        left, top = (max(0, math.floor(low) - 1) for low in points.min(0).tolist())
        right, bottom = (
            min(end, math.ceil(high) + 2) for end, high in zip((width, height), points.max(0).tolist(), strict=True)
        )
        return Window(left, top, right - left, bottom - top) if left < right and top < bottom else None


def _placed(mask: NDArray[np.bool_], top: int, left: int, width: int, height: int) -> Patch | None:
    """Return a mask at a position as a patch, without what is outside the image."""
    inside = mask[max(0, -top) : max(0, height - top), max(0, -left) : max(0, width - left)]
    return Patch(max(0, top), max(0, left), inside) if inside.size else None
