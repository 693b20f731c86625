"""Batch normalisation over the images of all processes, so that several processes train as one with the whole batch.

Paddle's SyncBatchNorm has a kernel for GPUs only. Elsewhere, the same arithmetic runs here with all-reduced sums.
"""

from collections.abc import Callable, Iterable
from functools import partial
from typing import Any

import paddle
from paddle import nn
from paddle.nn import functional as F

from components.errors import UserError
from components.networks.device import on_gpu
from components.networks.layers import BATCH_NORMALISATION
from components.recipes.model import Training


def set_batch_norm(networks: Iterable[nn.Layer], settings: Training, *, alone: bool) -> None:
    """Synchronise batch normalisation over processes; in a process that trains alone, check that it has enough images.

    Each of several processes has an image in every forward pass, so together they always have two.
    """
    for network in networks:
        if alone:
            refuse_single_values(network, settings)
        else:
            synchronise(network)


def synchronise(network: nn.Layer) -> None:
    """Make every batch normalisation layer in training mode use the statistics of all processes.

    Parameters and their names stay the same. Every process must run its layers in the same order, forward and backward,
    because each of them waits for the others.
    """
    if on_gpu():
        nn.SyncBatchNorm.convert_sync_batchnorm(network)
    for layer in batch_norms(network):
        if not isinstance(layer, nn.SyncBatchNorm) and not layer._use_global_stats:  # noqa: SLF001
            layer.forward = partial(_forward, layer, layer.forward)


def refuse_single_values(network: nn.Layer, settings: Training) -> None:
    """Make the first training pass raise UserError if a layer would normalise over one value per channel.

    Such a layer passes on its bias alone and records a variance of 0. Networks that pool whole images do that with
    micro-batches of one image.
    """
    for layer in batch_norms(network):
        checks: list[Any] = []
        checks.append(layer.register_forward_pre_hook(partial(_check_once, checks, settings)))


def batch_norms(network: nn.Layer) -> list[nn.Layer]:
    return [layer for layer in network.sublayers(include_self=True) if isinstance(layer, BATCH_NORMALISATION)]


def _check_once(checks: list[Any], settings: Training, layer: nn.Layer, inputs: tuple[paddle.Tensor, ...]) -> None:
    if not layer.training:  # a teacher in evaluation mode may come first
        return
    tensor = inputs[0]
    if tensor.size == tensor.shape[_channel_axis(layer, tensor)]:
        raise UserError(
            f"the network normalises each channel of {list(tensor.shape)} over a single value, because it pools whole "
            f"images and each forward pass has one image: set {_fix(settings)}"
        )
    while checks:
        checks.pop().remove()


def _fix(settings: Training) -> str:
    size = settings.batch_size
    if size == 1:
        return "training.batch_size=2"
    parts = max(divisor for divisor in range(1, size) if size % divisor == 0)
    return f"training.accumulate={parts} or training.batch_size={2 * size}"


def _forward(layer: nn.Layer, alone: Callable[[paddle.Tensor], paddle.Tensor], tensor: paddle.Tensor) -> paddle.Tensor:
    """Normalise as `layer` does; in training, with statistics over all processes."""
    if not layer.training:
        return alone(tensor)
    output = _SyncedBatchNorm.apply(tensor, layer.weight, layer.bias, layer)
    activation = getattr(layer, "_act", None)
    return output if activation is None else getattr(F, activation)(output)


