"""One step of Cross Pseudo Supervision (Chen et al., CVPR 2021), as functions of networks and a batch.

    pseudo labels   each network labels two unlabelled images; a CutMix mask joins both images and both labels
    losses          each network learns its labelled images' labels, and the other network's pseudo labels

The networks meet only where they exchange pseudo labels, so each side may run in a thread of its own.
"""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass

import numpy as np
import paddle
from numpy.typing import NDArray
from paddle import nn
from paddle.nn import functional as F

from components.training.losses import Criterion

Forward = Callable[[str], paddle.Tensor]
"""Logits (B, C, H, W) of one part of the batch, by name: labeled, first, second or mixed."""


@dataclass(frozen=True)
class Batch:
    """B labelled images and B pairs of unlabelled ones. Images are (B, 3, H, W), labels and masks (B, H, W).

    `mixed` is `first` with `second` pasted where `mask` is True; `void` marks where `mixed` shows padding.
    Without unlabelled images (weight 0) only the labelled part is there.
    """

    labeled: NDArray[np.float32]
    labels: NDArray[np.int64]
    first: NDArray[np.float32] | None
    second: NDArray[np.float32] | None
    mixed: NDArray[np.float32] | None
    mask: NDArray[np.bool_] | None
    void: NDArray[np.bool_] | None
    names: tuple[str, ...]
    """Every image of the batch, for error messages."""


@dataclass(frozen=True)
class BranchLosses:
    """One network's losses as tensors of one number; `total` is what it descends."""

    total: paddle.Tensor
    supervised: paddle.Tensor
    cross: paddle.Tensor | None


def pseudo_labels(
    forward: Forward, network: nn.Layer, batch: Batch, *, confidence: float, ignore_index: int
) -> paddle.Tensor:
    """(B, H, W) int64 labels of the mixed images, from the network's predictions of both parts.

    The passes use batch statistics and leave the running statistics as they are. The more probable class is taken
    before mixing: the same labels as from mixed logits, with less to move.
    """
    assert batch.mask is not None
    assert batch.void is not None
    with paddle.no_grad(), frozen_statistics(network):
        parts = [_most_probable(forward(name), confidence, ignore_index) for name in ("first", "second")]
    labels = paddle.where(paddle.to_tensor(batch.mask), parts[1], parts[0])
    return paddle.where(paddle.to_tensor(batch.void), paddle.full_like(labels, ignore_index), labels)


def branch_losses(
    forward: Forward,
    criterion: Criterion,
    labels: paddle.Tensor,
    others_labels: paddle.Tensor | None,
    weight: float,
) -> BranchLosses:
    """One network's losses: supervised, plus `weight` times the cross loss where the other gave pseudo labels."""
    cross = None if others_labels is None else criterion.cross(forward("mixed"), others_labels)
    supervised = criterion.supervised(forward("labeled"), labels)
    return BranchLosses(supervised if cross is None else supervised + weight * cross, supervised, cross)


@contextmanager
def frozen_statistics(network: nn.Layer) -> Iterator[None]:
    """Within, batch normalisation uses the batch's statistics and leaves its running statistics untouched.

    Paddle's momentum is the share of the running value that is kept: 1 keeps all of it, to the bit.
    """
    layers = [layer for layer in network.sublayers() if isinstance(layer, nn.layer.norm._BatchNormBase)]
    momenta = [layer._momentum for layer in layers]
    for layer in layers:
        layer._momentum = 1.0
    try:
        yield
    finally:
        for layer, momentum in zip(layers, momenta, strict=True):
            layer._momentum = momentum


def _most_probable(logits: paddle.Tensor, confidence: float, ignore_index: int) -> paddle.Tensor:
    labels = logits.argmax(axis=1)
    if confidence <= 0:
        return labels
    sure = F.softmax(logits, axis=1).max(axis=1) >= confidence
    return paddle.where(sure, labels, paddle.full_like(labels, ignore_index))
