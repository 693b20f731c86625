"""The images of a report: the worst, the middle and the best by their own mIoU."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from components.evaluation.scores import Scores
from components.metrics.confusion import ClassIds, Matrix
from components.metrics.scores import mean_iou, mean_iou_by_image, pixel_accuracy
from components.pages.pictures import Pixels
from components.pages.shown import Limits, Painter, Picture, photograph, ratio
from components.runs.result import Variant

MOST = 24
LIMITS = Limits(width=768, photograph=34_000, mask=8_000)
"""24 images of this size take at most 1.6 MB in a page."""


@dataclass(frozen=True)
class Example:
    """The pictures of one image, and its own scores in [0, 1]."""

    picture: Picture
    mean_iou: float
    pixel_accuracy: float
    remark: str
    classes: tuple[int, ...]
    """The classes in its truth or prediction."""


def choose(scores: Scores, variant: Variant, most: int = MOST) -> list[int]:
    """Return the indices of up to `most` images, worst first: a third each of the worst, the middle and the best."""
    figures = mean_iou_by_image(scores.counts[variant].by_image)
    ranked = [int(number) for number in np.argsort(figures, kind="stable") if np.isfinite(figures[number])]
    if len(ranked) <= most:
        return ranked
    ends = most // 3
    between = most - 2 * ends
    middle = (len(ranked) - between) // 2
    return [*ranked[:ends], *ranked[middle : middle + between], *ranked[-ends:]]


def highlights(examples: Sequence[Example]) -> list[tuple[str, int]]:
    """Return (name, index) of the images to look at first, of examples that are sorted; the median comes first."""
    if not examples:
        return []
    last = len(examples) - 1
    places = {
        "Median": round(last / 2),
        "Worst": 0,
        "Lower quarter": round(last / 4),
        "Upper quarter": round(3 * last / 4),
        "Best": last,
    }
    by_place = {place: name for name, place in reversed(places.items())}  # of names for one place, the first is kept
    return [(name, place) for name, place in places.items() if by_place.get(place) == name]


def draw(
    name: str, matrix: Matrix, image: Pixels, label: ClassIds, prediction: ClassIds, *, painter: Painter
) -> Example:
    """Draw the pictures of an image. `matrix` is the confusion matrix of this image."""
    remark = most_missed(matrix, painter.names)
    return Example(
        picture=Picture(
            name=name,
            ratio=ratio(image),
            photograph=photograph(image, LIMITS),
            truth=painter.mask(label, LIMITS),
            prediction=painter.mask(prediction, LIMITS),
            said=remark,
        ),
        mean_iou=mean_iou(matrix),
        pixel_accuracy=pixel_accuracy(matrix),
        remark=remark,
        classes=tuple(int(number) for number in np.flatnonzero(matrix.sum(axis=0) + matrix.sum(axis=1))),
    )


def most_missed(matrix: Matrix, names: Sequence[str]) -> str:
    """Describe the confusion that costs this image the most pixels."""
    errors = matrix.copy()
    np.fill_diagonal(errors, 0)
    if not errors.any():
        return "every pixel is correct"
    truth, predicted = divmod(int(errors.argmax()), len(errors))
    share = 100 * errors[truth, predicted] / matrix.sum()
    return f"{names[truth]} taken for {names[predicted]}: {share:.1f} % of the pixels"
