"""Depthwise convolution by matrix products equals Paddle's own."""

import numpy as np
import paddle
import pytest
from paddle.nn import functional as F

from components.networks.depthwise import _WIDEST, DepthwiseConv2D

CHANNELS = 6


def outcome(layer: DepthwiseConv2D, images: np.ndarray, *, own: bool) -> list[np.ndarray]:
    """Return the output, and the gradients of images and kernel under a random gradient of the output."""
    tensor = paddle.to_tensor(images, stop_gradient=False)
    output = layer(tensor) if own else F.conv2d(tensor, layer.weight, None, layer.step, "SAME", 1, CHANNELS)
    factors = np.random.default_rng(1).normal(size=output.shape).astype(np.float32)
    (output * paddle.to_tensor(factors)).sum().backward()
    found = [output.numpy(), tensor.grad.numpy(), layer.weight.grad.numpy()]
    layer.weight.clear_grad()
    return found


@pytest.mark.parametrize("stride", [1, 2])
@pytest.mark.parametrize("kernel", [3, 5])
@pytest.mark.parametrize("size", [(12, 16), (13, 32), (7, 17), (3, 2), (1, 1)])
def test_output_and_gradients_equal_those_of_paddle(kernel: int, stride: int, size: tuple[int, int]) -> None:
    paddle.seed(0)
    layer = DepthwiseConv2D(CHANNELS, kernel, stride)
    images = np.random.default_rng(0).normal(size=(2, CHANNELS, *size)).astype(np.float32)
    for ours, paddles in zip(outcome(layer, images, own=True), outcome(layer, images, own=False), strict=True):
        np.testing.assert_allclose(ours, paddles, rtol=0, atol=1e-5 * max(1, np.abs(paddles).max()))


def test_wide_maps_and_other_types_use_paddles_kernel(monkeypatch: pytest.MonkeyPatch) -> None:
    layer = DepthwiseConv2D(CHANNELS, 3)

    def fail(*_: object) -> None:
        raise AssertionError("not expected here")

    monkeypatch.setattr("components.networks.depthwise._convolve", fail)
    assert layer(paddle.zeros([1, CHANNELS, 4, _WIDEST + 1])).shape == [1, CHANNELS, 4, _WIDEST + 1]
    double = DepthwiseConv2D(CHANNELS, 3).to(dtype="float64")
    assert double(paddle.zeros([1, CHANNELS, 4, 8], dtype="float64")).dtype == paddle.float64
    with pytest.raises(AssertionError, match="not expected"):
        layer(paddle.zeros([1, CHANNELS, 4, 8]))


def test_frozen_kernels_and_images_without_gradient() -> None:
    layer = DepthwiseConv2D(CHANNELS, 3)
    images = paddle.ones([1, CHANNELS, 4, 8])
    layer(images).sum().backward()
    assert layer.weight.grad is not None
    layer.weight.stop_gradient = True
    assert layer(images).stop_gradient
    images.stop_gradient = False
    layer(images).sum().backward()
    assert images.grad is not None
