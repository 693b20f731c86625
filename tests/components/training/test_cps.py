"""One CPS step against independent numpy versions of its parts."""

from functools import partial

import numpy as np
import paddle
import pytest

from components.training.cps import branch_losses, frozen_statistics, pseudo_labels
from tests.components.training.small_training import make_batch, make_pair, make_recipe


def forward_of(network, batch, part):
    return network(paddle.to_tensor(getattr(batch, part)))


@pytest.fixture
def network():
    return make_pair(make_recipe()).networks["left"]


def test_pseudo_labels_are_argmax_then_mixed(network):
    batch = make_batch(0)
    forward = partial(forward_of, network, batch)
    found = pseudo_labels(forward, network, batch.on_device(), confidence=0, ignore_index=255).numpy()
    with paddle.no_grad(), frozen_statistics(network):
        first, second = forward("first").numpy(), forward("second").numpy()
    assert batch.mask is not None
    mixed_logits = np.where(batch.mask[:, None], second, first)
    np.testing.assert_array_equal(found, mixed_logits.argmax(axis=1))


def test_padding_and_doubt_are_void(network):
    batch = make_batch(1)
    assert batch.void is not None
    batch.void[:, :, :5] = True
    forward = partial(forward_of, network, batch)
    all_labels = pseudo_labels(forward, network, batch.on_device(), confidence=0, ignore_index=255).numpy()
    sure_labels = pseudo_labels(forward, network, batch.on_device(), confidence=0.4, ignore_index=255).numpy()
    assert (all_labels[:, :, :5] == 255).all()
    assert (all_labels[:, :, 5:] != 255).all()
    assert 0 < (sure_labels[:, :, 5:] == 255).mean() < 1
    kept = sure_labels != 255
    np.testing.assert_array_equal(sure_labels[kept], all_labels[kept])


def test_pseudo_labels_leave_running_statistics_untouched(network):
    before = {name: tensor.numpy() for name, tensor in network.state_dict().items()}
    batch = make_batch(2)
    pseudo_labels(partial(forward_of, network, batch), network, batch.on_device(), confidence=0, ignore_index=255)
    for name, tensor in network.state_dict().items():
        np.testing.assert_array_equal(tensor.numpy(), before[name])
    network(paddle.to_tensor(batch.labeled))
    assert (network.state_dict()["stages.0.0.1._mean"].numpy() != before["stages.0.0.1._mean"]).any()


def test_total_is_supervised_plus_weighted_cross(network, criterion):
    batch = make_batch(3)
    others = paddle.to_tensor(np.random.default_rng(0).integers(0, 4, batch.labels.shape))
    forward = partial(forward_of, network, batch)
    losses = branch_losses(forward, criterion, paddle.to_tensor(batch.labels), others, 1.5)
    assert losses.cross is not None
    assert float(losses.total) == pytest.approx(float(losses.supervised) + 1.5 * float(losses.cross), rel=1e-6)
    alone = branch_losses(forward, criterion, paddle.to_tensor(batch.labels), None, 1.5)
    assert alone.cross is None
    assert alone.total is alone.supervised
