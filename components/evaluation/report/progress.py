"""The strip of thumbnails that shows how the masks of a few validation images improve from checkpoint to checkpoint."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

from components.evaluation.scores import Scores
from components.metrics.confusion import ClassCounts, ClassIds
from components.metrics.scores import mean_iou_by_image
from components.pages.charts import epoch_ticks
from components.pages.pictures import Pixels
from components.pages.shown import Limits, Painter, Picture, photograph, ratio
from components.runs.result import Variant

COLUMNS = 6
"""Maximum number of checkpoints."""
LIMITS = Limits(width=320, photograph=9_000, mask=2_500)

Masks = Mapping[str, ClassIds]
"""The masks of one checkpoint, by image."""


@dataclass(frozen=True)
class Row:
    """An image: the picture and the image's own mIoU for each checkpoint, then the truth."""

    name: str
    pictures: tuple[tuple[Picture, float], ...]
    truth: Picture


@dataclass(frozen=True)
class Progress:
    epochs: tuple[int, ...]
    rows: tuple[Row, ...]


def image_figures(scores: Scores, variant: Variant, names: Sequence[str]) -> dict[str, float]:
    """Return the mIoU of each of these images, in [0, 1]."""
    places = [scores.images.index(name) for name in names]
    counts = ClassCounts(*(values[places] for values in scores.counts[variant].by_image))
    return dict(zip(names, map(float, mean_iou_by_image(counts)), strict=True))


def shown_epochs(masks: Mapping[int, Masks]) -> list[int]:
    """Return the epochs with masks, or COLUMNS of them at most."""
    kept = sorted(epoch for epoch, found in masks.items() if found)
    return epoch_ticks(kept, COLUMNS) if kept else []


def draw_progress(
    figures: Mapping[int, Mapping[str, float]],
    masks: Mapping[int, Masks],
    painter: Painter,
    read: Callable[[str], tuple[Pixels, ClassIds]],
) -> Progress | None:
    """Return the strip, or None if fewer than two checkpoints have masks.

    Args:
        figures: the mIoU of each image, for each of `shown_epochs`.
        masks: by epoch, of the same variant and images.
        read: returns the photograph and the label of an image.
    """
    epochs = shown_epochs(masks)
    if len(epochs) < 2:
        return None
    names = [name for name in masks[epochs[-1]] if all(name in masks[epoch] for epoch in epochs)]
    rows = []
    for name in names:
        image, label = read(name)
        shared, shape = photograph(image, LIMITS), ratio(image)
        pictures = [
            (
                Picture(f"{name} at epoch {epoch}", shape, shared, prediction=painter.mask(masks[epoch][name], LIMITS)),
                figures[epoch][name],
            )
            for epoch in epochs
        ]
        rows.append(Row(name, tuple(pictures), Picture(name, shape, shared, truth=painter.mask(label, LIMITS))))
    return Progress(tuple(epochs), tuple(rows))
