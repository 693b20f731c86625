"""Dropout with its own random generator."""

import numpy as np
import paddle
from paddle import nn

from components.networks.layers import OwnDropout, own_dropouts


def test_what_is_kept_is_scaled_and_the_generator_decides_alone():
    layer = OwnDropout(0.25)
    ones = paddle.ones([4, 50, 50])
    drawn: list[np.ndarray] = []
    for seed in (1, 2, 1):
        paddle.seed(len(drawn))
        layer.generator = np.random.default_rng(seed)
        drawn.append(layer(ones).numpy())
    assert set(np.unique(drawn[0])) == {0, np.float32(1 / 0.75)}
    assert abs((drawn[0] == 0).mean() - 0.25) < 0.02
    assert (drawn[0] == drawn[2]).all()
    assert (drawn[0] != drawn[1]).any()


def test_gradients_pass_where_values_do():
    layer, values = OwnDropout(0.5), paddle.ones([100])
    values.stop_gradient = False
    made = layer(values)
    made.sum().backward()
    np.testing.assert_array_equal(values.grad.numpy(), made.numpy())


def test_evaluation_drops_nothing():
    layer = OwnDropout(0.5)
    layer.eval()
    assert (layer(paddle.ones([100])) == 1).all()


def test_paddles_layers_are_replaced_wherever_they_are_and_those_that_drop_nothing_stay():
    inner = nn.Sequential(nn.Linear(2, 2), nn.Dropout(0.1))
    network = nn.Sequential(inner, nn.Dropout(0.0), nn.Dropout(0.3))
    replaced = own_dropouts(network)
    assert sorted(layer.p for layer in replaced) == [0.1, 0.3]
    assert isinstance(inner[1], OwnDropout)
    assert isinstance(network[2], OwnDropout)
    assert type(network[1]) is nn.Dropout
