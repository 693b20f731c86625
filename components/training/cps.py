"""One step of Cross Pseudo Supervision (Chen et al., CVPR 2021), as functions of networks and a batch.

    pseudo labels   each network labels two unlabelled images; a CutMix mask joins both images and both labels
    losses          each network learns its labelled images' labels, and the other network's pseudo labels

The networks meet only where they exchange pseudo labels, so each side may run in a thread of its own.
"""

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass

import numpy as np
import paddle
from numpy.typing import NDArray
from paddle import nn
from paddle.nn import functional as F

from components.networks.layers import BATCH_NORMALISATION
from components.training.losses import Criterion

Forward = Callable[[str], paddle.Tensor]
"""Logits (B, C, H, W) of one part of the batch, by name: labeled, first, second or mixed."""


@dataclass(frozen=True)
class Batch:
    """B labelled images and B pairs of unlabelled ones. Images are (B, 3, H, W), labels and masks (B, H, W).

    `mixed` is `first` with `second` pasted where `mask` is True, its colours perhaps changed strongly; `void` marks
    where it shows padding.
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

    def micro_batches(self, parts: int) -> list["Batch"]:
        """The batch cut into `parts` of equal size; each keeps all names."""
        if parts == 1:
            return [self]
        size = len(self.labeled) // parts
        return [self._part(slice(start, start + size)) for start in range(0, size * parts, size)]

    def _part(self, images: slice) -> "Batch":
        return Batch(
            labeled=self.labeled[images],
            labels=self.labels[images],
            first=None if self.first is None else self.first[images],
            second=None if self.second is None else self.second[images],
            mixed=None if self.mixed is None else self.mixed[images],
            mask=None if self.mask is None else self.mask[images],
            void=None if self.void is None else self.void[images],
            names=self.names,
        )


@dataclass(frozen=True)
class BranchLosses:
    """One network's losses as tensors of one number; `total` is what it descends."""

    total: paddle.Tensor
    supervised: paddle.Tensor
    cross: paddle.Tensor | None

    def detached(self) -> "BranchLosses":
        """The numbers without what autograd holds for them."""
        cross = None if self.cross is None else self.cross.detach()
        return BranchLosses(self.total.detach(), self.supervised.detach(), cross)


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


@dataclass(frozen=True)
class Counts:
    """What a micro-batch's losses are divided by, when it is not its own number of pixels."""

    supervised: paddle.Tensor | None = None
    cross: paddle.Tensor | None = None


def mean_counts(
    criterion: Criterion, labels: Sequence[paddle.Tensor], others_labels: Sequence[paddle.Tensor]
) -> Counts:
    """The mean count over micro-batches: with it, the mean of their losses is the loss of the whole batch.

    OHEM picks pixels by their losses, so it picks within each micro-batch, and its losses are averaged as they are.
    """
    parts = len(labels)
    if parts == 1:
        return Counts()
    supervised = [criterion.supervised_count(part) for part in labels]
    return Counts(
        None if supervised[0] is None else paddle.add_n(supervised) / parts,
        paddle.add_n([criterion.cross_count(part) for part in others_labels]) / parts if others_labels else None,
    )


def branch_losses(
    forward: Forward,
    criterion: Criterion,
    labels: paddle.Tensor,
    others_labels: paddle.Tensor | None,
    weight: float,
    counts: Counts = Counts(),
) -> BranchLosses:
    """One network's losses: supervised, plus `weight` times the cross loss where the other gave pseudo labels."""
    cross = None if others_labels is None else criterion.cross(forward("mixed"), others_labels, counts.cross)
    supervised = criterion.supervised(forward("labeled"), labels, counts.supervised)
    return BranchLosses(supervised if cross is None else supervised + weight * cross, supervised, cross)


@contextmanager
def frozen_statistics(network: nn.Layer) -> Iterator[None]:
    """Within, batch normalisation uses the batch's statistics and leaves its running statistics untouched.

    Paddle's momentum is the share of the running value that is kept: 1 keeps all of it, to the bit.
    """
    layers = [layer for layer in network.sublayers() if isinstance(layer, BATCH_NORMALISATION)]
    momenta = [layer._momentum for layer in layers]  # noqa: SLF001 - Paddle has no public name for it
    for layer in layers:
        layer._momentum = 1.0  # noqa: SLF001
    try:
        yield
    finally:
        for layer, momentum in zip(layers, momenta, strict=True):
            layer._momentum = momentum  # noqa: SLF001


def _most_probable(logits: paddle.Tensor, confidence: float, ignore_index: int) -> paddle.Tensor:
    labels = logits.argmax(axis=1)
    if confidence <= 0:
        return labels
    sure = F.softmax(logits, axis=1).max(axis=1) >= confidence
    return paddle.where(sure, labels, paddle.full_like(labels, ignore_index))
