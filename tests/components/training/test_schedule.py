"""Lengths, checkpoints, learning rate and CPS weight."""

import math
from typing import Any

import numpy as np
import pytest

from components.recipes import load_recipe
from components.training.schedule import BURN_IN_COST, burn_in_steps, cps_weight, learning_rate, plan, work

CITYSCAPES = load_recipe("cityscapes-deeplabv3p-resnet50")


@pytest.mark.parametrize(
    ("ratio", "labeled", "epochs"),
    [("1/16", 186, 128), ("1/8", 372, 137), ("1/4", 744, 160), ("1/2", 1488, 240)],
)
def test_epochs_come_from_the_table(ratio, labeled, epochs):
    length = plan(CITYSCAPES, labeled=labeled, unlabeled=2975 - labeled, ratio=ratio)
    assert length.epochs == epochs
    assert length.steps_per_epoch == max(labeled, 2975 - labeled) // 8


def test_a_ratio_outside_the_table_gets_as_many_steps_as_its_nearest():
    known = plan(CITYSCAPES, labeled=186, unlabeled=2789, ratio="1/16")
    other = plan(CITYSCAPES, labeled=93, unlabeled=2882, ratio="1/32")
    assert other.steps == pytest.approx(known.steps, rel=0.01)


@pytest.mark.parametrize(("ratio", "labeled"), [("1/16", 661), ("1/8", 1323), ("1/4", 2646), ("1/2", 5291)])
def test_voc_trains_as_long_as_the_authors_at_every_ratio(ratio, labeled):
    length = plan(load_recipe("voc-deeplabv3p-resnet50"), labeled=labeled, unlabeled=10582 - labeled, ratio=ratio)
    assert length.steps == pytest.approx(10582 * 60 / 16, rel=0.01)


def test_the_baseline_makes_as_many_steps_as_the_training_it_is_compared_with():
    baseline = load_recipe("cityscapes-deeplabv3p-resnet50", {"cps.weight": 0})
    for ratio, labeled in (("1/8", 372), ("1/3", 992)):
        sizes: dict[str, Any] = {"labeled": labeled, "unlabeled": 2975 - labeled, "ratio": ratio}
        assert plan(baseline, **sizes) == plan(CITYSCAPES, **sizes)


def test_checkpoints_are_spread_over_the_end_and_hold_the_last_epoch():
    length = plan(load_recipe("demo", {"training.epochs": 20, "training.checkpoints": 4}), labeled=20, unlabeled=140,
                  ratio="1/8")  # fmt: skip
    assert length.checkpoint_epochs[-1] == 20
    assert len(length.checkpoint_epochs) == 4
    assert length.checkpoint_epochs[0] >= 4


def test_a_training_that_may_stop_early_has_checkpoints_everywhere():
    settings = {"training.epochs": 20, "training.checkpoint_span": 0.2, "training.patience": 2, "training.holdout": 0.1}
    length = plan(load_recipe("demo", settings), labeled=20, unlabeled=140, ratio="1/8")
    assert length.checkpoint_epochs == (1, 7, 14, 20)


@pytest.mark.parametrize("epochs", [1, 2, 3])
def test_fewer_epochs_than_checkpoints_save_each(epochs):
    recipe = load_recipe("demo", {"training.epochs": epochs, "training.checkpoint_span": 1.0})
    assert plan(recipe, labeled=8, unlabeled=8, ratio="1/2").checkpoint_epochs == tuple(range(1, epochs + 1))


def test_epochs_end_where_they_should():
    length = plan(load_recipe("demo", {"training.epochs": 2}), labeled=8, unlabeled=24, ratio="1/4")
    assert length.steps_per_epoch == 3
    assert [length.epoch_ended(step) for step in range(6)] == [None, None, 1, None, None, 2]


def test_poly_learning_rate_scales_with_the_batch():
    recipe = load_recipe("cityscapes-deeplabv3p-resnet50", {"training.batch_size": 16})
    assert learning_rate(recipe, 0, 100) == pytest.approx(0.01)
    assert learning_rate(recipe, 50, 100) == pytest.approx(0.01 * 0.5**0.9)


def test_poly_learning_rate_of_every_step():
    recipe = load_recipe("cityscapes-deeplabv3p-resnet50")
    expected = 0.005 * (1 - np.arange(30) / 30) ** 0.9
    np.testing.assert_allclose([learning_rate(recipe, step, 30) for step in range(30)], expected)


def test_cps_weight_rises_then_stays():
    recipe = load_recipe("demo", {"cps.weight": 2.0, "cps.ramp_up": 0.5, "cps.burn_in": 0.0})
    assert cps_weight(recipe, 0, 100) == pytest.approx(2 * math.exp(-5))
    assert cps_weight(recipe, 25, 100) == pytest.approx(2 * math.exp(-5 * 0.25))
    assert cps_weight(recipe, 50, 100) == cps_weight(recipe, 99, 100) == 2.0
    at_once = load_recipe("demo", {"cps.ramp_up": 0, "cps.burn_in": 0})
    assert cps_weight(at_once, 0, 100) == at_once.cps.weight


def test_progress_is_that_of_time():
    recipe = load_recipe("demo", {"cps.burn_in": 0.2})
    assert [work(recipe, done, 100) for done in (0, 10, 20)] == pytest.approx([0, 10 * BURN_IN_COST, 20 * BURN_IN_COST])
    assert work(recipe, 100, 100) - work(recipe, 20, 100) == pytest.approx(80)
    baseline = load_recipe("demo", {"cps.burn_in": 0.2, "cps.weight": 0.0})
    assert work(baseline, 10, 100) == 10


def test_the_ramp_up_follows_the_burn_in():
    recipe = load_recipe("demo", {"cps.weight": 2.0, "cps.ramp_up": 0.5, "cps.burn_in": 0.2})
    assert burn_in_steps(recipe, 100) == 20
    assert [cps_weight(recipe, step, 100) for step in (0, 19)] == [0, 0]
    assert cps_weight(recipe, 20, 100) == pytest.approx(2 * math.exp(-5))
    assert cps_weight(recipe, 45, 100) == pytest.approx(2 * math.exp(-5 * 0.25))
    assert cps_weight(recipe, 70, 100) == cps_weight(recipe, 99, 100) == 2.0
