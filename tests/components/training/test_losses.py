"""Losses against independent numpy versions."""

import numpy as np
import paddle
import pytest
from numpy.typing import NDArray

from components.recipes.model import SupervisedLoss
from components.training.losses import (
    Criterion,
    hard_pixels,
    min_kept_pixels,
    pixel_losses,
    root_median_frequency,
)

VOID = 255


@pytest.fixture(params=["cpu", "gpu"])
def _device(request) -> None:
    """OHEM selects with numpy on a CPU, and stays on a GPU."""
    if request.param == "gpu":
        request.getfixturevalue("gpu_paths")


@pytest.fixture
def batch() -> tuple[NDArray[np.float32], NDArray[np.int64]]:
    rng = np.random.default_rng(0)
    labels = rng.integers(0, 5, (2, 6, 7))
    labels[rng.random(labels.shape) < 0.2] = VOID
    return rng.normal(0, 2, (2, 5, 6, 7)).astype(np.float32), labels


def numpy_losses(logits: NDArray[np.float32], labels: NDArray[np.int64]) -> NDArray[np.float64]:
    shifted = logits.astype(np.float64) - logits.max(axis=1, keepdims=True)
    logs = shifted - np.log(np.exp(shifted).sum(axis=1, keepdims=True))
    known = np.where(labels == VOID, 0, labels)
    return np.where(labels == VOID, 0.0, -np.take_along_axis(logs, known[:, None], axis=1)[:, 0])


def numpy_ohem(losses: NDArray[np.float64], valid: NDArray[np.bool_], threshold: float, kept: int) -> NDArray[np.bool_]:
    if valid.sum() <= kept:
        return valid
    probabilities = np.exp(-losses)
    limit = max(threshold, np.sort(probabilities[valid])[kept - 1])
    return valid & (probabilities <= limit)


def test_pixel_losses_equal_numpy(batch):
    logits, labels = batch
    losses = pixel_losses(paddle.to_tensor(logits), paddle.to_tensor(labels), VOID)
    np.testing.assert_allclose(losses.numpy(), numpy_losses(logits, labels), atol=1e-5)


@pytest.mark.parametrize(("threshold", "kept"), [(0.7, 1), (0.05, 20), (0.3, 40), (0.7, 10_000)])
@pytest.mark.usefixtures("_device")
def test_ohem_keeps_what_numpy_keeps(batch, threshold, kept):
    logits, labels = batch
    expected = numpy_ohem(numpy_losses(logits, labels), labels != VOID, threshold, kept)
    losses = pixel_losses(paddle.to_tensor(logits), paddle.to_tensor(labels), VOID)
    found = hard_pixels(losses, paddle.to_tensor(labels) != VOID, threshold, kept)
    np.testing.assert_array_equal(found.numpy(), expected)


@pytest.mark.usefixtures("_device")
def test_ohem_keeps_all_ties_at_the_raised_threshold():
    losses = paddle.to_tensor(-np.log(np.array([[[0.9, 0.8, 0.8, 0.8, 0.1]]], dtype=np.float32)))
    kept = hard_pixels(losses, paddle.ones_like(losses).astype("bool"), 0.5, 2)
    assert kept.numpy().tolist() == [[[False, True, True, True, True]]]


@pytest.mark.usefixtures("_device")
def test_ohem_keeps_a_pixel_at_the_threshold():
    losses = paddle.to_tensor([[[0.2, 0.6, 0.9, 1.4]]])
    threshold = float(paddle.exp(-losses)[0, 0, 1])
    kept = hard_pixels(losses, paddle.ones_like(losses).astype("bool"), threshold, 1)
    assert kept.numpy().tolist() == [[[False, True, True, True]]]


@pytest.mark.parametrize("kind", ["cross_entropy", "ohem"])
def test_gradients_equal_numpy(batch, kind):
    """Of a softmax cross entropy: (probabilities - one-hot) / count at each pixel that counts."""
    values, labels = batch
    criterion = Criterion(SupervisedLoss(kind=kind, ohem_threshold=0.3), VOID, min_kept=5)
    logits = paddle.to_tensor(values, stop_gradient=False)
    criterion.supervised(logits, paddle.to_tensor(labels)).backward()
    kept = labels != VOID
    if kind == "ohem":
        kept = numpy_ohem(numpy_losses(values, labels), kept, 0.3, 5)
        assert 0 < kept.sum() < (labels != VOID).sum()
    exponents = np.exp(values.astype(np.float64))
    expected = exponents / exponents.sum(axis=1, keepdims=True)
    expected -= np.where(labels == VOID, 0, labels)[:, None] == np.arange(5)[None, :, None, None]
    expected *= kept[:, None] / kept.sum()
    np.testing.assert_allclose(logits.grad.numpy(), expected, atol=1e-6)


def test_mean_is_over_kept_pixels(batch):
    logits, labels = batch
    settings = SupervisedLoss(kind="ohem", ohem_threshold=0.3)
    criterion = Criterion(settings, VOID, min_kept=5)
    losses = numpy_losses(logits, labels)
    kept = numpy_ohem(losses, labels != VOID, 0.3, 5)
    found = float(criterion.supervised(paddle.to_tensor(logits), paddle.to_tensor(labels)))
    assert found == pytest.approx(losses[kept].mean(), abs=1e-5)


def test_class_weights_weigh_pixels_and_their_count(batch):
    logits, labels = batch
    weights = np.array([1.0, 2.0, 0.5, 3.0, 1.5], dtype=np.float32)
    criterion = Criterion(SupervisedLoss(), VOID, min_kept=1, class_weights=paddle.to_tensor(weights))
    losses = numpy_losses(logits, labels)
    weight = np.where(labels == VOID, 0.0, weights[np.where(labels == VOID, 0, labels)])
    found = float(criterion.supervised(paddle.to_tensor(logits), paddle.to_tensor(labels)))
    assert found == pytest.approx((losses * weight).sum() / weight.sum(), abs=1e-5)


def test_a_batch_without_a_valid_pixel_costs_nothing(batch):
    logits, labels = batch
    criterion = Criterion(SupervisedLoss(), VOID, min_kept=1)
    loss = criterion.cross(paddle.to_tensor(logits), paddle.full(labels.shape, VOID, dtype="int64"))
    assert float(loss) == 0.0


def test_min_kept_keeps_its_share_of_a_smaller_crop():
    settings = SupervisedLoss(ohem_min_kept=50_000)
    assert min_kept_pixels(settings, (800, 800), 2) == 100_000
    assert min_kept_pixels(settings, (400, 400), 2) == 25_000
    assert min_kept_pixels(settings, (1, 1), 1) == 1


def test_root_median_frequency():
    weights = root_median_frequency(np.array([100, 400, 0, 25]))
    np.testing.assert_allclose(weights, [1.0, 0.5, 1.0, 2.0])
