"""Say in sentences what a result shows: the verdict, and a finding as the heading of each section."""

from collections.abc import Sequence

import numpy as np

from components.labeled_ratio import labels_text
from components.metrics.bootstrap import FEW_IMAGES
from components.pages.render import percent, points
from components.pages.verdict import PageVerdict, listed
from components.runs.result import BaselineGain, ClassFigures, ConfusionMatrix, RunResult, useless_text
from components.units import quantity

WEAK = 0.25
"""IoU below which a class is called weak."""
_RISE = 0.005
"""Least rise of the mIoU over the last two checkpoints that counts as rising."""


def judge(result: RunResult) -> PageVerdict:
    """Return the verdict on a result. A run without a baseline is at best better than a constant."""
    best = result.best
    if result.is_useless:
        return PageVerdict(
            "bad",
            "No better than a constant",
            f"{percent(best.mIoU)} mIoU with {labels_text(result.labeled_ratio)}.",
            (useless_text(result),),
            tuple(_sentence(reason) for reason in result.likely_reasons),
        )
    gain = (best.mIoU or 0.0) - (result.constant_prediction_mIoU or 0.0)
    sentence = f"{percent(best.mIoU)} mIoU with {labels_text(result.labeled_ratio)}"
    doubts = _doubts(result)
    if doubts:
        return PageVerdict("doubtful", "Doubtful", f"{sentence}, but {doubts[0][0]}.", _why(result), _next(result))
    if result.baseline is not None:
        return _against_baseline(result, result.baseline, sentence)
    return PageVerdict(
        "good",
        "Better than a constant",
        f"{sentence}, {points(gain).removeprefix('+')} points above predicting “{result.constant_prediction_class}” "
        "everywhere.",
        _why(result),
        _next(result),
    )


def _against_baseline(result: RunResult, gain: BaselineGain, sentence: str) -> PageVerdict:
    said = f"{points(abs(gain.difference)).removeprefix('+')} points"
    why, advice = _why(result), _next(result)
    if gain.is_clear and gain.difference > 0:
        return PageVerdict("good", "Good", f"{sentence}, {said} above its supervised baseline.", why, advice)
    if gain.is_clear:
        return PageVerdict(
            "doubtful", "Worse than its baseline", f"{sentence}, {said} below the supervised baseline.", why, advice
        )
    return PageVerdict(
        "doubtful", "Doubtful", f"{sentence}, which is no clear gain over its supervised baseline.", why, advice
    )


def _doubts(result: RunResult) -> list[tuple[str, str]]:
    """Return (doubt, advice) pairs."""
    found = []
    if result.images < FEW_IMAGES:
        count = quantity(result.images, "validation image")
        found.append((f"{count} cannot show how reliable that is", "Label more validation images."))
    lost = [item.name for item in result.best.per_class if item.share and not item.accuracy]
    if lost:
        verb = "is" if len(lost) == 1 else "are"
        found.append((f"{listed(lost)} {verb} never found", f"Label images that show {listed(lost)}."))
    return found


def _why(result: RunResult) -> tuple[str, ...]:
    best, test = result.best, result.test
    lines = []
    if best.mIoU_low is not None:
        lines.append(
            f"The 95 % interval over {result.interval.resampled(result.images)} is {percent(best.mIoU_low)} to "
            f"{percent(best.mIoU_high)}; always answering “{result.constant_prediction_class}” gives "
            f"{percent(result.constant_prediction_mIoU)}."
        )
    gain = result.baseline
    if gain is not None:
        low, high = gain.difference_low, gain.difference_high
        interval = "" if low is None or high is None else f" ({points(low)} to {points(high)})"
        lines.append(
            f"The supervised baseline of the same split, recipe and steps reaches {percent(gain.mIoU)}: a gain of "
            f"{points(gain.difference)} points{interval}. Other seeds may differ; run `cps matrix --baseline`."
        )
    if test is not None:
        lines.append(
            f"On {test.images} test images, which had no part in the selection, it is {percent(test.mIoU)} "
            f"({percent(test.mIoU_low)} to {percent(test.mIoU_high)})."
        )
    return tuple(lines)