class _SyncedBatchNorm(paddle.autograd.PyLayer):
    """Batch normalisation of (N, C, ...) or (N, ..., C) with the mean and variance over all processes."""

    @staticmethod
    def forward(
        ctx: Any, tensor: paddle.Tensor, weight: paddle.Tensor | None, bias: paddle.Tensor | None, layer: nn.Layer
    ) -> paddle.Tensor:
        given = [tensor, weight, bias]
        axis, epsilon, dtype = _channel_axis(layer, tensor), layer._epsilon, layer._mean.dtype  # noqa: SLF001
        tensor = tensor.astype(dtype)  # which may have 16 bits
        mean, variance, count = _statistics(tensor, axis)
        _record(layer, mean, variance)
        ctx.inputs = [(place, not item.stop_gradient) for place, item in enumerate(given) if item is not None]
        ctx.axis, ctx.epsilon = axis, epsilon
        ctx.save_for_backward(tensor, weight, mean, variance, count)
        return _affine(tensor, mean, variance, weight, bias, epsilon=epsilon, axis=axis).astype(given[0].dtype)

    @staticmethod
    def backward(ctx: Any, gradient: paddle.Tensor) -> tuple[paddle.Tensor | None, ...]:
        tensor, weight, mean, variance, count = ctx.saved_tensor()
        dtype, gradient, channels = gradient.dtype, gradient.astype(tensor.dtype), tensor.shape[ctx.axis]
        affine = partial(_affine, epsilon=ctx.epsilon, axis=ctx.axis)
        normalised = affine(tensor, mean, variance)
        # The sums of this process alone are the gradients of bias and weight: those are averaged over processes later.
        own = [_own_statistics(item, ctx.axis)[0] for item in (gradient, gradient * normalised)]
        own = paddle.stack(own).astype("float64") * (tensor.size // channels)
        means, own = (_all_reduced(own) / count).astype(tensor.dtype), own.astype(tensor.dtype)
        scale = (variance + ctx.epsilon).rsqrt() * (1 if weight is None else weight)
        through_mean, through_variance = (-scale * part for part in means)
        # (gradient - means[0] - normalised * means[1]) * scale, with a kernel that is faster than broadcasting
        found = affine(gradient, paddle.zeros_like(mean), variance, weight)
        found += affine(tensor, mean, variance, through_variance, through_mean)
        gradients = (found.astype(dtype), own[1], own[0])
        return tuple(gradients[place] if wanted else None for place, wanted in ctx.inputs)


def _affine(
    tensor: paddle.Tensor,
    mean: paddle.Tensor,
    variance: paddle.Tensor,
    weight: paddle.Tensor | None = None,
    bias: paddle.Tensor | None = None,
    *,
    epsilon: float,
    axis: int,
) -> paddle.Tensor:
    """Return (tensor - mean) / sqrt(variance + epsilon) * weight + bias, per channel."""
    layout = "NCHW" if axis == 1 else "NHWC"
    return F.batch_norm(tensor, mean, variance, weight, bias, epsilon=epsilon, data_format=layout)


def _statistics(tensor: paddle.Tensor, axis: int) -> tuple[paddle.Tensor, paddle.Tensor, paddle.Tensor]:
    """Return the mean and variance of each channel over all processes, (C,), and the number of values.

    Each process computes its variance around its own mean, and float64 adds them up: the difference of two large sums
    of squares would lose the digits of a small variance. The number is (1,) float64.
    """
    channels = tensor.shape[axis]
    mean, variance = (part.astype("float64") for part in _own_statistics(tensor, axis))
    sums = paddle.concat([paddle.ones([1], "float64"), mean, variance + mean.square()]) * (tensor.size // channels)
    count, sums, squares = _all_reduced(sums).split([1, channels, channels])
    mean = sums / count
    variance = (squares / count - mean.square()).clip(min=0)
    return mean.astype(tensor.dtype), variance.astype(tensor.dtype), count


def _own_statistics(tensor: paddle.Tensor, axis: int) -> tuple[paddle.Tensor, paddle.Tensor]:
    """Return the mean and variance of each channel in this process, (C,).

    They come from Paddle's kernel for batch normalisation: `mean` on a CPU is slower, and its rounding errors are
    20 times as large. Such errors change the sign of a value before a ReLU now and then.
    """
    mean, variance = (paddle.zeros([tensor.shape[axis]], tensor.dtype) for _ in range(2))
    if tensor.size == tensor.shape[axis]:  # the kernel skips single values
        return tensor.flatten(), variance
    layout = "NCHW" if axis == 1 else "NHWC"
    F.batch_norm(tensor, mean, variance, training=True, momentum=0.0, data_format=layout)
    return mean, variance


def _record(layer: nn.Layer, mean: paddle.Tensor, variance: paddle.Tensor) -> None:
    kept = layer._momentum  # noqa: SLF001 - Paddle's momentum is the share of the running value that is kept
    if kept == 1:
        return
    layer._mean.scale_(kept).add_(mean * (1 - kept))  # noqa: SLF001
    layer._variance.scale_(kept).add_(variance * (1 - kept))  # noqa: SLF001


def _all_reduced(tensor: paddle.Tensor) -> paddle.Tensor:
    reduced = tensor.clone()
    paddle.distributed.all_reduce(reduced)
    return reduced


def _channel_axis(layer: nn.Layer, tensor: paddle.Tensor) -> int:
    layout = layer._data_layout if isinstance(layer, nn.BatchNorm) else layer._data_format  # noqa: SLF001
    return 1 if layout[1] == "C" else tensor.ndim - 1
