"""One training step of Cross Pseudo Supervision (Chen et al., CVPR 2021), from the batch to the updated weights.

    loss = sup_left + sup_right + weight * (cross_left + cross_right)

    sup_X     cross entropy, or OHEM, between network X's prediction for labelled images and their labels
    cross_X   cross entropy between network X's prediction for CutMixed unlabelled images and the pseudo labels that the
              other network gives them

A pseudo label is the class with the highest logit and carries no gradient. Network X's gradients are therefore those of
sup_X + weight * cross_X alone, and each branch can compute and apply them in its own thread.
"""

import math
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import paddle
from numpy.typing import NDArray
from paddle import nn
from paddle.nn import functional as F

from components.networks.layers import frozen_statistics
from components.recipes.model import CrossPseudoSupervision
from components.training.batches.on_device import DeviceBatch, PackedBatch
from components.training.batches.paste import NOT_PASTED
from components.training.branch import Branch
from components.training.losses import Criterion
from components.training.pair import DROPPED, LEARNED, UNMIXED, Forward, Pair

PLAIN = CrossPseudoSupervision()


@dataclass(frozen=True)
class Batch:
    """B labelled images and B pairs of unlabelled images. Images are (B, 3, H, W), labels and masks (B, H, W).

    CutMix pastes `second` into `first` where `mask` is True: `mixed` is the result, after strong colour augmentation
    if the recipe asks for it. `void` is True where `mixed` shows padding. With several strong views of each pair, one
    after the other, `mixed`, `mask` and `void` have as many times B entries. The supervised baseline (weight 0) and the
    burn-in have no unlabelled images: these five fields are None.
    """

    labeled: NDArray[np.float32]
    labels: NDArray[np.int64]
    first: NDArray[np.float32] | None
    second: NDArray[np.float32] | None
    mixed: NDArray[np.float32] | None
    mask: NDArray[np.bool_] | None
    void: NDArray[np.bool_] | None
    names: tuple[str, ...]
    """Names of all images in the batch, for error messages."""
    positions: tuple[int, ...] = ()
    """Position of each of the B slots in the training: step * batch size + slot."""
    pasted: NDArray[np.int16] | None = None
    """Labels of the pixels of `mixed` that come from labelled images, NOT_PASTED elsewhere; None without pasting."""
    boxes: NDArray[np.bool_] | None = None
    draws: NDArray[np.float32] | None = None
    """With adaptive CutMix: a box of each mixed image, and a number from 0 to 1. See `with_labeled_boxes`."""

    def on_device(self) -> DeviceBatch:
        """Upload everything."""
        return DeviceBatch(
            labeled=paddle.to_tensor(self.labeled),
            labels=paddle.to_tensor(self.labels),
            first=_uploaded(self.first),
            second=_uploaded(self.second),
            mixed=_uploaded(self.mixed),
            mask=_uploaded(self.mask),
            void=_uploaded(self.void),
            positions=self.positions,
            pasted=None if self.pasted is None else paddle.to_tensor(self.pasted).astype("int64"),
            boxes=_uploaded(self.boxes),
            draws=_uploaded(self.draws),
        )


def _uploaded(array: NDArray[Any] | None) -> paddle.Tensor | None:
    return None if array is None else paddle.to_tensor(array)


@dataclass(frozen=True)
class BranchLosses:
    """One network's losses, each a scalar tensor; `total` is the one whose gradients update it."""

    total: paddle.Tensor
    supervised: paddle.Tensor
    cross: paddle.Tensor | None

    def detached(self) -> "BranchLosses":
        """Return the same losses without their autograd graph."""
        cross = None if self.cross is None else self.cross.detach()
        return BranchLosses(self.total.detach(), self.supervised.detach(), cross)


@dataclass(frozen=True)
class StepLosses:
    """The step's losses, summed over both networks: total = supervised + weight * cross."""

    total: float
    supervised: float
    cross: float


