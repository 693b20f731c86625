"""What a segmentation consists of, wherever it is computed."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from components.inference.paddle_engine import Floats
from components.metrics.confusion import ClassIds, Matrix


@dataclass(frozen=True)
class Truth:
    """The label of an image, to count confusions with."""

    label: NDArray[np.uint8]
    """(H, W) class ids."""
    num_classes: int
    ignore_index: int


@dataclass(frozen=True)
class Output:
    """What to compute from the logits of an image."""

    groups: Sequence[Sequence[int]] = ()
    """For each segmentation, the indices of the engines to average; empty averages all engines in one segmentation."""
    truth: Truth | None = None
    confidence: bool = False
    probabilities: bool = False
    """For all classes, which takes 4 bytes per pixel and class."""


class Segmentation(NamedTuple):
    ids: ClassIds
    """(H, W)"""
    confidence: Floats | None = None
    """The softmax probability of these classes, (H, W) in [0, 1], if it was asked for."""
    matrix: Matrix | None = None
    """The confusion matrix, (C, C), if the truth was given."""
    probabilities: Floats | None = None
    """The softmax probabilities of all classes, (C, H, W) in [0, 1], if they were asked for."""
