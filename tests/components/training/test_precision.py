"""What can be known of mixed precision without a GPU: when it is on, and that scaling changes no digits."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager, nullcontext

import numpy as np
import paddle
import pytest

from components.networks.structures import build
from components.recipes.model import STRUCTURES
from components.training import pair as pair_module
from components.training import precision
from components.training.precision import FIRST_SCALE, LossScale
from tests.components.training.small_training import CLASSES, make_batch, make_pair, make_recipe, run
from tests.components.training.test_pair import assert_equal_states, restore, states
from tests.project_files import REPOSITORY


@pytest.fixture
def casts(monkeypatch) -> list[str]:
    """The precisions that forward passes are asked for; they compute in float32 all the same."""
    asked: list[str] = []
    monkeypatch.setattr(pair_module, "autocast", lambda name: (asked.append(name), nullcontext())[1])
    return asked


@pytest.mark.parametrize("optimizer", ["sgd", "adamw"])
def test_scaled_losses_train_to_the_bit_as_plain_ones(criterion, casts, optimizer):
    settings = {"optimization__optimizer": optimizer, "optimization__clip_norm": 1.0}
    plain = make_pair(make_recipe(**settings))
    scaled = make_pair(make_recipe(training__precision="float16", **settings), threads=True)
    assert run(plain, criterion, 0, 3) == run(scaled, criterion, 0, 3)
    found = states(scaled)
    scales = {name: found.pop(name) for name in list(found) if ".scale." in name}
    assert_equal_states(states(plain), found)
    assert {name: array.tolist() for name, array in scales.items()} == {
        f"{side}.scale.{name}": [value]
        for side in ("left", "right")
        for name, value in (("value", FIRST_SCALE), ("good_steps", 3))
    }
    assert casts == ["float16"] * (3 * 2 * 4), "three steps, two networks, four parts of the batch"


def test_bfloat16_needs_no_scale(criterion, casts):
    pair = make_pair(make_recipe(training__precision="bfloat16"))
    run(pair, criterion, 0, 1)
    assert not [name for name in states(pair) if ".scale." in name]
    assert set(casts) == {"bfloat16"}


def test_an_overflow_leaves_the_step_out_and_halves_the_scale(criterion, casts):  # noqa: ARG001
    pair = make_pair(make_recipe(training__precision="float16", cps__weight=0.0))
    run(pair, criterion, 0, 1)
    branch, before = pair.branches["left"], states(pair)
    (branch.network.parameters()[0].sum() * float("inf")).backward()
    branch.step(0.01, 1)
    assert branch.scale is not None
    assert branch.scale.value == FIRST_SCALE / 2
    assert branch.scale.good_steps == 0
    after = states(pair)
    for name in before:
        if ".scale." not in name:
            np.testing.assert_array_equal(after[name], before[name], err_msg=name)
    assert all(parameter.grad is None or not parameter.grad.numpy().any() for parameter in branch.trained.values())


def test_the_scale_goes_on_where_it_was(criterion, casts):  # noqa: ARG001
    recipe = make_recipe(training__precision="float16")
    pair = make_pair(recipe)
    run(pair, criterion, 0, 2)
    scale = pair.branches["left"].scale
    assert scale is not None
    scale.value = 8.0
    rebuilt = make_pair(recipe, seed=99)
    restore(rebuilt, states(pair))
    assert_equal_states(states(rebuilt), states(pair))


def test_the_scale_grows_after_a_while_and_never_below_one(monkeypatch):
    monkeypatch.setattr(precision, "GROWS_AFTER", 3)
    scale, good = LossScale(), paddle.ones([2])
    assert [scale.unscale([good.clone()]) for _ in range(3)] == [True] * 3
    assert (scale.value, scale.good_steps) == (FIRST_SCALE * 2, 0)
    for _ in range(40):
        assert not scale.unscale([good.clone(), paddle.to_tensor([np.inf, np.nan])])
    assert scale.value == 1.0
    gradient = paddle.to_tensor([6.0, -4.0])
    scale.value = 4.0
    scale.unscale([gradient])
    assert gradient.tolist() == [1.5, -1.0]


@pytest.mark.skipif(paddle.device.get_device() != "cpu", reason="there is a GPU")
def test_casts_are_paddles_own_and_have_no_effect_here():
    """The reason for `check_precision`."""
    ones = paddle.ones([2, 2])
    with pytest.warns(UserWarning, match="makes no effect"), precision.autocast("bfloat16"):
        assert paddle.matmul(ones, ones).dtype == paddle.float32


SIXTEEN_BITS = {"conv2d", "matmul_v2"}
FLOAT32 = {"bilinear_interp_v2"}
FLOAT32_WEIGHTS = {"depthwise_conv2d"}
"""Their weights are float32, and Paddle computes in the widest type of the inputs if an operation is in no list."""
AS_THEIR_INPUTS = {
    *("batch_norm", "relu", "relu6", "pool2d", "concat", "dropout", "elementwise_add"),
    *("reshape", "slice", "shape64", "cast"),
}
LOSSES = {"softmax_with_cross_entropy", "cross_entropy_with_softmax"}


@pytest.fixture
def operations() -> Iterator[Callable[[], set[str]]]:
    """A function that returns the names of Paddle's operations since its last call."""
    paddle.set_flags({"FLAGS_low_precision_op_list": 1})

    def taken() -> set[str]:
        found = set(paddle.base.core.get_low_precision_op_list())
        paddle.base.core.clear_low_precision_op_list()
        return found

    taken()
    yield taken
    paddle.set_flags({"FLAGS_low_precision_op_list": 0})


