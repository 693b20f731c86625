"""Both networks step together: threads, a shared stem and a restored state change nothing to the bit."""

import numpy as np
import paddle
import pytest
from small_training import make_batch, make_pair, make_recipe, run

from components.errors import UserError
from components.networks.structures import build


def states(pair):
    return {f"{name}.{key}": array for name, branch in pair.branches.items() for key, array in branch.state().items()}


def assert_equal_states(one, two):
    assert one.keys() == two.keys()
    for key, array in one.items():
        np.testing.assert_array_equal(array, two[key], err_msg=key)


def test_networks_start_differently():
    pair = make_pair(make_recipe())
    left, right = (network.state_dict()["stages.0.0.0.weight"].numpy() for network in pair.networks.values())
    assert (left != right).any()


def test_loss_falls(criterion):
    pair = make_pair(make_recipe())
    losses = [
        pair.step(make_batch(0), criterion, weight=0.5, learning_rate=0.01, number=step).total for step in range(15)
    ]
    assert losses[-1] < 0.8 * losses[0]


@pytest.mark.parametrize("optimizer", ["sgd", "adamw"])
def test_a_thread_per_network_is_equal_to_the_bit(criterion, optimizer):
    recipe = make_recipe(optimization__optimizer=optimizer)
    one, two = make_pair(recipe), make_pair(recipe, threads=True)
    assert run(one, criterion, 0, 8) == run(two, criterion, 0, 8)
    assert_equal_states(states(one), states(two))


@pytest.mark.parametrize("optimizer", ["sgd", "adamw"])
def test_a_restored_state_goes_on_to_the_bit(criterion, optimizer):
    recipe = make_recipe(optimization__optimizer=optimizer)
    undisturbed = make_pair(recipe)
    run(undisturbed, criterion, 0, 3)
    saved = states(undisturbed)
    expected = run(undisturbed, criterion, 3, 6)

    build("small-fpn", 9)  # Paddle's own parameter names count on: a rebuilt network has others
    rebuilt = make_pair(recipe, seed=99)
    for name, branch in rebuilt.branches.items():
        arrays = {key.removeprefix(f"{name}."): array for key, array in saved.items() if key.startswith(f"{name}.")}
        branch.load_state(arrays, "the test")
    assert run(rebuilt, criterion, 3, 6) == expected
    assert_equal_states(states(undisturbed), states(rebuilt))


def test_a_shared_frozen_stem_gives_what_two_stems_give(criterion):
    recipe = make_recipe(network__structure="mobilenetv2-fpn", network__freeze_stem=True)
    pair = make_pair(recipe)
    left, right = pair.networks.values()
    for ours, theirs in zip(left.stem_layers(), right.stem_layers(), strict=True):
        theirs.set_state_dict(ours.state_dict())
    batch = make_batch(0)
    shared = pair._forwards(batch)["right"]("labeled")
    np.testing.assert_array_equal(shared.numpy(), right(paddle.to_tensor(batch.labeled)).numpy())
    before = {name: tensor.numpy() for name, tensor in left.features[0].state_dict().items()}
    run(pair, criterion, 0, 2)
    for name, tensor in left.features[0].state_dict().items():
        np.testing.assert_array_equal(tensor.numpy(), before[name])


def test_a_structure_without_a_stem_cannot_freeze_it():
    with pytest.raises(UserError, match="'small-fpn' has no stem to freeze"):
        make_pair(make_recipe(network__freeze_stem=True))


def test_twin_without_unlabelled_images(criterion):
    pair = make_pair(make_recipe(cps__weight=0))
    batch = make_batch(0)
    alone = type(batch)(batch.labeled, batch.labels, None, None, None, None, None, batch.names)
    losses = pair.step(alone, criterion, weight=0.0, learning_rate=0.01, number=0)
    assert losses.cross == 0.0
    assert losses.total == losses.supervised > 0


def test_no_decay_on_biases_and_normalisation():
    recipe = make_recipe(optimization__weight_decay=0.9, optimization__ema=0.0)
    for optimizer in ("sgd", "adamw"):
        pair = make_pair(recipe.model_copy(update={"optimization": recipe.optimization.model_copy(
            update={"optimizer": optimizer})}))  # fmt: skip
        branch = pair.branches["left"]
        before = {name: tensor.numpy().copy() for name, tensor in branch.trained.items()}
        for parameter in branch.trained.values():
            (parameter * 0).sum().backward()
        branch.step(0.1, 0)
        changed = {name for name, tensor in branch.trained.items() if (tensor.numpy() != before[name]).any()}
        assert changed == {name for name in before if name.endswith("weight") and before[name].ndim == 4}
