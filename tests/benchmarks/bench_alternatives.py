"""Other ways to compute a training step on a CPU, each against the way that the product goes.

python -m tests.benchmarks.bench_alternatives [environment | operations] …

`environment`: steps on noise in processes of their own, which differ in the environment variables of Paddle, its MKL,
numpy's BLAS or the allocator, or in how the two networks share the cores. `operations`: single operations in one
process, forward and backward. Above 1.00x the product's way is the faster one. That both give the same is checked to
1e-3 of the largest value before anything is timed.
"""

import os
import statistics
import sys
import time
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import ProcessPoolExecutor
from contextlib import contextmanager
from multiprocessing import get_context
from typing import TYPE_CHECKING, Any
from unittest import mock

import numpy as np

from tests.benchmarks.random_batch import random_batch

if TYPE_CHECKING:
    import paddle

ROUNDS = int(os.environ.get("CPS_BENCH_ROUNDS", 5))
UNTRIMMED = {"MALLOC_MMAP_THRESHOLD_": "1073741824", "MALLOC_TRIM_THRESHOLD_": "2147483647"}
ENVIRONMENTS: dict[str, dict[str, tuple[bool, dict[str, str]]]] = {
    "camvid-mobilenetv2": {
        "MKL as it finds an AMD processor": (True, {"MKL_DEBUG_CPU_TYPE": ""}),
        "networks in one thread, operations in two": (False, {"OMP_NUM_THREADS": "2"}),
        "networks and operations in two each": (True, {"OMP_NUM_THREADS": "2"}),
        "oneDNN's convolutions (FLAGS_use_onednn)": (True, {"FLAGS_use_onednn": "1", "FLAGS_use_mkldnn": "1"}),
        "memory kept from the system (MALLOC_*)": (True, UNTRIMMED),
    },
    "photos": {"numpy's products in two threads": (True, {"OPENBLAS_NUM_THREADS": "2"})},
}
"""By recipe and by what is different: whether each network has a thread, and what the environment says."""

_state: dict[str, Any] = {}


def main() -> None:
    for part in sys.argv[1:] or ("environment", "operations"):
        {"environment": compare_environments, "operations": compare_operations}[part]()


def compare_environments() -> None:
    for recipe, alternatives in ENVIRONMENTS.items():
        with stepping(recipe, True, {}) as ours:
            for name, (threads, environment) in alternatives.items():
                with stepping(recipe, threads, environment) as theirs:
                    ratios = []
                    for number in range(-1, ROUNDS):
                        order = (ours, theirs) if number % 2 else (theirs, ours)
                        taken = {pool: pool.submit(step).result() for pool in order}
                        if number >= 0:
                            ratios.append(taken[theirs] / taken[ours])
                row(f"a step of {recipe}, {name}", ratios)


@contextmanager
def stepping(recipe: str, threads: bool, environment: Mapping[str, str]) -> Iterator[ProcessPoolExecutor]:
    """A process that has a pair of networks and one step behind it."""
    with ProcessPoolExecutor(1, mp_context=get_context("spawn")) as pool:
        with mock.patch.dict(os.environ, environment):
            pool.submit(prepare, recipe, threads).result()
        yield pool


def prepare(name: str, threads: bool) -> None:
    from components.networks import processor

    processor.prepare_training(networks=2)
    from components.recipes import load_recipe
    from components.training.losses import Criterion, min_kept_pixels
    from components.training.pair import Pair

    recipe = load_recipe(name, {"network.pretrained": ""})
    crop, images = recipe.augmentation.crop, recipe.training.batch_size
    pair = Pair(recipe, 11, 0, threads=threads)
    pair.start()
    criterion = Criterion(recipe.loss, 255, min_kept_pixels(recipe.loss, crop, images))
    batch = random_batch(np.random.default_rng(0), images, crop, 11)
    _state.update(pair=pair, criterion=criterion, batch=batch)
    step()


def step() -> float:
    """Seconds that a step takes."""
    from components.training import cps

    began = time.perf_counter()
    made = cps.step(_state["pair"], _state["batch"], _state["criterion"], weight=1.0, learning_rate=0.001, number=0)
    assert np.isfinite(made.total)
    return time.perf_counter() - began


