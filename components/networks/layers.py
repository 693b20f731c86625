"""Layers that our own structures share."""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from functools import lru_cache

import numpy as np
import paddle
from numpy.typing import NDArray
from paddle import nn

BATCH_NORMALISATION = (nn.layer.norm._BatchNormBase, nn.BatchNorm)  # noqa: SLF001 - it has no public base
"""Both batch normalisation base classes of Paddle; paddleseg's MobileNetV3 and others use the older second one."""


class ConvBNReLU(nn.Sequential):
    """Convolution, batch normalisation and ReLU, padded so that stride 1 preserves the size."""

    def __init__(self, inputs: int, outputs: int, kernel: int = 3, stride: int = 1) -> None:
        super().__init__(
            nn.Conv2D(inputs, outputs, kernel, stride, padding=kernel // 2, bias_attr=False),
            nn.BatchNorm2D(outputs),
            nn.ReLU(),
        )


class FPNDecoder(nn.Layer):
    """Feature pyramid decoder: adds up feature maps from coarse to fine and computes class logits from the result."""

    def __init__(self, channels: list[int], width: int, num_classes: int) -> None:
        super().__init__()
        self.laterals = nn.LayerList([nn.Conv2D(count, width, 1) for count in channels])
        self.smooth = ConvBNReLU(width, width)
        self.classify = nn.Conv2D(width, num_classes, 1)

    def forward(self, features: list[paddle.Tensor], size: tuple[int, int]) -> paddle.Tensor:
        merged = self.laterals[-1](features[-1])
        for lateral, feature in zip(self.laterals[-2::-1], features[-2::-1], strict=True):
            merged = upsample(merged, feature.shape[2:]) + lateral(feature)
        return upsample(self.classify(self.smooth(merged)), size)


class OwnDropout(nn.Layer):
    """Dropout with its own random generator.

    Paddle's dropout uses one generator for the whole process, so networks in separate threads would draw from it in an
    unpredictable order.
    """

    def __init__(self, p: float) -> None:
        super().__init__()
        self.p = p
        self.generator = np.random.default_rng(0)

    def forward(self, tensor: paddle.Tensor) -> paddle.Tensor:
        if not self.training:
            return tensor
        kept = self.generator.random(tensor.shape, dtype=np.float32) >= self.p
        return tensor * paddle.to_tensor(kept.astype(np.float32) / np.float32(1 - self.p))


def own_dropouts(network: nn.Layer) -> list[OwnDropout]:
    """Replace the network's dropout layers with ones that have their own generator, and return these."""
    found = []
    for layer in network.sublayers(include_self=True):
        for name, child in list(layer.named_children()):
            if type(child) is nn.Dropout and child.p > 0:
                found.append(OwnDropout(child.p))
                setattr(layer, name, found[-1])
    return found


def drop_channels(
    features: Sequence[paddle.Tensor], share: float, generators: Sequence[np.random.Generator]
) -> list[paddle.Tensor]:
    """Set each channel of each feature map (N, C, h, w) to zero with probability `share`, and scale up the others.

    This is the feature perturbation of UniMatch (Yang et al., CVPR 2023): y = x m / (1 - share), with one m in {0, 1}
    for each image and channel. `generators` has one generator per image, so a draw does not depend on the batch.
    """
    channels = [feature.shape[1] for feature in features]
    kept = [generator.random(sum(channels), dtype=np.float32) >= share for generator in generators]
    factors = (np.stack(kept) / (1 - share)).astype(np.float32)
    parts = np.split(factors[:, :, None, None], np.cumsum(channels)[:-1], axis=1)
    return [
        feature * paddle.to_tensor(part).astype(feature.dtype) for feature, part in zip(features, parts, strict=True)
    ]


@contextmanager
def frozen_statistics(network: nn.Layer) -> Iterator[None]:
    """Keep batch normalisation from updating its running statistics; it still normalises by batch statistics.

    Paddle's momentum is the fraction of the running value to keep, so 1 leaves it unchanged to the bit.
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


def upsample(tensor: paddle.Tensor, size: tuple[int, int] | list[int]) -> paddle.Tensor:
    """Resize (N, C, h, w) to `size` (H, W) by bilinear interpolation with pixel centres at half integers.

    Two matrix products give the same result as `interpolate`, whose CPU kernel is several times slower.
    """
    rows = interpolation_matrix(tensor.shape[2], size[0])
    columns = interpolation_matrix(tensor.shape[3], size[1])
    return paddle.matmul(paddle.matmul(rows, tensor), columns, transpose_y=True)


def interpolation_matrix(inputs: int, outputs: int) -> paddle.Tensor:
    """Return an (outputs, inputs) matrix whose rows hold the weights of each output's two neighbouring inputs."""
    # A tensor that is created while tracing belongs to that trace, so only eager ones are cached.
    return _cached_matrix(inputs, outputs) if paddle.in_dynamic_mode() else paddle.to_tensor(_weights(inputs, outputs))


@lru_cache(maxsize=64)
def _cached_matrix(inputs: int, outputs: int) -> paddle.Tensor:
    return paddle.to_tensor(_weights(inputs, outputs))


def _weights(inputs: int, outputs: int) -> NDArray[np.float32]:
    places = np.clip((np.arange(outputs) + 0.5) * inputs / outputs - 0.5, 0, inputs - 1)
    below = np.floor(places).astype(int)
    above = np.minimum(below + 1, inputs - 1)
    matrix = np.zeros((outputs, inputs), dtype=np.float32)
    np.add.at(matrix, (np.arange(outputs), below), 1 - (places - below))
    np.add.at(matrix, (np.arange(outputs), above), places - below)
    return matrix
