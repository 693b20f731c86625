"""Operations of a network, against a count by hand."""

import paddle
from paddle import nn

from components.networks.flops import forward_flops
from components.networks.structures import build


def test_convolutions_and_linear_layers_are_counted() -> None:
    network = nn.Sequential(
        nn.Conv2D(3, 8, 3, stride=2, padding=1),  # 8 x 6 x 5 outputs of 27 products each
        nn.ReLU(),
        nn.Conv2D(8, 8, 3, padding=1, groups=8),  # of 9 products
        nn.AdaptiveAvgPool2D(1),
        nn.Flatten(),
        nn.Linear(8, 4),  # 4 outputs of 8
    )
    assert forward_flops(network, (12, 10)) == 2 * (8 * 6 * 5 * 27 + 8 * 6 * 5 * 9 + 4 * 8)


def test_operations_grow_with_the_image_and_leave_no_trace() -> None:
    network = build("small-fpn", 4, seed=0)
    network.train()
    before = {name: value.numpy() for name, value in network.state_dict().items()}
    small, large = forward_flops(network, (32, 32)), forward_flops(network, (64, 64))
    assert large == 4 * small
    assert network.training
    for name, value in network.state_dict().items():
        assert paddle.equal_all(value, paddle.to_tensor(before[name])), name
