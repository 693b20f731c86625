"""The example images of a report: those with the lowest and the highest scores."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from components.contract import Class
from components.evaluation.scores import Scores
from components.metrics.confusion import ClassIds, Matrix
from components.metrics.scores import class_accuracy, mean_iou, mean_iou_by_image, pixel_accuracy
from components.pages.pictures import (
    Pixels,
    data_uri,
    difference,
    ids_thumbnail,
    jpeg,
    mask_png,
    thumbnail,
)
from components.runs.result import Variant

WIDTH = 448
"""Pixels: as wide as a phone's screen, while a page stays at some hundred kilobytes."""


@dataclass(frozen=True)
class Example:
    """The pictures of one image as data: URIs, and its own scores in [0, 1]."""

    name: str
    mean_iou: float
    pixel_accuracy: float
    remark: str
    photograph: str
    truth: str
    prediction: str
    difference: str


def choose(scores: Scores, variant: Variant, each: int) -> tuple[list[int], list[int]]:
    """Return the indices of up to `each` worst images, worst first, and best images, best first, without overlap."""
    figures = mean_iou_by_image(scores.counts[variant].by_image)
    ranked = [int(number) for number in np.argsort(figures, kind="stable") if np.isfinite(figures[number])]
    worst = ranked[: min(each, (len(ranked) + 1) // 2)]
    rest = ranked[len(worst) :]
    return worst, rest[::-1][:each]


def draw(
    name: str,
    matrix: Matrix,
    image: Pixels,
    label: ClassIds,
    prediction: ClassIds,
    *,
    classes: Sequence[Class],
    ignore_index: int,
) -> Example:
    """Draw the pictures of an image. `matrix` is the confusion matrix of this image."""
    wrong = difference(image, label, prediction, ignore_index)
    small_label = ids_thumbnail(label, WIDTH)
    return Example(
        name=name,
        mean_iou=mean_iou(matrix),
        pixel_accuracy=pixel_accuracy(matrix),
        remark=most_missed(matrix, classes),
        photograph=data_uri(jpeg(thumbnail(image, WIDTH), 80)),
        # The void id is outside the classes, so the palette gives it the void colour.
        truth=data_uri(mask_png(small_label, classes)),
        prediction=data_uri(mask_png(ids_thumbnail(prediction, WIDTH), classes)),
        difference=data_uri(jpeg(thumbnail(wrong, WIDTH), 80)),
    )


def most_missed(matrix: Matrix, classes: Sequence[Class]) -> str:
    """Describe the confusion that costs this image the most pixels."""
    errors = matrix.copy()
    np.fill_diagonal(errors, 0)
    if not errors.any():
        return "every pixel is correct"
    truth, predicted = divmod(int(errors.argmax()), len(errors))
    share = errors[truth, predicted] / matrix.sum()
    found = class_accuracy(matrix)[truth]
    return (
        f"largest error: {classes[truth].name} predicted as {classes[predicted].name} "
        f"({100 * share:.1f} % of the pixels; {100 * found:.0f} % of {classes[truth].name} was found)"
    )
