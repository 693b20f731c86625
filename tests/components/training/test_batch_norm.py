"""Batch normalisation over several processes is that of one process with the whole batch."""

import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import paddle
import pytest
from paddle import nn

from components.errors import UserError
from components.networks.layers import frozen_statistics
from components.training import batch_norm
from tests.components.training.small_training import make_recipe

CHANNELS = 5
LAYERS: dict[str, Callable[[], nn.Layer]] = {
    "BatchNorm2D": lambda: nn.BatchNorm2D(CHANNELS, momentum=0.8, epsilon=1e-3),
    "without weight and bias": lambda: nn.BatchNorm2D(CHANNELS, weight_attr=False, bias_attr=False),
    "frozen": lambda: nn.BatchNorm2D(
        CHANNELS, weight_attr=paddle.ParamAttr(trainable=False), bias_attr=paddle.ParamAttr(trainable=False)
    ),
    "the older BatchNorm": lambda: nn.BatchNorm(CHANNELS, act="relu"),
    "channels last": lambda: nn.BatchNorm2D(CHANNELS, data_format="NHWC"),
}


class Threads:
    """Processes that all-reduce, as threads of this one."""

    def __init__(self, count: int) -> None:
        self.count, self.calls = count, 0
        self._barrier, self._tensors = threading.Barrier(count, timeout=60), dict[int, paddle.Tensor]()

    def all_reduce(self, tensor: paddle.Tensor) -> None:
        self._tensors[threading.get_ident()] = tensor
        self._barrier.wait()
        total = sum(item.numpy() for item in self._tensors.values())
        self._barrier.wait()
        self.calls += 1
        tensor.set_value(total)

    def run(self, work: Callable[[int], dict[str, np.ndarray]]) -> list[dict[str, np.ndarray]]:
        with ThreadPoolExecutor(self.count) as pool:
            return list(pool.map(work, range(self.count)))


@pytest.fixture
def two(monkeypatch) -> Threads:
    threads = Threads(2)
    monkeypatch.setattr(paddle.distributed, "all_reduce", threads.all_reduce)
    return threads


def passed(layer: nn.Layer, images: np.ndarray, gradient: np.ndarray) -> dict[str, np.ndarray]:
    tensor = paddle.to_tensor(images, stop_gradient=False)
    output = layer(tensor)
    (output * paddle.to_tensor(gradient)).sum().backward()
    gradients = {name: item.grad.numpy() for name, item in layer.named_parameters() if item.grad is not None}
    statistics = {"mean": layer._mean.numpy(), "variance": layer._variance.numpy()}
    return {"output": output.numpy(), "input": tensor.grad.numpy(), **statistics, **gradients}


@pytest.mark.parametrize("first", [1, 2])
@pytest.mark.parametrize("name", LAYERS)
def test_two_processes_normalise_as_one(name, first, two):
    random = np.random.default_rng(0)
    shape = (4, 6, 7, CHANNELS) if name == "channels last" else (4, CHANNELS, 6, 7)
    images, gradient = (random.normal(mean, 1, shape).astype(np.float32) for mean in (3, 0))
    images[:first] += 1  # the processes' own statistics differ
    whole = passed(LAYERS[name](), images, gradient)
    parts = (slice(0, first), slice(first, 4))
    layers = [LAYERS[name]() for _ in parts]
    for layer in layers:
        batch_norm.synchronise(layer)
    found = two.run(lambda rank: passed(layers[rank], images[parts[rank]], gradient[parts[rank]]))
    assert two.calls == 4, "one exchange forward and one backward, in each of two"
    for key in ("mean", "variance"):
        np.testing.assert_array_equal(found[0][key], found[1][key])
        np.testing.assert_allclose(found[0][key], whole[key], rtol=1e-5)
    for key in ("output", "input"):
        np.testing.assert_allclose(np.concatenate([part[key] for part in found]), whole[key], rtol=1e-4, atol=1e-5)
    assert whole.keys() == found[0].keys()
    for key in whole.keys() - {"mean", "variance", "output", "input"}:
        # Summed here, because the loss is. A training averages both.
        np.testing.assert_allclose(found[0][key] + found[1][key], whole[key], rtol=1e-4, atol=1e-4, err_msg=key)


def test_a_small_variance_next_to_a_large_mean_keeps_its_digits(two):
    random = np.random.default_rng(0)
    images = random.normal(100, 0.01, (4, CHANNELS, 8, 8)).astype(np.float32)
    layers = [nn.BatchNorm2D(CHANNELS, momentum=0.0) for _ in range(2)]
    for layer in layers:
        batch_norm.synchronise(layer)
    halves = images[:2], images[2:]
    found = two.run(lambda rank: passed(layers[rank], halves[rank], halves[rank]))
    np.testing.assert_allclose(found[0]["variance"], images.var((0, 2, 3), dtype=np.float64), rtol=1e-3)


