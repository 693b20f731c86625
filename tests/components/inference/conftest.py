"""A small network that has learned something: only then do its classes have margins worth comparing."""

import paddle
import pytest

from components.inference.paddle_engine import Weights
from components.networks.structures import build
from components.networks.weights import state_arrays
from tests.components.inference.colored_scenes import CLASSES, scenes


@pytest.fixture(scope="session")
def trained() -> Weights:
    """Two small networks after 40 steps each."""
    images, labels = scenes(32, 0)
    states = {}
    for seed, branch in enumerate(("left", "right")):
        network = build("small-fpn", CLASSES, seed)
        optimizer = paddle.optimizer.AdamW(5e-3, parameters=network.parameters())
        for step in range(40):
            chosen = slice(4 * step % 32, 4 * step % 32 + 4)
            logits = network(paddle.to_tensor(images[chosen]))
            loss = paddle.nn.functional.cross_entropy(logits, paddle.to_tensor(labels[chosen]), axis=1)
            loss.backward()
            optimizer.step()
            optimizer.clear_grad()
        states[branch] = state_arrays(network)
    return Weights(dict.fromkeys(states, "small-fpn"), CLASSES, states, "trained")