def step(
    pair: Pair,
    batch: Batch | PackedBatch,
    criterion: Criterion,
    *,
    weight: float,
    learning_rate: float,
    number: int,
    synchronize: Callable[[Branch], None] | None = None,
    watch: Callable[[list[dict[str, paddle.Tensor]]], None] | None = None,
) -> StepLosses:
    """Train both networks on one batch and return the losses.

    `training.accumulate` splits the batch into micro-batches, whose gradients add up to those of the whole batch.
    Batch normalisation uses and records the statistics of each micro-batch.

    Args:
        weight: factor of the cross losses at this step.
        number: this step's number, from 0; averaged weights follow faster in early steps.
        synchronize: average a branch's gradients over all processes, before they are applied.
        watch: receives the pseudo labels of each micro-batch, (B, H, W) int64 by network, and must not change them.
    """
    parts = batch.on_device().micro_batches(pair.recipe.training.accumulate)
    # Each network labels the unlabelled images for the other.
    taught = [pair_pseudo_labels(pair, part, criterion) for part in parts]
    if watch is not None:
        watch([{name: pseudo.labels for name, pseudo in found.items()} for found in taught])
    if pair.recipe.cps.adaptive_cutmix:
        parts = [with_labeled_boxes(part, found) for part, found in zip(parts, taught, strict=True)]
    targets = [known_labels(found, part) for found, part in zip(taught, parts, strict=True)]
    forwards = [pair.forwards(part, LEARNED) for part in parts]
    labels = [part.labels for part in parts]

    def update(name: str) -> list[BranchLosses]:
        """Accumulate one network's gradients over the micro-batches and, in a single process, apply them."""
        branch, other = pair.branches[name], "right" if name == "left" else "left"
        cross_targets = [target[other] if target else None for target in targets]
        counts = mean_counts(criterion, labels, cross_targets, parts[0].views)
        losses = []
        for forward, label, target in zip(forwards, labels, cross_targets, strict=True):
            loss = branch_losses(forward[name], criterion, label, target, weight, counts, pair.recipe.cps)
            branch.backward(loss.total / len(parts))
            losses.append(loss.detached())
        if synchronize is None:
            branch.step(learning_rate, number)
        return losses

    by_branch = pair.run_both(update)
    if synchronize is not None:
        # Every process must enter collective operations in the same order, so one branch follows the other.
        for branch in pair.branches.values():
            synchronize(branch)
            branch.step(learning_rate, number)
    return _mean_over_parts([*by_branch["left"], *by_branch["right"]], len(parts))


@dataclass(frozen=True)
class PseudoLabels:
    """One network's pseudo labels of the mixed images, (V * B, H, W) int64.

    `confidence`, (V * B,) from 0 to 1, is the mean confidence over the pixels of each; None without adaptive CutMix.
    """

    labels: paddle.Tensor
    confidence: paddle.Tensor | None


def pair_pseudo_labels(pair: Pair, batch: DeviceBatch, criterion: Criterion) -> dict[str, PseudoLabels]:
    """Return each network's pseudo labels of the mixed images; {} without unlabelled images.

    With `cps.teacher=average` or `average_eval`, the networks make them with their averaged weights.
    """
    if batch.mixed is None:
        return {}
    settings, forwards = pair.recipe.cps, pair.forwards(batch, UNMIXED)

    def label(name: str) -> PseudoLabels:
        branch = pair.branches[name]
        with teaching(branch, settings.teacher):
            return pseudo_labels(
                forwards[name],
                branch.network,
                batch,
                confidence=settings.confidence,
                ignore_index=criterion.ignore_index,
                measure=settings.adaptive_cutmix,
            )

    return pair.run_both(label)


@contextmanager
def teaching(branch: Branch, teacher: str) -> Iterator[None]:
    """Turn a branch's network into its teacher, the `cps.teacher` of the recipe, and back on exit.

    The average of the weights is Mean Teacher's (Tarvainen and Valpola, NeurIPS 2017): w'_t = a w'_(t-1) + (1 - a) w_t.
    `average` is in training mode: it normalises by batch statistics and has dropout. `average_eval` is in evaluation
    mode, with running statistics that are averaged like the weights and without dropout, as the teacher of UniMatch V2
    (Yang et al., TPAMI 2025).
    """
    with ExitStack() as stack:
        if teacher != "network":
            stack.enter_context(branch.averaged())
        if teacher == "average_eval":
            stack.enter_context(evaluation_mode(branch.network))
        yield