def test_one_image_in_each_process_is_normalised_over_both(two):
    """As DeepLab's image pooling needs: one value per channel and process."""
    images = np.array([[[[1.0]]], [[[3.0]]]], np.float32)
    layers = [nn.BatchNorm2D(1) for _ in range(2)]
    for layer in layers:
        batch_norm.synchronise(layer)
    found = two.run(lambda rank: passed(layers[rank], images[rank : rank + 1], np.ones((1, 1, 1, 1), np.float32)))
    np.testing.assert_allclose([part["output"].item() for part in found], [-1, 1], rtol=1e-4)
    np.testing.assert_allclose(found[0]["mean"], [0.2], rtol=1e-6)


def test_evaluation_exchanges_nothing_and_pseudo_label_passes_leave_no_trace(two):
    layers = [nn.Sequential(nn.BatchNorm2D(CHANNELS)) for _ in range(2)]
    images = paddle.randn([2, CHANNELS, 4, 4]) + 3
    for layer in layers:
        batch_norm.synchronise(layer)

    def label(rank: int) -> dict[str, np.ndarray]:
        with paddle.no_grad(), frozen_statistics(layers[rank]):
            output = layers[rank](images)
        return {"output": output.numpy(), "mean": layers[rank][0]._mean.numpy()}

    found = two.run(label)
    np.testing.assert_allclose(found[0]["output"].mean((0, 2, 3)), 0, atol=1e-5)
    np.testing.assert_array_equal(found[0]["mean"], np.zeros(CHANNELS, np.float32))
    assert two.calls == 2
    layers[0].eval()
    np.testing.assert_allclose(layers[0](images).numpy(), images.numpy(), rtol=1e-4)
    assert two.calls == 2


def test_layers_that_always_use_running_statistics_are_left_alone(two):
    layer = nn.BatchNorm2D(CHANNELS, use_global_stats=True)
    batch_norm.synchronise(layer)
    layer(paddle.randn([2, CHANNELS, 4, 4]))
    assert two.calls == 0


def test_on_a_gpu_paddles_own_layers_are_used(monkeypatch):
    """Their kernel cannot run here; parameters, their names and the frozen statistics can be checked."""
    monkeypatch.setattr(paddle.device, "get_device", lambda: "gpu:0")
    network = nn.Sequential(nn.Conv2D(3, 4, 1), nn.BatchNorm2D(4, momentum=0.7, epsilon=1e-4), nn.BatchNorm(4))
    before = dict(network.state_dict())
    batch_norm.synchronise(network)
    assert type(network[1]) is nn.SyncBatchNorm
    assert (network[1]._momentum, network[1]._epsilon) == (0.7, 1e-4)
    after = network.state_dict()
    assert {name: id(item) for name, item in after.items()} == {name: id(item) for name, item in before.items()}
    with frozen_statistics(network):
        assert network[1]._momentum == network[2]._momentum == 1.0
    assert "forward" in vars(network[2]), "which has no kernel of Paddle's"


@pytest.mark.parametrize(
    ("settings", "fix"),
    [
        ({"training__batch_size": 1}, "set training.batch_size=2"),
        ({"training__batch_size": 4, "training__accumulate": 4}, "set training.accumulate=2 or training.batch_size=8"),
        ({"training__batch_size": 3, "training__accumulate": 3}, "set training.accumulate=1 or training.batch_size=6"),
    ],
)
def test_normalising_a_single_value_is_refused_with_a_fix(settings, fix):
    pooled = nn.Sequential(nn.Conv2D(3, 4, 1), nn.BatchNorm2D(4), nn.AdaptiveAvgPool2D(1), nn.BatchNorm2D(4))
    batch_norm.refuse_single_values(pooled, make_recipe(**settings).training)
    with pytest.raises(UserError, match=rf"each channel of \[1, 4, 1, 1\] over a single value.*: {fix}$"):
        pooled(paddle.randn([1, 3, 8, 8]))
    pooled.eval()
    pooled(paddle.randn([1, 3, 8, 8]))


def test_two_images_are_enough_and_only_the_first_pass_is_checked():
    pooled = nn.Sequential(nn.AdaptiveAvgPool2D(1), nn.BatchNorm2D(3))
    batch_norm.refuse_single_values(pooled, make_recipe().training)
    pooled(paddle.randn([2, 3, 8, 8]))
    assert not pooled[1]._forward_pre_hooks


def test_a_teacher_in_evaluation_mode_does_not_use_up_the_check():
    pooled = nn.Sequential(nn.AdaptiveAvgPool2D(1), nn.BatchNorm2D(3))
    batch_norm.refuse_single_values(pooled, make_recipe().training)
    pooled.eval()
    pooled(paddle.randn([1, 3, 8, 8]))
    pooled.train()
    with pytest.raises(UserError, match="over a single value"):
        pooled(paddle.randn([1, 3, 8, 8]))


def test_a_process_alone_checks_and_one_of_several_synchronises(two):
    alone, shared = nn.BatchNorm2D(3), nn.BatchNorm2D(3)
    batch_norm.set_batch_norm([alone], make_recipe().training, alone=True)
    batch_norm.set_batch_norm([shared], make_recipe().training, alone=False)
    with pytest.raises(UserError, match="over a single value"):
        alone(paddle.ones([1, 3, 1, 1]))
    assert two.calls == 0
    two.run(lambda _: {"output": shared(paddle.ones([1, 3, 1, 1])).numpy()})
    assert two.calls == 2
