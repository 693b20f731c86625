"""One CPS step against independent numpy versions of its parts."""

from dataclasses import replace
from functools import partial

import numpy as np
import paddle
import pytest

from components.networks.layers import frozen_statistics
from components.training.batches.paste import NOT_PASTED
from components.training.cps import (
    PseudoLabels,
    branch_losses,
    known_labels,
    pixel_confidence,
    pseudo_labels,
    with_labeled_boxes,
)
from tests.components.training.small_training import make_batch, make_pair, make_recipe


def forward_of(network, batch, part):
    return network(paddle.to_tensor(getattr(batch, part)))


@pytest.fixture
def network():
    return make_pair(make_recipe()).networks["left"]


def test_pseudo_labels_are_argmax_then_mixed(network):
    batch = make_batch(0)
    forward = partial(forward_of, network, batch)
    found = pseudo_labels(forward, network, batch.on_device(), confidence=0, ignore_index=255).labels.numpy()
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
    all_labels = pseudo_labels(forward, network, batch.on_device(), confidence=0, ignore_index=255).labels.numpy()
    sure_labels = pseudo_labels(forward, network, batch.on_device(), confidence=0.4, ignore_index=255).labels.numpy()
    assert (all_labels[:, :, :5] == 255).all()
    assert (all_labels[:, :, 5:] != 255).all()
    assert 0 < (sure_labels[:, :, 5:] == 255).mean() < 1
    kept = sure_labels != 255
    np.testing.assert_array_equal(sure_labels[kept], all_labels[kept])


def confidence_by_numpy(logits):
    """(1 - H / log C) max p of each pixel, from (N, C, H, W)."""
    exponents = np.exp(logits.astype(np.float64) - logits.max(axis=1, keepdims=True))
    probabilities = exponents / exponents.sum(axis=1, keepdims=True)
    entropy = -(probabilities * np.log(probabilities)).sum(axis=1)
    return (1 - entropy / np.log(logits.shape[1])) * probabilities.max(axis=1)


@pytest.mark.parametrize("views", [1, 2])
def test_the_confidence_of_an_image_is_the_mean_over_its_pixels_without_padding(network, views):
    batch = make_batch(1, views=views)
    assert batch.mask is not None
    assert batch.void is not None
    batch.void[0, :9] = True
    forward = partial(forward_of, network, batch)
    found = pseudo_labels(
        forward, network, batch.on_device(), confidence=0, ignore_index=255, measure=True
    ).confidence  # fmt: skip
    with paddle.no_grad(), frozen_statistics(network):
        first, second = (
            np.repeat(confidence_by_numpy(forward(part).numpy()), views, axis=0) for part in ("first", "second")
        )
    pixels = np.where(batch.mask, second, first)
    expected = [image[~void].mean() for image, void in zip(pixels, batch.void, strict=True)]
    assert found is not None
    np.testing.assert_allclose(found.numpy(), expected, rtol=1e-4)
    assert 0 < min(expected) < max(expected) < 1


def test_certain_pixels_are_confident_and_undecided_ones_are_not():
    logits = np.zeros((1, 3, 1, 2), np.float32)
    logits[0, 0, 0, 0] = 50
    np.testing.assert_allclose(pixel_confidence(paddle.to_tensor(logits)).numpy(), [[[1, 0]]], atol=1e-6)


@pytest.mark.parametrize("views", [1, 2])
def test_boxes_of_labelled_images_go_onto_mixed_images_of_low_confidence(views):
    rng, plain = np.random.default_rng(0), make_batch(0, size=4, views=views)
    boxes, draws = rng.random((4 * views, 32, 48)) < 0.3, rng.random(4 * views).astype(np.float32)
    under = np.where(rng.random(boxes.shape) < 0.2, 2, NOT_PASTED).astype(np.int16)
    assert plain.mixed is not None
    batch = replace(plain, boxes=boxes, draws=draws, pasted=under)
    labels = paddle.to_tensor(rng.integers(0, 4, boxes.shape))
    sure = [rng.random(4 * views).astype(np.float32) for _ in range(2)]
    taught = {
        name: PseudoLabels(labels, paddle.to_tensor(one)) for name, one in zip(("left", "right"), sure, strict=True)
    }
    found = with_labeled_boxes(batch.on_device(), taught)
    targets = known_labels(taught, found)
    chosen = draws > (sure[0] + sure[1]) / 2
    assert 0 < chosen.sum() < len(chosen)
    for place, is_chosen in enumerate(chosen):
        box, image = boxes[place] & is_chosen, place // views
        expected = np.where(box, plain.labeled[image], plain.mixed[place])
        assert found.mixed is not None
        np.testing.assert_array_equal(found.mixed[place].numpy(), expected)
        below = np.where(under[place] == NOT_PASTED, labels[place].numpy(), under[place])
        np.testing.assert_array_equal(targets["left"][place].numpy(), np.where(box, plain.labels[image], below))


def test_without_unlabelled_images_there_is_nothing_to_paste_onto():
    batch = make_batch(0).on_device()
    assert with_labeled_boxes(batch, {}) is batch


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
