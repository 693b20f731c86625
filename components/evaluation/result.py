"""result.json: what a run came to, in figures. mIoU and all shares are in [0, 1]; null is "there is none"."""

import math
from collections.abc import Sequence
from typing import Any

from components.evaluation.scores import Scores, Variant
from components.evaluation.verdict import Choice, Lead, Verdict
from components.metrics import bootstrap
from components.metrics.bootstrap import Bootstrap, Interval, interval
from components.metrics.boundary import boundary_iou
from components.metrics.confusion import Matrix
from components.metrics.scores import (
    PerClass,
    best_constant_prediction,
    class_accuracy,
    dice,
    frequency_weighted_iou,
    iou,
    kappa,
    mean_over_present,
    pixel_accuracy,
)
from components.runs.record import RunRecord

FORMAT = 2
"""Of result.json. A result in another format is made again from the scores."""


def build_result(
    record: RunRecord, verdict: Verdict, scores: Sequence[Scores], test: Scores | None = None
) -> dict[str, Any]:
    """All of result.json but the addresses of what is stored beside it.

    Args:
        scores: those the verdict is on.
        test: the winner's on the dataset's test list, where it has one.
    """
    by_epoch = {item.epoch: item for item in scores}
    best, variant = by_epoch[verdict.best.epoch], verdict.best.variant
    matrix = best.total(variant)
    constant = best_constant_prediction(matrix)
    return {
        "format": FORMAT,
        "run_key": record.run_key,
        "recipe": record.recipe,
        "dataset": record.dataset.model_dump(),
        "ratio": record.ratio,
        "seed": record.seed,
        "split": record.split,
        "images": len(best.images),
        "best": {
            **_choice(verdict.best),
            **_interval("mIoU", verdict.interval),
            **figures(best, variant),
        },
        "last": _choice(verdict.last),
        "lead": None if verdict.lead is None else _lead(verdict.lead),
        "variants": [_lead(item) for item in verdict.variants],
        "test": None if test is None else _test(test, variant),
        "checkpoints": [
            {
                "epoch": row.epoch,
                "step": row.step,
                **{name: _figure(value) for name, value in row.mean_iou.items()},
                # These two, and those by class, in the winner's variant.
                **_interval("mIoU", row.interval),
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
            "scales": list(best.protocol.scales),
            "flip": best.protocol.flip,
            "boundary_ratio": best.protocol.boundary_ratio,
            "checkpoint_sha256": best.checkpoint_sha256,
        },
        "interval": {"level": bootstrap.LEVEL, "draws": bootstrap.DRAWS, "seed": bootstrap.SEED},
        "note": selection_note(len(verdict.rows), len(best.images), len(test.images) if test else 0),
    }


def figures(scores: Scores, variant: Variant) -> dict[str, Any]:
    """Every figure but mIoU. Means are over the classes that are there; boundary IoU's over those with a band."""
    matrix, boundary = scores.total(variant), boundary_iou(scores.bands[variant].sum(axis=0))
    return {
        "per_class": per_class(matrix, boundary, scores.protocol.classes),
        "mean_accuracy": _figure(mean_over_present(class_accuracy(matrix))),
        "pixel_accuracy": _figure(pixel_accuracy(matrix)),
        "frequency_weighted_IoU": _figure(frequency_weighted_iou(matrix)),
        "mean_Dice": _figure(mean_over_present(dice(matrix))),
        "kappa": _figure(kappa(matrix)),
        "boundary_IoU": _figure(mean_over_present(boundary)),
    }


def per_class(matrix: Matrix, boundary: PerClass, names: tuple[str, ...]) -> list[dict[str, Any]]:
    """A class absent from truth and prediction has no IoU (null) and is left out of the mean."""
    ious, accuracies, dices = iou(matrix), class_accuracy(matrix), dice(matrix)
    shares = matrix.sum(1) / max(1, int(matrix.sum()))
    return [
        {
            "name": name,
            "iou": _figure(ious[number]),
            "accuracy": _figure(accuracies[number]),
            "dice": _figure(dices[number]),
            "boundary_iou": _figure(boundary[number]),
            "share": float(shares[number]),
        }
        for number, name in enumerate(names)
    ]


def selection_note(checkpoints: int, images: int, test_images: int) -> str:
    note = (
        f"The best of {checkpoints} checkpoint{'s' if checkpoints > 1 else ''} and 3 variants was chosen on the "
        f"{images} validation images that its figure is reported on, so the figure is somewhat optimistic. "
    )
    if test_images:
        return note + (
            f"The test figure is not: its {test_images} images took no part in the choice and were scored once, "
            "with the winner only."
        )
    return note + "Quote it with that remark, or score the weights on images that took no part in the choice."


def _test(test: Scores, variant: Variant) -> dict[str, Any]:
    draws = Bootstrap(len(test.images)).mean_iou(test.matrices[variant])
    return {
        "images": len(test.images),
        "mIoU": _figure(test.mean_iou(variant)),
        **_interval("mIoU", interval(draws)),
        **figures(test, variant),
    }


def _lead(lead: Lead) -> dict[str, Any]:
    """In mIoU; `is_clear` says that the interval of the paired difference leaves out 0."""
    return {
        "over": _choice(lead.over),
        "difference": _figure(lead.difference),
        **_interval("difference", lead.interval),
        "is_clear": lead.clear,
    }


def _interval(name: str, found: Interval) -> dict[str, float | None]:
    return {f"{name}_low": _figure(found.low), f"{name}_high": _figure(found.high)}


def _choice(choice: Choice) -> dict[str, Any]:
    return {
        "epoch": choice.epoch,
        "step": choice.step,
        "variant": choice.variant,
        "mIoU": _figure(choice.mean_iou),
    }


def _figure(value: float) -> float | None:
    return float(value) if math.isfinite(value) else None