def compare_operations() -> None:
    from components.networks import processor

    processor.prepare_training(networks=1)
    import paddle
    from paddle.nn import functional as F

    from components.networks.depthwise import convolve_depthwise
    from components.networks.layers import upsample

    paddle.seed(0)
    logits = paddle.randn([4, 11, 48, 64])
    features, weights = paddle.randn([4, 64, 48, 64]), paddle.randn([64, 64, 3, 3])
    single = paddle.randn([64, 1, 3, 3])
    small, own = paddle.randn([4, 480, 12, 16]), paddle.randn([480, 1, 5, 5])

    def channels_last(image: "paddle.Tensor", kernel: "paddle.Tensor") -> "paddle.Tensor":
        made = F.conv2d(image.transpose([0, 2, 3, 1]), kernel, padding=1, data_format="NHWC")
        return made.transpose([0, 3, 1, 2])

    def unfolded(image: "paddle.Tensor", kernel: "paddle.Tensor") -> "paddle.Tensor":
        columns = F.unfold(image, 3, paddings=1)
        made = paddle.matmul(kernel.reshape([kernel.shape[0], -1]), columns)
        return made.reshape([image.shape[0], -1, *image.shape[2:]])

    def shifted(image: "paddle.Tensor", kernel: "paddle.Tensor") -> "paddle.Tensor":
        padded, (height, width) = F.pad(image, [1, 1, 1, 1]), image.shape[2:]
        parts = [
            padded[:, :, row : row + height, column : column + width] * kernel[:, :, row, column].reshape([1, -1, 1, 1])
            for row in range(3)
            for column in range(3)
        ]
        return paddle.add_n(parts)

    rows: list[tuple[str, Callable[..., Any], Callable[..., Any], list[Any]]] = [
        (
            "logits enlarged four times: interpolate",
            lambda image: upsample(image, [192, 256]),
            lambda image: F.interpolate(image, [192, 256], mode="bilinear"),
            [logits],
        ),
        (
            "5 x 5 depthwise convolution of a small map: Paddle's kernel",
            convolve_depthwise,
            lambda image, kernel: F.conv2d(image, kernel, padding=2, groups=480),
            [small, own],
        ),
        (
            "3 x 3 convolution: channels last",
            lambda image, kernel: F.conv2d(image, kernel, padding=1),
            channels_last,
            [features, weights],
        ),
        (
            "3 x 3 convolution: unfold, one product",
            lambda image, kernel: F.conv2d(image, kernel, padding=1),
            unfolded,
            [features, weights],
        ),
        (
            "3 x 3 depthwise: nine shifted products",
            lambda image, kernel: F.conv2d(image, kernel, padding=1, groups=64),
            shifted,
            [features, single],
        ),
    ]
    for name, ours, theirs, tensors in rows:
        compare(name, ours, theirs, tensors)
    with_graph("pseudo labels with a graph for gradients", features, weights)


def compare(
    name: str, ours: Callable[..., "paddle.Tensor"], theirs: Callable[..., "paddle.Tensor"], tensors: list[Any]
) -> None:
    """Time forward and backward of both, which must give the same values and gradients."""
    made = [forward_and_backward(work, tensors) for work in (ours, theirs)]
    for one, other in zip(*made, strict=True):
        assert np.abs(one - other).max() < 1e-3 * np.abs(one).max(), name
    row(name, ratios_of(lambda: forward_and_backward(ours, tensors), lambda: forward_and_backward(theirs, tensors)))


def forward_and_backward(work: Callable[..., "paddle.Tensor"], tensors: list[Any]) -> list[Any]:
    """The result and the gradients of its squares' sum."""
    inputs = [tensor.detach() for tensor in tensors]
    for tensor in inputs:
        tensor.stop_gradient = False
    made = work(*inputs)
    (made * made).sum().backward()
    return [made.numpy(), *(tensor.grad.numpy() for tensor in inputs)]


def with_graph(name: str, features: "paddle.Tensor", weights: "paddle.Tensor") -> None:
    """Forward only: without the graph, nothing is kept for a backward pass that never comes."""
    import paddle
    from paddle.nn import functional as F

    weights.stop_gradient = False

    def forward() -> "paddle.Tensor":
        made = features
        for _ in range(4):
            made = F.relu(F.conv2d(made, weights, padding=1) / 24)
        return made

    def without() -> "paddle.Tensor":
        with paddle.no_grad():
            return forward()

    row(name, ratios_of(without, forward))


def ratios_of(ours: Callable[[], object], theirs: Callable[[], object]) -> list[float]:
    ratios = []
    for number in range(-1, 3 * ROUNDS):
        taken = {}
        for work in (ours, theirs) if number % 2 else (theirs, ours):
            began = time.perf_counter()
            for _ in range(5):
                work()
            taken[work] = time.perf_counter() - began
        if number >= 0:
            ratios.append(taken[theirs] / taken[ours])
    return ratios


def row(name: str, ratios: list[float]) -> None:
    print(
        f"{name:<76}{statistics.median(ratios):6.2f}x ({min(ratios):.2f} to {max(ratios):.2f}), {len(ratios)} rounds",
        flush=True,
    )


if __name__ == "__main__":
    main()
