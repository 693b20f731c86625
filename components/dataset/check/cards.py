"""Draw thumbnails of faulty images and labels for the HTML page."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from PIL import Image, ImageOps

from components.contract import Class
from components.dataset.check.facts import ID_MODES
from components.dataset.check.findings import Finding, Item
from components.dataset.heic import open_image
from components.pages.pictures import WRONG, Pixels, data_uri, ids_thumbnail, paint, png
from components.pages.shown import Limits, Painter, Picture, photograph
from components.reading import read_bytes

WIDTH = 400
"""Maximum width of a thumbnail, in pixels."""
THUMBNAIL = Limits(width=WIDTH, photograph=10_000, mask=6_000)
SAMPLE = Limits(width=768, photograph=44_000, mask=10_000)


@dataclass(frozen=True)
class Thumbnail:
    uri: str
    alt: str
    caption: str


@dataclass(frozen=True)
class Card:
    """An item with the thumbnails of those files that can be decoded."""

    text: str
    pictures: tuple[Thumbnail, ...]


def draw_sample(item: Item, folder: Path, painter: Painter) -> Picture | None:
    """Return an image with its label, or None if they cannot be shown."""
    image, label = _opened(folder / item.image), _opened(folder / item.label)
    if image is None or label is None or label.mode not in ID_MODES or image.size != label.size:
        return None
    ids = np.asarray(label, np.uint8)
    shares = np.bincount(ids.ravel(), minlength=len(painter.names))[: len(painter.names)]
    largest = [painter.names[number] for number in np.argsort(-shares, kind="stable")[:3] if shares[number]]
    return Picture(
        name=item.image,
        ratio=image.width / image.height,
        photograph=photograph(np.asarray(image.convert("RGB")), SAMPLE),
        truth=painter.mask(ids, SAMPLE),
        said=", ".join(largest),
    )


def draw_finding(finding: Finding, folder: Path, classes: Sequence[Class], most: int) -> list[Card]:
    """Return cards for the finding's first `most` items."""
    return [draw_item(item, folder, classes) for item in finding.items[:most]]


def draw_item(item: Item, folder: Path, classes: Sequence[Class]) -> Card:
    drawn = []
    if item.image:
        drawn.append(_photograph(folder, item.image, "image" if not item.other else item.image))
    if item.other:
        drawn.append(_photograph(folder, item.other, item.other))
    if item.label:
        drawn.append(_label(folder, item, classes))
    return Card(item.text, tuple(picture for picture in drawn if picture))


def _photograph(folder: Path, name: str, caption: str) -> Thumbnail | None:
    picture = _opened(folder / name)
    if picture is None:
        return None
    return Thumbnail(photograph(_small(picture), THUMBNAIL), f"Image {name}", caption)


def _label(folder: Path, item: Item, classes: Sequence[Class]) -> Thumbnail | None:
    picture = _opened(folder / item.label)
    if picture is None:
        return None
    if picture.mode not in ID_MODES:
        return Thumbnail(
            data_uri(png(_small(picture))), f"Label {item.label}, as stored", f"label, mode {picture.mode}"
        )
    ids = np.asarray(picture, np.uint8)
    small = paint(ids_thumbnail(ids, WIDTH), classes)
    if item.ids:
        # A single wrong pixel must stay visible in the thumbnail.
        wrong = Image.fromarray(np.isin(ids, item.ids).astype(np.uint8) * 255)
        share = np.asarray(wrong.resize((small.shape[1], small.shape[0]), Image.Resampling.BOX).convert("L"))
        small[share > 0] = WRONG
    caption = f"label {picture.width}x{picture.height}, coloured by class"
    return Thumbnail(data_uri(png(small)), f"Label {item.label} coloured by class", caption)


def _opened(path: Path) -> Image.Image | None:
    try:
        with open_image(read_bytes(path)) as picture:
            picture.load()
            return ImageOps.exif_transpose(picture)
    except Exception:  # these files are the broken ones, and a decoder may raise anything
        return None


def _small(picture: Image.Image) -> Pixels:
    small = picture.convert("RGB")
    if small.width > WIDTH:
        height = max(1, round(small.height * WIDTH / small.width))
        small = small.resize((WIDTH, height), Image.Resampling.LANCZOS, reducing_gap=2.0)
    return np.asarray(small)
