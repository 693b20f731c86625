"""Build a run's result from the verdict and the scores of the best checkpoint."""

import math
from collections.abc import Sequence

from components.evaluation import verdict as decided
from components.evaluation.doubts import is_better_than_constant
from components.evaluation.scores import Scores
from components.evaluation.verdict import Verdict
from components.metrics import bootstrap
from components.metrics.bootstrap import Interval, interval
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
from components.runs.result import (
    Best,
    BootstrapSettings,
    CheckpointScores,
    Choice,
    ClassFigures,
    ConfusionMatrix,
    Figures,
    HeldOutScores,
    Lead,
    RunResult,
    ScoringProtocol,
    StoredObject,
    Variant,
)


def build_result(
    record: RunRecord,
    verdict: Verdict,
    best: Scores,
    test: Scores | None = None,
    *,
    reasons: Sequence[str] = (),
    weights: StoredObject,
    report: StoredObject,
) -> RunResult:
    """Return the result of a run.

    Args:
        best: the best checkpoint's scores.
        test: the winner's scores on the dataset's test list, if it has one.
        reasons: why the result may be no better than a constant prediction; dropped if it is better.
    """
    variant = verdict.best.variant
    matrix = best.total(variant)
    constant = best_constant_prediction(matrix)
    is_better = is_better_than_constant(best, variant)
    protocol, (low, high) = best.protocol, _bounds(verdict.interval)
    return RunResult(
        run_key=record.run_key,
        recipe=record.recipe,
        dataset=record.dataset,
        labeled_ratio=record.labeled_ratio,
        seed=record.seed,
        split=record.split,
        images=len(best.images),
        best=Best(
            **dict(_choice(verdict.best)),
            mIoU_low=low,
            mIoU_high=high,
            **dict(figures(best, variant)),
        ),
        last=_choice(verdict.last),
        lead=None if verdict.lead is None else _lead(verdict.lead),
        variants=tuple(_lead(item) for item in verdict.variants),
        test=None if test is None else _held_out(test, variant),
        checkpoints=tuple(map(_checkpoint, verdict.rows)),
        constant_prediction_mIoU=_figure(constant.mean_iou),
        constant_prediction_class=protocol.classes[constant.class_id],
        is_better_than_constant=is_better,
        likely_reasons=() if is_better else tuple(reasons),
        confusion_matrix=ConfusionMatrix(classes=protocol.classes, matrix=tuple(map(tuple, matrix.tolist()))),
        protocol=ScoringProtocol(
            crop=protocol.crop,
            stride=protocol.stride,
            engine=protocol.engine,
            scales=protocol.scales,
            flip=protocol.flip,
            boundary_ratio=protocol.boundary_ratio,
            longest_side=protocol.longest_side,
            checkpoint_sha256=best.checkpoint_sha256,
        ),
        interval=_settings(best),
        note=selection_note(len(verdict.rows), len(best.images), len(test.images) if test else 0),
        weights=weights,
        report=report,
    )


def figures(scores: Scores, variant: Variant) -> Figures:
    """Return every metric except mIoU, over all images."""
    matrix, boundary = scores.total(variant), boundary_iou(scores.counts[variant].bands)
    return Figures(
        per_class=per_class(matrix, boundary, scores.protocol.classes),
        mean_accuracy=_figure(mean_over_present(class_accuracy(matrix))),
        pixel_accuracy=_figure(pixel_accuracy(matrix)),
        frequency_weighted_IoU=_figure(frequency_weighted_iou(matrix)),
        mean_Dice=_figure(mean_over_present(dice(matrix))),
        kappa=_figure(kappa(matrix)),
        boundary_IoU=_figure(mean_over_present(boundary)),
    )


def per_class(matrix: Matrix, boundary: PerClass, names: tuple[str, ...]) -> tuple[ClassFigures, ...]:
    """Return the metrics of each class from a confusion matrix (C, C) and boundary IoU (C,)."""
    ious, accuracies, dices = iou(matrix), class_accuracy(matrix), dice(matrix)
    shares = matrix.sum(1) / max(1, int(matrix.sum()))
    return tuple(
        ClassFigures(
            name=name,
            iou=_figure(ious[number]),
            accuracy=_figure(accuracies[number]),
            dice=_figure(dices[number]),
            boundary_iou=_figure(boundary[number]),
            share=float(shares[number]),
        )
        for number, name in enumerate(names)
    )


def selection_note(checkpoints: int, images: int, test_images: int) -> str:
    """Return a note on the bias that selecting on the validation images adds to the result."""
    note = (
        f"The best of {checkpoints} checkpoint{'s' if checkpoints > 1 else ''} and 3 variants was selected on the same "
        f"{images} validation images that its mIoU is reported on, so this mIoU is slightly optimistic. "
    )
    if test_images:
        return note + (
            f"The test mIoU is not: its {test_images} images were not used for the selection and were scored once, "
            "with the winner only."
        )
    return note + "Mention this when you quote it, or score the weights on images that were not used for the selection."


def _settings(scores: Scores) -> BootstrapSettings:
    blocks = scores.blocks()
    return BootstrapSettings(
        level=bootstrap.LEVEL,
        draws=bootstrap.DRAWS,
        seed=bootstrap.SEED,
        blocks=blocks.count,
        sequences=blocks.sequences,
        frames=blocks.frames,
    )


def _held_out(test: Scores, variant: Variant) -> HeldOutScores:
    low, high = _bounds(interval(test.bootstrap().mean_iou(test.counts[variant].by_image)))
    return HeldOutScores(
        images=len(test.images),
        mIoU=_figure(test.mean_iou(variant)),
        mIoU_low=low,
        mIoU_high=high,
        **dict(figures(test, variant)),
    )


def _checkpoint(row: decided.Row) -> CheckpointScores:
    low, high = _bounds(row.interval)
    return CheckpointScores(
        epoch=row.epoch,
        step=row.step,
        left=_figure(row.mean_iou["left"]),
        right=_figure(row.mean_iou["right"]),
        ensemble=_figure(row.mean_iou["ensemble"]),
        mIoU_low=low,
        mIoU_high=high,
        IoU=tuple(_figure(value) for value in row.class_iou),
        agreement=row.agreement,
    )


def _lead(lead: decided.Lead) -> Lead:
    low, high = _bounds(lead.interval)
    return Lead(
        over=_choice(lead.over),
        difference=_figure(lead.difference),
        difference_low=low,
        difference_high=high,
        is_clear=lead.clear,
    )


def _choice(choice: decided.Choice) -> Choice:
    return Choice(epoch=choice.epoch, step=choice.step, variant=choice.variant, mIoU=_figure(choice.mean_iou))


def _bounds(found: Interval) -> tuple[float | None, float | None]:
    return _figure(found.low), _figure(found.high)


def _figure(value: float) -> float | None:
    return float(value) if math.isfinite(value) else None
