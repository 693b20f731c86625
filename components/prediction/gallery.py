"""The gallery: one page with every photograph, its prediction painted over it, and the truth where it is known."""

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
"""Classes that a card names; its bar shows all."""


@dataclass(frozen=True)
class Card:
    """One image as data: URIs, and what is in it. Truth and wrong are "" where no truth is known."""

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
    """Class id and share of the pixels, most first."""


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
    """Make an image's pictures at most `width` pixels wide, and its figures from all of its pixels."""
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
    """How many pixels each class has."""
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
    """`total` is how many images were predicted; `cards` may be fewer. `facts` are (name, value)."""
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
