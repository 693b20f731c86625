"""The strip of thumbnails that shows how the masks of a few validation images improve from checkpoint to checkpoint."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

from components.evaluation.scores import Scores
from components.metrics.confusion import ClassIds
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


def draw_progress(
    scores: Sequence[Scores],
    masks: Mapping[int, Masks],
    variant: Variant,
    painter: Painter,
    read: Callable[[str], tuple[Pixels, ClassIds]],
) -> Progress | None:
    """Return the strip, or None if fewer than two checkpoints have masks.

    Args:
        masks: by epoch; of `variant`.
        read: returns the photograph and the label of an image.
    """
    by_epoch = {item.epoch: item for item in scores if masks.get(item.epoch)}
    if len(by_epoch) < 2:
        return None
    epochs = epoch_ticks(sorted(by_epoch), COLUMNS)
    names = [name for name in masks[epochs[-1]] if all(name in masks[epoch] for epoch in epochs)]
    figures = {epoch: mean_iou_by_image(by_epoch[epoch].matrices[variant]) for epoch in epochs}
    rows = []
    for name in names:
        image, label = read(name)
        shared, shape = photograph(image, LIMITS), ratio(image)
        number = by_epoch[epochs[0]].images.index(name)
        pictures = [
            (
                Picture(f"{name} at epoch {epoch}", shape, shared, prediction=painter.mask(masks[epoch][name], LIMITS)),
                float(figures[epoch][number]),
            )
            for epoch in epochs
        ]
        rows.append(Row(name, tuple(pictures), Picture(name, shape, shared, truth=painter.mask(label, LIMITS))))
    return Progress(tuple(epochs), tuple(rows))
