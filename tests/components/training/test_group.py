"""Processes that share a batch get the whole batch's gradient, by the arithmetic that `Group` does over gloo."""

import numpy as np
import paddle
from small_training import make_batch, make_pair, make_recipe

from components.training.losses import Criterion


def gradients(network, images, labels, total):
    """What one process computes for its share; `total` is the count that its loss is divided by."""
    criterion = Criterion(make_recipe().loss, 255, min_kept=1, total=total)
    criterion.supervised(network(paddle.to_tensor(images)), paddle.to_tensor(labels)).backward()
    found = [parameter.grad.numpy().copy() for parameter in network.parameters() if parameter.grad is not None]
    network.clear_gradients()
    return found


def test_mean_of_shares_is_the_gradient_of_the_whole():
    network = make_pair(make_recipe()).networks["left"]
    network.eval()  # batch statistics would differ between shares: only with them frozen can it be exact
    batch = make_batch(0, size=4)
    batch.labels[:1, :20] = 255  # shares with different numbers of valid pixels
    whole = gradients(network, batch.labeled, batch.labels, lambda count: count)
    assert len(whole) > 20
    counts = [(batch.labels[part] != 255).sum() for part in (slice(0, 2), slice(2, 4))]
    assert counts[0] != counts[1]
    mean_count = paddle.to_tensor(float(np.mean(counts)))
    shares = [
        gradients(network, batch.labeled[part], batch.labels[part], lambda _count: mean_count)
        for part in (slice(0, 2), slice(2, 4))
    ]
    for expected, first, second in zip(whole, *shares, strict=True):
        np.testing.assert_allclose((first + second) / 2, expected, atol=1e-6)