@contextmanager
def evaluation_mode(network: nn.Layer) -> Iterator[None]:
    """Put every layer into evaluation mode, and back into its own mode on exit: frozen layers always are in it."""
    layers = [layer for layer in network.sublayers(include_self=True) if layer.training]
    for layer in layers:
        layer.training = False
    try:
        yield
    finally:
        for layer in layers:
            layer.training = True


def pseudo_labels(
    forward: Forward,
    network: nn.Layer,
    batch: DeviceBatch,
    *,
    confidence: float,
    ignore_index: int,
    measure: bool = False,
) -> PseudoLabels:
    """Return one network's pseudo labels of the mixed images, and with `measure`, their confidence.

    The network predicts both unmixed images, and the CutMix mask combines the predictions. Pixels are `ignore_index`
    where the mixed image shows padding, and where the predicted class is less probable than `confidence`.
    Batch normalisation in training mode leaves its running statistics unchanged. Taking the argmax before mixing gives
    the same labels as mixing the logits, and moves less data.
    """
    assert batch.mask is not None
    assert batch.void is not None
    parts, sure = [], []
    with paddle.no_grad(), frozen_statistics(network):
        for name in UNMIXED:
            logits = forward(name)
            parts.append(batch.each_view(_most_probable(logits, confidence, ignore_index)))
            if measure:
                sure.append(batch.each_view(pixel_confidence(logits)))
    labels = paddle.where(batch.mask, parts[1], parts[0])
    labels = paddle.where(batch.void, paddle.full_like(labels, ignore_index), labels)
    if not measure:
        return PseudoLabels(labels, None)
    inside = paddle.logical_not(batch.void).astype("float32")
    total = (paddle.where(batch.mask, sure[1], sure[0]) * inside).sum(axis=[1, 2])
    return PseudoLabels(labels, total / inside.sum(axis=[1, 2]).clip(min=1))


def pixel_confidence(logits: paddle.Tensor) -> paddle.Tensor:
    """Return AugSeg's confidence of each pixel, (N, H, W): (1 - H(p) / log C) max p, where H is the entropy of p."""
    logs = F.log_softmax(logits, axis=1)
    probabilities = logs.exp()
    entropy = -(probabilities * logs).sum(axis=1)
    return (1 - entropy / math.log(max(2, logits.shape[1]))) * probabilities.max(axis=1)


def with_labeled_boxes(batch: DeviceBatch, taught: dict[str, PseudoLabels]) -> DeviceBatch:
    """Paste boxes of the labelled images onto mixed images: the adaptive CutMix of AugSeg (Zhao et al., CVPR 2023).

    With confidence rho_i and a uniform draw u_i, mixed image i gets a box of the labelled image in the same place of
    the batch, and its labels, if u_i > rho_i: with probability 1 - rho_i. Here rho_i is the mean over both networks, so
    that both learn from the same image, and the box goes onto the mixed image. AugSeg pastes it onto an unlabelled
    image and mixes that.
    """
    if not taught:
        return batch
    assert batch.boxes is not None
    assert batch.draws is not None
    confidence = paddle.add_n([pseudo.confidence for pseudo in taught.values()]) / len(taught)
    chosen = paddle.logical_and(batch.boxes, (batch.draws > confidence)[:, None, None])
    images, labels = batch.each_view(batch.labeled), batch.each_view(batch.labels)
    pasted = paddle.full_like(labels, NOT_PASTED) if batch.pasted is None else batch.pasted
    return replace(
        batch,
        mixed=paddle.where(chosen[:, None], images, batch.mixed),
        pasted=paddle.where(chosen, labels, pasted),
    )


