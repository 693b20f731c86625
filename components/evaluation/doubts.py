"""Judge whether a result is better than predicting one class everywhere, and find likely reasons if it is not."""

from collections.abc import Sequence

import numpy as np

from components.dataset.split import Split
from components.evaluation.scores import Scores
from components.metrics.bootstrap import interval
from components.metrics.confusion import ClassCounts
from components.metrics.scores import best_constant_prediction, mean_iou
from components.recipes import Recipe
from components.runs.result import Variant

_IMAGES_PER_CLASS = 5
"""With fewer labelled images for each class, most classes are seen too rarely."""
_FEW_STEPS = 200
_ALMOST_ALL = 0.95


def is_better_than_constant(scores: Scores, variant: Variant) -> bool:
    """Return whether the mIoU exceeds the best constant prediction's by more than chance.

    That is, whether the 95 % interval of the paired difference over images lies above zero. A single image, or a single
    block of frames, has no interval; there, the difference decides.
    """
    total, counts = scores.total(variant), scores.counts[variant].by_image
    best = best_constant_prediction(total)
    if scores.blocks().count < 2:
        return mean_iou(total) > best.mean_iou
    constant = ClassCounts(np.zeros_like(counts.hit), counts.truth, np.zeros_like(counts.predicted))
    constant.hit[:, best.class_id] = counts.truth[:, best.class_id]
    constant.predicted[:, best.class_id] = counts.truth.sum(axis=1)
    draws = scores.bootstrap()
    return interval(draws.mean_iou(counts) - draws.mean_iou(constant)).low > 0


def likely_reasons(
    recipe: Recipe, split: Split, scores: Scores, variant: Variant, *, steps: int, missing: Sequence[str]
) -> tuple[str, ...]:
    """Return reasons why a result may be no better than a constant prediction, each with what to do about it.

    Args:
        steps: the length of the training.
        missing: classes that no labelled image contains.
    """
    classes, labeled = len(scores.protocol.classes), len(split.labeled)
    reasons = []
    if not recipe.network.backbones:
        reasons.append("the networks start from random weights: use --recipe photos, or set network.pretrained")
    if labeled < _IMAGES_PER_CLASS * classes:
        reasons.append(f"{labeled} labelled images are few for {classes} classes: use more of them, or merge classes")
    if missing:
        reasons.append(f"no labelled image contains {', '.join(missing)}: label some, or merge classes")
    if steps < _FEW_STEPS:
        reasons.append(f"{steps} training steps are few: raise --epochs")
    predicted = scores.total(variant).sum(axis=0)
    share = predicted.max() / max(1, predicted.sum())
    if share > _ALMOST_ALL:
        name = scores.protocol.classes[int(predicted.argmax())]
        reasons.append(f"{100 * share:.0f} % of the pixels are predicted as {name}")
    reasons.append("the labels may be wrong: look at them with `cps dataset check`")
    return tuple(reasons)
