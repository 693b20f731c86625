"""result.json: what a run came to, in figures. mIoU and all shares are in [0, 1]; null is "there is none"."""

import math
from collections.abc import Sequence
from typing import Any

from components.dataset.run import RunRecord
from components.evaluation.scores import Scores
from components.evaluation.verdict import Choice, Verdict
from components.metrics.confusion import Matrix
from components.metrics.scores import (
    best_constant_prediction,
    class_accuracy,
    frequency_weighted_iou,
    iou,
    pixel_accuracy,
)


def build_result(record: RunRecord, verdict: Verdict, scores: Sequence[Scores]) -> dict[str, Any]:
    """All of result.json but the addresses of what is stored beside it. `scores` are those the verdict is on."""
    by_epoch = {item.epoch: item for item in scores}
    best, variant = by_epoch[verdict.best.epoch], verdict.best.variant
    matrix = best.total(variant)
    constant = best_constant_prediction(matrix)
    return {
        "run_key": record.run_key,
        "recipe": record.recipe,
        "dataset": record.dataset.model_dump(),
        "ratio": record.ratio,
        "seed": record.seed,
        "split": record.split,
        "images": len(best.images),
        "best": {
            **_choice(verdict.best),
            "per_class": per_class(matrix, best.protocol.classes),
            "pixel_accuracy": _figure(pixel_accuracy(matrix)),
            "frequency_weighted_IoU": _figure(frequency_weighted_iou(matrix)),
        },
        "last": _choice(verdict.last),
        "checkpoints": [
            {
                "epoch": row.epoch,
                "step": row.step,
                **{name: _figure(value) for name, value in row.mean_iou.items()},
                # By class, in the winner's variant.
                "IoU": [_figure(value) for value in iou(by_epoch[row.epoch].total(variant))],
            }
            for row in verdict.rows
        ],
        "constant_prediction_mIoU": _figure(constant.mean_iou),
        "constant_prediction_class": best.protocol.classes[constant.class_id],
        "confusion_matrix": {"classes": list(best.protocol.classes), "matrix": matrix.tolist()},
        "protocol": {
            "crop": list(best.protocol.crop),
            "stride": list(best.protocol.stride),
            "engine": best.protocol.engine,
            "checkpoint_sha256": best.checkpoint_sha256,
        },
        "note": selection_note(len(verdict.rows), len(best.images)),
    }


def per_class(matrix: Matrix, names: tuple[str, ...]) -> list[dict[str, Any]]:
    """A class absent from truth and prediction has no IoU (null) and is left out of the mean."""
    ious, accuracies = iou(matrix), class_accuracy(matrix)
    shares = matrix.sum(1) / max(1, int(matrix.sum()))
    return [
        {
            "name": name,
            "iou": _figure(ious[number]),
            "accuracy": _figure(accuracies[number]),
            "share": float(shares[number]),
        }
        for number, name in enumerate(names)
    ]


def selection_note(checkpoints: int, images: int) -> str:
    return (
        f"The best of {checkpoints} checkpoints and 3 variants was chosen on the {images} validation images that "
        "its figure is reported on, so the figure is somewhat optimistic. Quote it with that remark, or score the "
        "weights on images that took no part in the choice."
    )


def _choice(choice: Choice) -> dict[str, Any]:
    return {
        "epoch": choice.epoch,
        "step": choice.step,
        "variant": choice.variant,
        "mIoU": _figure(choice.mean_iou),
    }


def _figure(value: float) -> float | None:
    return float(value) if math.isfinite(value) else None