def known_labels(taught: dict[str, PseudoLabels], batch: DeviceBatch) -> dict[str, paddle.Tensor]:
    """Return each network's pseudo labels, and the true ones where pixels were pasted from labelled images."""
    pasted, labels = batch.pasted, {name: pseudo.labels for name, pseudo in taught.items()}
    if pasted is None:
        return labels
    known = pasted != NOT_PASTED
    return {name: paddle.where(known, pasted, found) for name, found in labels.items()}


@dataclass(frozen=True)
class Counts:
    """Divisors of a micro-batch's losses; None for the micro-batch's own number of pixels."""

    supervised: paddle.Tensor | None = None
    cross: paddle.Tensor | None = None
    dropped: paddle.Tensor | None = None


def mean_counts(
    criterion: Criterion, labels: Sequence[paddle.Tensor], targets: Sequence[paddle.Tensor | None], views: int = 1
) -> Counts:
    """Return the mean pixel counts of the micro-batches: losses divided by them average to the whole batch's loss.

    OHEM selects pixels by their losses, so it selects within each micro-batch; those losses are averaged unweighted.
    """
    parts = len(labels)
    if parts == 1:
        return Counts()
    supervised = [criterion.supervised_count(part) for part in labels]
    pseudo = [part for part in targets if part is not None]
    cross, dropped = (
        paddle.add_n([criterion.cross_count(part[::step]) for part in pseudo]) / parts if pseudo else None
        for step in (1, views)
    )
    return Counts(None if supervised[0] is None else paddle.add_n(supervised) / parts, cross, dropped)


def branch_losses(
    forward: Forward,
    criterion: Criterion,
    labels: paddle.Tensor,
    target: paddle.Tensor | None,
    weight: float,
    counts: Counts = Counts(),
    settings: CrossPseudoSupervision = PLAIN,
) -> BranchLosses:
    """Return one network's sup + weight * cross; `target` is the other network's pseudo labels, None without them."""
    cross = None if target is None else cross_loss(forward, criterion, target, counts, settings)
    supervised = criterion.supervised(forward("labeled"), labels, counts.supervised)
    return BranchLosses(supervised if cross is None else supervised + weight * cross, supervised, cross)


def cross_loss(
    forward: Forward, criterion: Criterion, target: paddle.Tensor, counts: Counts, settings: CrossPseudoSupervision
) -> paddle.Tensor:
    """Return one network's loss against the pseudo labels of all views, (V * B, H, W).

    Without options it is CPS's. UniMatch (Yang et al., CVPR 2023) has two strong views s1 and s2 of each image and a
    view fp with dropped features, all against the pseudo labels p:

        L_u = lambda H(p, fp) + mu / 2 (H(p, s1) + H(p, s2)),    lambda = mu = 1/2

    Without fp, this is the mean over the strong views: `cps.weight` means the same with and without options. UniMatch
    drops features of the weakly augmented image. Here they are those of the first strong view, whose gradients the
    encoder has to compute anyway.
    """
    strong = criterion.cross(forward("mixed"), target, counts.cross)
    if settings.feature_dropout == 0:
        return strong
    return (strong + criterion.cross(forward(DROPPED), target[:: settings.strong_views], counts.dropped)) / 2


def _mean_over_parts(losses: list[BranchLosses], parts: int) -> StepLosses:
    """Sum over both networks; average over `parts` micro-batches. All losses leave the device at once."""
    wanted = [loss.total for loss in losses] + [loss.supervised for loss in losses]
    wanted += [loss.cross for loss in losses if loss.cross is not None]
    numbers, count = paddle.stack(wanted).tolist(), len(losses)
    total, supervised, cross = numbers[:count], numbers[count : 2 * count], numbers[2 * count :]
    return StepLosses(total=sum(total) / parts, supervised=sum(supervised) / parts, cross=sum(cross) / parts)


def _most_probable(logits: paddle.Tensor, confidence: float, ignore_index: int) -> paddle.Tensor:
    labels = logits.argmax(axis=1)
    if confidence <= 0:
        return labels
    confident = F.softmax(logits, axis=1).max(axis=1) >= confidence
    return paddle.where(confident, labels, paddle.full_like(labels, ignore_index))