def _next(result: RunResult) -> tuple[str, ...]:
    advice = [advice for _, advice in _doubts(result)]
    if is_rising(result):
        advice.append("The last checkpoint is the best one: train for more epochs.")
    weak = [item.name for item in weak_classes(result) if item.accuracy]
    if weak:
        verb = "stays" if len(weak) == 1 else "stay"
        advice.append(
            f"{_sentence(listed(weak))[:-1]} {verb} below {percent(WEAK, 0)} IoU: label images that show them."
        )
    if not advice and result.test is None:
        advice.append("Before you publish the figure, score the weights on images that had no part in the selection.")
    return tuple(advice or ["Look at the worst images: they show what the network has not learnt."])


def is_rising(result: RunResult) -> bool:
    """Return whether the last checkpoint is the best one, and clearly above the one before."""
    rows = result.checkpoints
    if result.lead is not None or len(rows) < 2:
        return False
    last, before = (row.mean_iou(result.best.variant) or 0.0 for row in (rows[-1], rows[-2]))
    return last - before > _RISE


def weak_classes(result: RunResult) -> list[ClassFigures]:
    """Return the classes below WEAK, the weakest first."""
    known = [item for item in result.best.per_class if item.iou is not None and item.iou < WEAK]
    return sorted(known, key=lambda item: item.iou or 0.0)


def score_heading(result: RunResult) -> str:
    if result.is_useless:
        return "No better than a constant prediction"
    return "Clearly above a constant prediction" if result.is_better_than_constant else "Score"


def training_heading(result: RunResult) -> str:
    if len(result.checkpoints) == 1:
        return "Training"
    if result.lead is None:
        return "Still rising at the last checkpoint" if is_rising(result) else "The last checkpoint is the best one"
    if result.lead.is_clear:
        return f"Epoch {result.best.epoch} is clearly ahead of the last checkpoint"
    return f"Epoch {result.best.epoch} is ahead of the last checkpoint, but not clearly"


def classes_heading(result: RunResult) -> str:
    known, weak = [item for item in result.best.per_class if item.iou is not None], weak_classes(result)
    if not weak:
        return f"Every class is above {percent(WEAK, 0)} IoU"
    return f"{len(weak)} of {len(known)} classes {'stays' if len(weak) == 1 else 'stay'} below {percent(WEAK, 0)} IoU"


def confusion_heading(confusion: ConfusionMatrix) -> str:
    wrong = _wrong(confusion)
    if not wrong.any():
        return "Every pixel is correct"
    called = int(wrong.sum(axis=0).argmax())
    share = wrong.sum(axis=0)[called] / wrong.sum()
    return f"{percent(share, 0)} of the wrong pixels were called {confusion.classes[called]}"


def mistakes(confusion: ConfusionMatrix, most: int = 6) -> list[tuple[str, str, float]]:
    """Return the (true class, predicted class, share of all wrong pixels) that cost the most, largest first."""
    wrong = _wrong(confusion)
    order = np.argsort(-wrong, axis=None, kind="stable")[:most]
    pairs = [divmod(int(number), len(wrong)) for number in order]
    names, total = confusion.classes, max(1, wrong.sum())
    return [(names[row], names[column], wrong[row, column] / total) for row, column in pairs if wrong[row, column]]


def taken_for(confusion: ConfusionMatrix) -> dict[str, str]:
    """Return for each class what most of its missed pixels were predicted as, with their share of its pixels."""
    matrix, wrong = np.array(confusion.matrix), _wrong(confusion)
    found = {}
    for number, name in enumerate(confusion.classes):
        if wrong[number].any():
            most = int(wrong[number].argmax())
            found[name] = f"{confusion.classes[most]} {percent(wrong[number, most] / matrix[number].sum(), 0)}"
    return found


def costliest(confusion: ConfusionMatrix, most: int) -> list[int]:
    """Return the ids of the `most` classes with the most wrong pixels, missed or falsely predicted, in their order."""
    wrong = _wrong(confusion)
    order: Sequence[int] = np.argsort(-(wrong.sum(axis=0) + wrong.sum(axis=1)), kind="stable")[:most].tolist()
    return sorted(order)


def _wrong(confusion: ConfusionMatrix) -> "np.ndarray[tuple[int, int], np.dtype[np.int64]]":
    matrix = np.array(confusion.matrix, np.int64)
    np.fill_diagonal(matrix, 0)
    return matrix


def _sentence(text: str) -> str:
    """Return text with a capital and a full stop."""
    return text[:1].upper() + text[1:] + "."
