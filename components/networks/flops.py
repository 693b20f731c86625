"""Count the arithmetic of a network."""

import math
from typing import Any

import paddle
from paddle import nn


def forward_flops(network: nn.Layer, size: tuple[int, int]) -> int:
    """Return the floating-point operations of one image, (3, *size), in convolutions and linear layers.

    A multiplication and an addition count as two. Everything else takes about 1 % of the operations.
    """
    total = 0

    def count(layer: Any, _inputs: Any, output: paddle.Tensor) -> None:
        nonlocal total
        # (outputs, inputs per group, height, width) of a convolution; (inputs, outputs) of a linear layer
        shape = layer.weight.shape
        total += 2 * math.prod(output.shape) * (shape[0] if isinstance(layer, nn.Linear) else math.prod(shape[1:]))

    hooks = [
        layer.register_forward_post_hook(count)
        for layer in network.sublayers(include_self=True)
        if isinstance(layer, (nn.Conv2D, nn.Linear))
    ]
    was_training = network.training
    network.eval()
    with paddle.no_grad():
        network(paddle.zeros([1, 3, *size]))
    if was_training:
        network.train()
    for hook in hooks:
        hook.remove()
    return total
