"""The gallery: a page with each photograph, its prediction as an overlay, and the truth if it is known."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from components.contract import Class
from components.metrics.confusion import ClassIds, confusion_matrix
from components.metrics.scores import mean_iou, pixel_accuracy
from components.pages.pictures import Pixels, row_bands
from components.pages.render import percent, render
from components.pages.shown import Limits, Painter, Picture, photograph, ratio

TEMPLATE = Path(__file__).with_name("gallery.html.j2")
MOST = 48
"""Maximum number of images in a gallery, which embeds them."""
NAMED = 4
"""Number of classes named on a card; its bar shows all of them."""


@dataclass(frozen=True)
class Card:
    """An image's pictures, its metrics if the truth is known, and its class shares."""

    picture: Picture
    size: str
    link: str
    mean_iou: float | None
    pixel_accuracy: float | None
    shares: tuple[tuple[int, float], ...]
    """(class id, share of the predicted pixels), largest share first."""
    classes: tuple[int, ...]
    """The classes in the prediction or the truth."""


def limits_for(images: int) -> Limits:
    """Return limits with which a gallery of up to MOST images takes about 2 MB."""
    if images <= MOST // 2:
        return Limits(width=768, photograph=44_000, mask=9_000)
    return Limits(width=480, photograph=22_000, mask=5_000)


def draw_card(
    name: str,
    image: Pixels,
    prediction: ClassIds,
    truth: ClassIds | None,
    painter: Painter,
    ignore_index: int,
    limits: Limits,
    link: str = "",
) -> Card:
    """Return an image's card. Its pictures have the given limits; its metrics use the full resolution."""
    count = len(painter.names)
    counts = class_pixels(prediction, count)
    order = [int(class_id) for class_id in np.argsort(-counts, kind="stable") if counts[class_id]]
    shares = tuple((class_id, float(counts[class_id] / prediction.size)) for class_id in order)
    matrix = None if truth is None else confusion_matrix(truth, prediction, count, ignore_index)
    scored = matrix is not None and matrix.any()
    true = set() if matrix is None else set(np.flatnonzero(matrix.sum(axis=1)).tolist())
    return Card(
        picture=Picture(
            name=name,
            ratio=ratio(image),
            photograph=photograph(image, limits),
            truth="" if truth is None else painter.mask(truth, limits),
            prediction=painter.mask(prediction, limits),
            said=", ".join(f"{painter.names[class_id]} {percent(share, 0)}" for class_id, share in shares[:NAMED]),
        ),
        size=f"{image.shape[1]} × {image.shape[0]}",
        link=link,
        mean_iou=mean_iou(matrix) if matrix is not None and scored else None,
        pixel_accuracy=pixel_accuracy(matrix) if matrix is not None and scored else None,
        shares=shares,
        classes=tuple(sorted(true | set(order))),
    )


def class_pixels(ids: ClassIds, classes: int) -> NDArray[np.int64]:
    """Return the number of pixels of each class, (C,)."""
    counts = np.zeros(classes, np.int64)
    for rows in row_bands(len(ids)):
        counts += np.bincount(ids[rows].ravel(), minlength=classes)
    return counts


def render_gallery(
    title: str,
    cards: Sequence[Card],
    total: int,
    classes: Sequence[Class],
    refused: Sequence[str],
    facts: Sequence[tuple[str, str]],
) -> str:
    """Return the gallery as HTML.

    Args:
        cards: the images to show, which may be fewer than `total`.
        total: number of predicted images.
        refused: a line for each image that could not be read.
        facts: (name, value) pairs about the weights and settings.
    """
    painter = Painter(classes)
    colors = list(painter.colors.values())
    seen = sorted({class_id for card in cards for class_id in card.classes})
    figures = [card.mean_iou for card in cards if card.mean_iou is not None]
    return render(
        TEMPLATE,
        title=title,
        shown_classes=painter.classes,
        cards=sorted(cards, key=_worst_first),
        total=total,
        lowest=min(figures, default=None),
        highest=max(figures, default=None),
        legend=[(class_id, painter.names[class_id], colors[class_id], "") for class_id in seen],
        colors=colors,
        truth_known=any(card.picture.truth for card in cards),
        refused=refused,
        facts=facts,
    )


def _worst_first(card: Card) -> float:
    """Sort by mIoU; cards without one come last, in the order they have."""
    return 2.0 if card.mean_iou is None else card.mean_iou