@pytest.mark.slow
@pytest.mark.parametrize("dtype", ["float16", "bfloat16"])
def test_the_operations_of_our_networks_are_those_that_the_documentation_lists(dtype, operations):
    """docs/gpus.md names them. CPUs cast nothing, so that this asks Paddle's lists, by which a GPU casts."""
    sixteen, kept = (
        paddle.amp.amp_lists.white_list()[dtype]["O1"],
        paddle.amp.amp_lists.black_list()[dtype]["O1"],
    )
    found, images = set[str](), paddle.zeros([2, 3, 32, 48])
    for structure in STRUCTURES:
        network = build(structure, CLASSES, 0)
        operations()
        network(images)
        found |= operations()
    assert found & sixteen == SIXTEEN_BITS
    assert found & kept == FLOAT32
    assert found - sixteen - kept == FLOAT32_WEIGHTS | AS_THEIR_INPUTS
    page = (REPOSITORY / "docs" / "gpus.md").read_text()
    assert all(f"`{name}`" in page for name in SIXTEEN_BITS | FLOAT32 | FLOAT32_WEIGHTS | {"batch_norm"})


def test_losses_and_updates_are_outside_of_the_casts(criterion, operations, monkeypatch):
    inside, outside = set[str](), set[str]()

    @contextmanager
    def cast(_precision: str) -> Iterator[None]:
        outside.update(operations())
        yield
        inside.update(operations())

    monkeypatch.setattr(pair_module, "autocast", cast)
    pair = make_pair(make_recipe(training__precision="bfloat16", optimization__ema=0.9))
    operations()
    run(pair, criterion, 0, 1)
    outside |= operations()
    assert "conv2d" in inside
    assert "conv2d" not in outside, "pseudo-label passes included"
    assert not inside & LOSSES
    assert outside & LOSSES
    assert "arg_max" not in inside


def test_float32_is_left_alone():
    assert isinstance(precision.autocast("float32"), nullcontext)
    pair = make_pair(make_recipe())
    assert pair.branches["left"].scale is None
    logits = pair.forwards(make_batch(0).on_device())["left"]("labeled")
    assert logits.dtype == paddle.float32
