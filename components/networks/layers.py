"""The few layers that our own structures share."""

from functools import lru_cache

import numpy as np
import paddle
from numpy.typing import NDArray
from paddle import nn

BATCH_NORMALISATION = (nn.layer.norm._BatchNormBase, nn.BatchNorm)  # noqa: SLF001 - it has no public base
"""Paddle's two kinds; the second is older, and paddleseg's MobileNetV3 and others are built of it."""


class ConvBNReLU(nn.Sequential):
    """Convolution, batch normalisation, ReLU; padded so that stride 1 keeps the size."""

    def __init__(self, inputs: int, outputs: int, kernel: int = 3, stride: int = 1) -> None:
        super().__init__(
            nn.Conv2D(inputs, outputs, kernel, stride, padding=kernel // 2, bias_attr=False),
            nn.BatchNorm2D(outputs),
            nn.ReLU(),
        )


class FPNDecoder(nn.Layer):
    """Feature maps from fine to coarse, summed from the coarsest down, to class logits at the finest size."""

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
    """Dropout that draws from a generator of its own.

    Paddle's draws from one generator of the whole process, so that networks in threads of their own would take each
    other's numbers, now in one order and now in another.
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
    """The network's dropout layers, each replaced by one that draws by itself."""
    found = []
    for layer in network.sublayers(include_self=True):
        for name, child in list(layer.named_children()):
            if type(child) is nn.Dropout and child.p > 0:
                found.append(OwnDropout(child.p))
                setattr(layer, name, found[-1])
    return found


def upsample(tensor: paddle.Tensor, size: tuple[int, int] | list[int]) -> paddle.Tensor:
    """Bilinear interpolation of (N, C, h, w) to `size` (H, W), pixel centres at half integers.

    As two matrix products: the same numbers as `interpolate`, whose kernel takes several times as long on a CPU.
    """
    rows = interpolation_matrix(tensor.shape[2], size[0])
    columns = interpolation_matrix(tensor.shape[3], size[1])
    return paddle.matmul(paddle.matmul(rows, tensor), columns, transpose_y=True)


def interpolation_matrix(inputs: int, outputs: int) -> paddle.Tensor:
    """(outputs, inputs): each row weighs the two neighbours of an output's place among the inputs."""
    # A tensor that is made while a network is traced belongs to that trace, so only eager ones are kept.
    return _kept(inputs, outputs) if paddle.in_dynamic_mode() else paddle.to_tensor(_weights(inputs, outputs))


@lru_cache(maxsize=64)
def _kept(inputs: int, outputs: int) -> paddle.Tensor:
    return paddle.to_tensor(_weights(inputs, outputs))


def _weights(inputs: int, outputs: int) -> NDArray[np.float32]:
    places = np.clip((np.arange(outputs) + 0.5) * inputs / outputs - 0.5, 0, inputs - 1)
    below = np.floor(places).astype(int)
    above = np.minimum(below + 1, inputs - 1)
    matrix = np.zeros((outputs, inputs), dtype=np.float32)
    np.add.at(matrix, (np.arange(outputs), below), 1 - (places - below))
    np.add.at(matrix, (np.arange(outputs), above), places - below)
    return matrix
