"""From logits to class ids, for one network and for the average of two."""

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from components.inference.paddle_engine import Floats
from components.metrics.confusion import ClassIds


def softmax(logits: Floats) -> Floats:
    """Over the first axis: (C, ...) logits to probabilities."""
    result: Floats = logits - logits.max(axis=0)
    np.exp(result, out=result)
    result /= result.sum(axis=0)
    return result


def mean_probabilities(logits: Sequence[Floats]) -> Floats:
    """The average of the networks' softmax probabilities, (C, ...): the "mean" variant of a checkpoint."""
    total = softmax(logits[0])
    for others in logits[1:]:
        total += softmax(others)
    total /= len(logits)
    return total


def most_likely(values: NDArray[np.floating[Any]]) -> ClassIds:
    """The index of the largest of (C, ...) logits or probabilities, the first one where several are equal.

    uint8, or uint16 where there are more than 256 classes.
    """
    best = values[0].copy()
    winner: ClassIds = np.zeros(best.shape, np.uint8 if len(values) <= 256 else np.uint16)
    # Plane by plane, because numpy's argmax over the first axis strides through memory. A later class has a
    # higher id than every winner so far, so the larger id is the new winner.
    for class_id, plane in enumerate(values[1:], start=1):
        np.maximum(winner, (plane > best) * winner.dtype.type(class_id), out=winner)
        np.maximum(best, plane, out=best)
    return winner


def predicted_classes(logits: Sequence[Floats]) -> ClassIds:
    """Class ids (H, W) of one network, or of the average of several."""
    return most_likely(logits[0] if len(logits) == 1 else mean_probabilities(logits))
