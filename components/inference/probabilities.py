"""Turn logits into class ids, for one network or the average of several."""

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from components.inference.paddle_engine import Floats
from components.metrics.confusion import ClassIds


def softmax(logits: Floats) -> Floats:
    """Return the softmax of (C, ...) logits over the first axis."""
    result: Floats = logits - logits.max(axis=0)
    np.exp(result, out=result)
    result /= result.sum(axis=0)
    return result


def mean_probabilities(logits: Sequence[Floats]) -> Floats:
    """Return the average of the networks' softmax probabilities, (C, ...): the `ensemble` variant of a checkpoint."""
    total = softmax(logits[0])
    for others in logits[1:]:
        total += softmax(others)
    total /= len(logits)
    return total


def most_likely(values: NDArray[np.floating[Any]]) -> ClassIds:
    """Return the argmax over the first axis of (C, ...) logits or probabilities; ties go to the lower class id.

    The result is uint8, or uint16 with more than 256 classes.
    """
    best = values[0].copy()
    winner: ClassIds = np.zeros(best.shape, np.uint8 if len(values) <= 256 else np.uint16)
    # One plane at a time, because numpy's argmax over the first axis strides through memory. Each class has a higher
    # id than every earlier winner, so the larger id is the new winner.
    for class_id, plane in enumerate(values[1:], start=1):
        np.maximum(winner, (plane > best) * winner.dtype.type(class_id), out=winner)
        np.maximum(best, plane, out=best)
    return winner


def predicted_classes(logits: Sequence[Floats]) -> ClassIds:
    """Return class ids (H, W) from one network's logits, or from the average of several networks."""
    return most_likely(logits[0] if len(logits) == 1 else mean_probabilities(logits))
