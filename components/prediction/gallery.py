"""The gallery: a page with each photograph, its prediction as an overlay, and the truth if it is known."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from components.contract import Class
from components.metrics.confusion import ClassIds, confusion_matrix
from components.metrics.scores import mean_iou, pixel_accuracy
from components.pages.pictures import (
    Pixels,
    data_uri,
    difference,
    ids_thumbnail,
    jpeg,
    mask_png,
    row_bands,
    thumbnail,
)
from components.pages.render import render

TEMPLATE = Path(__file__).with_name("gallery.html.j2")
NAMED = 4
"""Number of classes named on a card; its bar shows all of them."""


@dataclass(frozen=True)
class Card:
    """An image's pictures as data: URIs, and its class shares. `truth` and `wrong` are "" if the truth is unknown."""

    name: str
    size: str
    link: str
    photograph: str
    prediction: str
    truth: str
    wrong: str
    mean_iou: float | None
    pixel_accuracy: float | None
    shares: tuple[tuple[int, float], ...]
    """(class id, share of the pixels), largest share first."""


def draw_card(
    name: str,
    image: Pixels,
    prediction: ClassIds,
    truth: ClassIds | None,
    classes: Sequence[Class],
    ignore_index: int,
    width: int,
    link: str = "",
) -> Card:
    """Return an image's card. Its pictures are at most `width` pixels wide; its metrics use the full resolution."""
    counts = class_pixels(prediction, len(classes))
    order = [int(class_id) for class_id in np.argsort(-counts, kind="stable") if counts[class_id]]
    matrix = None if truth is None else confusion_matrix(truth, prediction, len(classes), ignore_index)
    scored = matrix is not None and matrix.any()
    wrong = b"" if truth is None else jpeg(thumbnail(difference(image, truth, prediction, ignore_index), width), 78)
    return Card(
        name=name,
        size=f"{image.shape[1]} × {image.shape[0]}",
        link=link,
        photograph=data_uri(jpeg(thumbnail(image, width), 80)),
        prediction=data_uri(mask_png(ids_thumbnail(prediction, width), classes)),
        truth="" if truth is None else data_uri(mask_png(ids_thumbnail(truth, width), classes)),
        wrong=data_uri(wrong) if wrong else "",
        mean_iou=mean_iou(matrix) if matrix is not None and scored else None,
        pixel_accuracy=pixel_accuracy(matrix) if matrix is not None and scored else None,
        shares=tuple((class_id, float(counts[class_id] / prediction.size)) for class_id in order),
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
    seen = {class_id for card in cards for class_id, _ in card.shares}
    return render(
        TEMPLATE,
        title=title,
        cards=cards,
        total=total,
        names=[item.name for item in classes],
        colors=[item.color for item in classes],
        seen=sorted(seen),
        named=NAMED,
        truth_known=any(card.truth for card in cards),
        refused=refused,
        facts=facts,
    )
