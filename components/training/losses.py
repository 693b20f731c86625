"""Pixel losses: cross entropy over all pixels, or over hard pixels only (OHEM)."""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import paddle
from numpy.typing import NDArray
from paddle.nn import functional as F

from components.networks.device import on_gpu
from components.recipes.model import SupervisedLoss

Total = Callable[[paddle.Tensor], paddle.Tensor]
"""Maps this process's pixel count to the mean count over all processes, so that averaged gradients are exact."""


@dataclass(frozen=True)
class Criterion:
    """The losses of a branch against labels; `class_weights` is (C,) float32 or None."""

    settings: SupervisedLoss
    ignore_index: int
    min_kept: int
    class_weights: paddle.Tensor | None = None
    total: Total = lambda count: count

    def supervised(
        self, logits: paddle.Tensor, labels: paddle.Tensor, count: paddle.Tensor | None = None
    ) -> paddle.Tensor:
        """Return the supervised loss of (N, C, H, W) logits against (N, H, W) int64 labels, averaged over pixels.

        `count` replaces the pixel count as the divisor.
        """
        losses = pixel_losses(logits, labels, self.ignore_index)
        valid = labels != self.ignore_index
        if self.settings.kind == "ohem":
            valid = hard_pixels(losses, valid, self.settings.ohem_threshold, self.min_kept)
        return self._mean(losses, _weights(labels, valid, self.class_weights), count)

    def cross(
        self, logits: paddle.Tensor, pseudo_labels: paddle.Tensor, count: paddle.Tensor | None = None
    ) -> paddle.Tensor:
        """Return the cross loss: plain cross entropy against the other network's pseudo labels, averaged over pixels.

        It ignores class weights, which would amplify wrong pseudo labels of rare classes.
        """
        losses = pixel_losses(logits, pseudo_labels, self.ignore_index)
        return self._mean(losses, _weights(pseudo_labels, pseudo_labels != self.ignore_index, None), count)

    def supervised_count(self, labels: paddle.Tensor) -> paddle.Tensor | None:
        """Return the divisor of `supervised`; None with OHEM, where it depends on the losses."""
        if self.settings.kind == "ohem":
            return None
        return _weights(labels, labels != self.ignore_index, self.class_weights).sum()

    def cross_count(self, pseudo_labels: paddle.Tensor) -> paddle.Tensor:
        """Return the divisor of `cross`."""
        return _weights(pseudo_labels, pseudo_labels != self.ignore_index, None).sum()

    def _mean(self, losses: paddle.Tensor, weights: paddle.Tensor, count: paddle.Tensor | None) -> paddle.Tensor:
        return (losses * weights).sum() / self.total(weights.sum() if count is None else count).clip(min=1e-6)


def _weights(labels: paddle.Tensor, valid: paddle.Tensor, class_weights: paddle.Tensor | None) -> paddle.Tensor:
    """Return each pixel's weight, (N, H, W) float32; a loss is divided by their sum."""
    weights = valid.astype("float32")
    if class_weights is None:
        return weights
    void = paddle.full_like(labels, 0)
    return weights * class_weights[paddle.where(valid, labels, void).flatten()].reshape(labels.shape)


def pixel_losses(logits: paddle.Tensor, labels: paddle.Tensor, ignore_index: int) -> paddle.Tensor:
    """Return the cross entropy of every pixel, (N, H, W); 0 where the label is void.

    Moving classes to the last axis makes Paddle's kernel a quarter faster on CPU than over axis 1.
    """
    return F.cross_entropy(logits.transpose([0, 2, 3, 1]), labels, ignore_index=ignore_index, reduction="none").reshape(
        labels.shape
    )


def hard_pixels(losses: paddle.Tensor, valid: paddle.Tensor, threshold: float, min_kept: int) -> paddle.Tensor:
    """Return the pixels that OHEM keeps, (N, H, W) bool: those whose true class has probability `threshold` or less.

    If these are fewer than `min_kept`, the threshold rises to the min_kept-th smallest probability, ties included.
    With fewer than `min_kept` valid pixels, all are kept, as in the authors' PyTorch code.
    """
    if on_gpu():
        return _hard_pixels_on_device(losses.detach(), valid, threshold, min_kept)
    if int(valid.sum()) <= min_kept:
        return valid
    probabilities = paddle.exp(-losses.detach())
    kept = paddle.logical_and(valid, probabilities <= threshold)
    if int(kept.sum()) >= min_kept:
        return kept
    known = probabilities.numpy()[valid.numpy()]
    raised = float(np.partition(known, min_kept - 1)[min_kept - 1])
    return paddle.logical_and(valid, probabilities <= raised)


def _hard_pixels_on_device(
    losses: paddle.Tensor, valid: paddle.Tensor, threshold: float, min_kept: int
) -> paddle.Tensor:
    """Select pixels without waiting for a number from the device. It sorts all pixels, which is slow on a CPU."""
    probabilities = paddle.exp(-losses)
    hidden = paddle.where(valid, probabilities, paddle.full_like(probabilities, 2.0)).flatten()
    raised, _ = paddle.kthvalue(hidden, min(min_kept, hidden.size))
    return paddle.logical_and(valid, probabilities <= raised.clip(min=threshold))


def min_kept_pixels(settings: SupervisedLoss, crop: tuple[int, int], images: int) -> int:
    """Return OHEM's minimum for a batch. The recipe's value is per 800 x 800 image; other crops keep the same share."""
    return max(1, round(settings.ohem_min_kept * images * crop[0] * crop[1] / 800**2))


def root_median_frequency(pixels: NDArray[np.int64]) -> NDArray[np.float32]:
    """Return class weights (C,) from pixel counts (C,): (median count / count) ** 0.5, or 1 for an absent class."""
    present = pixels > 0
    weights = np.ones(len(pixels), dtype=np.float32)
    weights[present] = np.sqrt(np.median(pixels[present]) / pixels[present])
    return weights
