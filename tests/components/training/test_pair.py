"""Both networks step together: threads, a shared stem and a restored state change nothing to the bit."""

from dataclasses import replace

import numpy as np
import paddle
import pytest

from components.errors import UserError
from components.networks.structures import build
from components.training import cps
from components.training.batches.randomness import Stream, generator
from components.training.branch import _undecayed
from components.training.cps import Batch
from components.training.losses import Criterion
from components.training.pair import DROPPED
from tests.components.training.small_training import make_batch, make_pair, make_recipe, run, slots


def states(pair):
    return {f"{name}.{key}": array for name, branch in pair.branches.items() for key, array in branch.state().items()}


def restore(pair, saved):
    for name, branch in pair.branches.items():
        arrays = {key.removeprefix(f"{name}."): array for key, array in saved.items() if key.startswith(f"{name}.")}
        branch.load_state(arrays, "the test")


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
        cps.step(pair, make_batch(0), criterion, weight=0.5, learning_rate=0.01, number=step).total
        for step in range(15)
    ]
    assert losses[-1] < 0.8 * losses[0]


@pytest.mark.parametrize(
    ("structure", "optimizer", "steps"),
    [
        ("small-fpn", "sgd", 8),
        ("small-fpn", "adamw", 8),
        pytest.param("small-fpn", "sgd", 50, marks=pytest.mark.slow),
        pytest.param("deeplabv3p-resnet50", "sgd", 2, marks=pytest.mark.slow),  # it has dropout
    ],
)
def test_a_thread_per_network_is_equal_to_the_bit(criterion, structure, optimizer, steps):
    recipe = make_recipe(optimization__optimizer=optimizer, network__structure=structure)
    one, two = make_pair(recipe), make_pair(recipe, threads=True)
    assert two._pool is not None
    assert run(one, criterion, 0, steps) == run(two, criterion, 0, steps)
    assert_equal_states(states(one), states(two))


@pytest.mark.parametrize(
    "settings",
    [
        {"optimization__optimizer": "sgd"},
        {"optimization__optimizer": "adamw"},
        {"cps__teacher": "average_eval", "cps__strong_views": 2, "cps__strong_augmentation": 1.0},
    ],
    ids=str,
)
def test_a_restored_state_goes_on_to_the_bit(criterion, settings):
    recipe = make_recipe(**settings)
    undisturbed = make_pair(recipe)
    run(undisturbed, criterion, 0, 3)
    saved = states(undisturbed)
    expected = run(undisturbed, criterion, 3, 6)

    build("small-fpn", 9)  # Paddle's own parameter names count on: a rebuilt network has others
    rebuilt = make_pair(recipe, seed=99)
    restore(rebuilt, saved)
    assert run(rebuilt, criterion, 3, 6) == expected
    assert_equal_states(states(undisturbed), states(rebuilt))


def test_a_shared_frozen_stem_gives_what_two_stems_give(criterion):
    recipe = make_recipe(network__structure="mobilenetv2-fpn", network__freeze_stem=True)
    pair = make_pair(recipe)
    left, right = pair.networks.values()
    for ours, theirs in zip(left.stem_layers(), right.stem_layers(), strict=True):
        theirs.set_state_dict(ours.state_dict())
    batch = make_batch(0)
    shared = pair.forwards(batch.on_device())["right"]("labeled")
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
    losses = cps.step(pair, alone, criterion, weight=0.0, learning_rate=0.01, number=0)
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


def test_paddles_older_batch_normalisation_is_not_decayed_either():
    network = paddle.nn.Sequential(paddle.nn.Conv2D(3, 4, 1), paddle.nn.BatchNorm(4))
    assert _undecayed(network) >= {"0.bias", "1.weight", "1.bias"}
    assert "0.weight" not in _undecayed(network)


def frozen_pair(recipe):
    """A pair whose batch normalisation stands still: for exact comparisons of gradients."""
    pair = make_pair(recipe)
    for network in pair.networks.values():
        network.eval()
    return pair


VIEWS = {"cps__strong_views": 2, "cps__strong_augmentation": 1.0, "cps__feature_dropout": 0.5}


@pytest.mark.parametrize("settings", [{"cps__confidence": 0.3}, {"cps__weight": 0.0}, VIEWS], ids=str)
def test_accumulated_gradients_are_those_of_the_whole_batch(settings):
    whole, cut = (
        frozen_pair(make_recipe(training__batch_size=4, training__accumulate=parts, **settings)) for parts in (1, 4)
    )
    weights = paddle.to_tensor(np.array([1.0, 2.0, 0.5, 1.5], dtype=np.float32))
    criterion = Criterion(whole.recipe.loss, 255, min_kept=1, class_weights=weights)
    batch = make_batch(0, size=4, views=settings.get("cps__strong_views", 1))
    if batch.void is not None:
        batch.void[1, :9] = True
    batch.labels[0, :20] = 255  # micro-batches with different numbers of valid pixels
    if settings.get("cps__weight") == 0.0:
        batch = Batch(batch.labeled, batch.labels, None, None, None, None, None, batch.names)
    found = []
    for pair in (whole, cut):
        gradients = record_gradients(pair)
        losses = cps.step(pair, batch, criterion, weight=1.5, learning_rate=0.01, number=0)
        found.append((losses, gradients))
    (losses, gradients), (cut_losses, cut_gradients) = found
    assert cut_losses.total == pytest.approx(losses.total, abs=1e-5)
    assert cut_losses.cross == pytest.approx(losses.cross, abs=1e-5)
    assert gradients.keys() == cut_gradients.keys()
    for name, gradient in gradients.items():
        np.testing.assert_allclose(cut_gradients[name], gradient, atol=1e-6, err_msg=name)


def record_gradients(pair):
    """Fills with what each branch is about to descend."""
    gradients = {}

    def record(branch, step):
        def recording(*arguments):
            gradients.update({f"{branch.name}.{key}": one.grad.numpy() for key, one in branch.trained.items()})
            step(*arguments)

        return recording

    for branch in pair.branches.values():
        branch.step = record(branch, branch.step)
    return gradients


def numpy_cross_entropy(logits, labels, kept):
    shifted = logits - logits.max(axis=1, keepdims=True)
    logs = shifted - np.log(np.exp(shifted).sum(axis=1, keepdims=True))
    known = np.where(labels == 255, 0, labels)
    return -np.take_along_axis(logs, known[:, None], axis=1)[:, 0][kept].mean()


def test_a_step_is_what_numpy_makes_of_the_networks_logits():
    """Pseudo labels by the other network, mixed; OHEM; and the weighted sum, from logits to the number."""
    recipe = make_recipe(loss__kind="ohem", loss__ohem_threshold=0.3)
    pair, batch = frozen_pair(recipe), make_batch(4)
    assert batch.mask is not None
    assert batch.void is not None
    batch.void[:, -5:] = True
    criterion = Criterion(recipe.loss, 255, min_kept=50)
    logits = {
        name: {
            part: network(paddle.to_tensor(getattr(batch, part))).numpy().astype(np.float64)
            for part in ("labeled", "first", "second", "mixed")
        }
        for name, network in pair.networks.items()
    }
    supervised = cross = 0.0
    for name, other in (("left", "right"), ("right", "left")):
        probabilities = np.exp(logits[name]["labeled"])
        probabilities /= probabilities.sum(axis=1, keepdims=True)
        known = np.where(batch.labels == 255, 0, batch.labels)
        true = np.take_along_axis(probabilities, known[:, None], axis=1)[:, 0]
        valid = batch.labels != 255
        limit = max(0.3, np.sort(true[valid])[49])
        supervised += numpy_cross_entropy(logits[name]["labeled"], batch.labels, valid & (true <= limit))
        pseudo = np.where(batch.mask[:, None], logits[other]["second"], logits[other]["first"]).argmax(axis=1)
        cross += numpy_cross_entropy(logits[name]["mixed"], pseudo, ~batch.void)
    losses = cps.step(pair, batch, criterion, weight=1.5, learning_rate=0.01, number=0)
    assert losses.supervised == pytest.approx(supervised, rel=1e-5)
    assert losses.cross == pytest.approx(cross, rel=1e-5)
    assert losses.total == pytest.approx(supervised + 1.5 * cross, rel=1e-5)


def test_a_step_learns_from_the_labelled_boxes(criterion):
    """All draws above any confidence, boxes over everything: the cross loss is then that of the labelled images."""
    pair, plain = frozen_pair(make_recipe(cps__adaptive_cutmix=True)), make_batch(4)
    boxes, draws = np.ones((2, 32, 48), bool), np.full(2, 2, np.float32)
    found = []
    for step, draw in enumerate((draws, -draws)):
        batch = replace(plain, boxes=boxes, draws=draw)
        found.append(cps.step(pair, batch, criterion, weight=1.0, learning_rate=0.0, number=step))
    assert found[0].cross == pytest.approx(
        sum(
            numpy_cross_entropy(network(paddle.to_tensor(plain.labeled)).numpy(), plain.labels, plain.labels != 255)
            for network in pair.networks.values()
        ),
        rel=1e-5,
    )
    assert abs(found[1].cross - found[0].cross) > 0.01


def dropped_by_numpy(features, share, seed, branch, positions):
    """The features of images at `positions`, with each channel dropped or scaled up, image by image."""
    changed = [feature.copy() for feature in features]
    for image, position in enumerate(positions):
        draws = generator(seed, Stream.FEATURE_DROPOUT, position, branch).random(
            sum(feature.shape[1] for feature in features), dtype=np.float32
        )
        for feature in changed:
            for channel in range(feature.shape[1]):
                feature[image, channel] *= 0 if draws[0] < share else 1 / (1 - share)
                draws = draws[1:]
    return changed


@pytest.mark.parametrize("structure", ["small-fpn", "mobilenetv2-fpn"])
def test_views_and_dropped_features_are_what_numpy_makes_of_logits(criterion, structure):
    """UniMatch's L_u = 1/2 H(p, fp) + 1/4 (H(p, s1) + H(p, s2)), from logits and features to the number."""
    settings = {"network__structure": structure, "network__freeze_stem": structure != "small-fpn"}
    pair, batch = frozen_pair(make_recipe(**VIEWS, **settings)), make_batch(4, views=2)
    assert batch.mask is not None
    assert batch.mixed is not None
    if pair.shares_stem:
        left, right = pair.networks.values()
        for ours, theirs in zip(left.stem_layers(), right.stem_layers(), strict=True):
            theirs.set_state_dict(ours.state_dict())
    cross = 0.0
    for branch, (name, other) in enumerate((("left", "right"), ("right", "left"))):
        network, teacher = pair.networks[name], pair.networks[other]
        labels = [
            np.repeat(teacher(paddle.to_tensor(images)).numpy().argmax(axis=1), 2, axis=0)
            for images in (batch.first, batch.second)
        ]
        pseudo = np.where(batch.mask, labels[1], labels[0])
        features = [feature.numpy() for feature in network.encode(paddle.to_tensor(batch.mixed[::2]))]
        changed = dropped_by_numpy(features, 0.5, 7, branch, batch.positions)
        weak = network.decode([paddle.to_tensor(feature) for feature in changed], (32, 48)).numpy()
        strong = network(paddle.to_tensor(batch.mixed)).numpy()
        everywhere = np.ones((2, 32, 48), bool)
        cross += numpy_cross_entropy(weak, pseudo[::2], everywhere) / 2
        cross += sum(numpy_cross_entropy(strong[view::2], pseudo[view::2], everywhere) / 4 for view in (0, 1))
    losses = cps.step(pair, batch, criterion, weight=1.5, learning_rate=0.01, number=0)
    assert losses.cross == pytest.approx(cross, rel=1e-5)


def test_dropped_features_do_not_depend_on_the_rest_of_the_batch():
    """So several processes and micro-batches drop what one process would."""
    pair, whole = frozen_pair(make_recipe(cps__feature_dropout=0.5)), make_batch(0, size=4)
    found = []
    for batch in (whole, slots(whole, [2, 3])):
        forward = pair.forwards(batch.on_device())["left"]
        plain, dropped = forward("mixed").numpy(), forward(DROPPED).numpy()
        assert (plain != dropped).any()
        found.append(dropped)
    np.testing.assert_allclose(found[0][2:], found[1], atol=1e-6)


def test_dropped_features_leave_running_statistics_untouched():
    pair, batch = make_pair(make_recipe(cps__feature_dropout=0.5)), make_batch(0)
    forward = pair.forwards(batch.on_device())["left"]
    forward("mixed")
    before = states(pair)
    forward(DROPPED)
    assert_equal_states(states(pair), before)


def test_the_encoder_runs_once_for_both_predictions_and_learns_from_both(monkeypatch):
    pair = make_pair(make_recipe(cps__feature_dropout=0.5))
    network, encoded = pair.networks["left"], []
    encode = network.encode
    monkeypatch.setattr(network, "encode", lambda images: encoded.append(len(images)) or encode(images))
    forward = pair.forwards(make_batch(0).on_device())["left"]
    forward("mixed")
    forward(DROPPED).square().mean().backward()
    assert encoded == [2]
    assert float(network.stages[0][0][0].weight.grad.abs().sum()) > 0


def test_dropout_of_features_repeats_with_its_seed_alone(criterion):
    recipe = make_recipe(cps__feature_dropout=0.5)
    one, two, other = make_pair(recipe), make_pair(recipe), make_pair(recipe, seed=8)
    restore(other, states(one))
    assert run(one, criterion, 0, 2) == run(two, criterion, 0, 2) != run(other, criterion, 0, 2)


def test_ohem_picks_in_each_micro_batch_and_losses_are_averaged():
    recipe = make_recipe(training__batch_size=4, training__accumulate=2, loss__kind="ohem", loss__ohem_threshold=0.2)
    pair = frozen_pair(recipe)
    criterion = Criterion(recipe.loss, 255, min_kept=200)
    batch = make_batch(0, size=4)
    expected = [
        float(
            criterion.supervised(network(paddle.to_tensor(batch.labeled[part])), paddle.to_tensor(batch.labels[part]))
        )
        for network in pair.networks.values()
        for part in (slice(0, 2), slice(2, 4))
    ]
    losses = cps.step(pair, batch, criterion, weight=1.0, learning_rate=0.01, number=0)
    assert losses.supervised == pytest.approx(sum(expected) / 2, rel=1e-5)


@pytest.mark.parametrize("limit", [0.05, 1e6])
def test_clipping_is_by_the_norm_of_all_gradients_of_a_network(criterion, limit):
    recipe = make_recipe(optimization__optimizer="sgd", optimization__momentum=0.0, optimization__weight_decay=0.0)
    rate, moved = 0.5, []
    for clip in (0.0, limit):
        pair = make_pair(recipe.model_copy(update={"optimization": recipe.optimization.model_copy(
            update={"clip_norm": clip})}))  # fmt: skip
        before = {name: one.numpy().copy() for name, one in pair.branches["left"].trained.items()}
        cps.step(pair, make_batch(0), criterion, weight=1.0, learning_rate=rate, number=0)
        moved.append({
            name: (before[name] - one.numpy()) / rate for name, one in pair.branches["left"].trained.items()
        })  # fmt: skip
    plain, clipped = moved
    norm = np.sqrt(sum((gradient.astype(np.float64) ** 2).sum() for gradient in plain.values()))
    assert norm > 0.05
    for name, gradient in plain.items():
        np.testing.assert_allclose(clipped[name], gradient * min(1, limit / norm), atol=2e-6, err_msg=name)


def test_clipping_comes_after_the_processes_have_averaged_their_gradients(criterion):
    recipe = make_recipe(
        optimization__optimizer="sgd", optimization__momentum=0.0, optimization__weight_decay=0.0,
        optimization__clip_norm=0.01,
    )  # fmt: skip
    pair = make_pair(recipe)
    before = {name: one.numpy().copy() for name, one in pair.branches["right"].trained.items()}

    def tenfold(branch):
        for parameter in branch.trained.values():
            parameter.grad.set_value(parameter.grad * 10)

    cps.step(pair, make_batch(0), criterion, weight=1.0, learning_rate=1.0, number=0, synchronize=tenfold)
    moved = [before[name] - one.numpy() for name, one in pair.branches["right"].trained.items()]
    assert np.sqrt(sum((one.astype(np.float64) ** 2).sum() for one in moved)) == pytest.approx(0.01, rel=1e-3)


def test_the_averaged_weights_teach(criterion):
    recipe = make_recipe(cps__teacher="average", optimization__ema=0.9)
    pair, batch = make_pair(recipe), make_batch(5)
    run(pair, criterion, 0, 3)
    branch = pair.branches["left"]
    current = {name: tensor.numpy() for name, tensor in branch.network.state_dict().items()}
    found = cps.pair_pseudo_labels(pair, batch.on_device(), criterion)["left"].labels.numpy()
    for name, tensor in branch.network.state_dict().items():
        np.testing.assert_array_equal(tensor.numpy(), current[name])

    assert batch.mask is not None
    average = build("small-fpn", 4)
    average.set_state_dict({name: paddle.to_tensor(array) for name, array in branch.weights().items()})
    average.train()
    with paddle.no_grad():
        labels = [average(paddle.to_tensor(images)).argmax(axis=1).numpy() for images in (batch.first, batch.second)]
    np.testing.assert_array_equal(found, np.where(batch.mask, labels[1], labels[0]))
    network = pair.networks["left"]
    with paddle.no_grad():
        students = [network(paddle.to_tensor(images)).argmax(axis=1).numpy() for images in (batch.first, batch.second)]
    assert (np.where(batch.mask, students[1], students[0]) != found).any()


def test_the_averaged_weights_teach_in_evaluation_mode(criterion):
    """Against an independent average of weights and statistics, in a network that runs in evaluation mode."""
    recipe, decay = make_recipe(cps__teacher="average_eval", optimization__ema=0.9), 0.9
    pair = make_pair(recipe)
    network = pair.networks["right"]
    average = {name: tensor.numpy().astype(np.float64) for name, tensor in network.state_dict().items()}
    for step in range(3):
        run(pair, criterion, step, step + 1)
        kept = min(decay, (1 + step) / (10 + step))
        for name, tensor in network.state_dict().items():
            average[name] = kept * average[name] + (1 - kept) * tensor.numpy()
    before, batch = states(pair), make_batch(5)
    found = cps.pair_pseudo_labels(pair, batch.on_device(), criterion)["right"].labels.numpy()
    assert_equal_states(states(pair), before)
    assert all(layer.training for layer in network.sublayers(include_self=True))

    teacher = build("small-fpn", 4)
    teacher.set_state_dict({name: paddle.to_tensor(array.astype(np.float32)) for name, array in average.items()})
    teacher.eval()
    with paddle.no_grad():
        labels = [teacher(paddle.to_tensor(images)).argmax(axis=1).numpy() for images in (batch.first, batch.second)]
    assert batch.mask is not None
    assert (np.where(batch.mask, labels[1], labels[0]) == found).mean() > 0.999  # ties may differ by rounding
    teacher.train()
    with paddle.no_grad():
        labels = [teacher(paddle.to_tensor(images)).argmax(axis=1).numpy() for images in (batch.first, batch.second)]
    assert (np.where(batch.mask, labels[1], labels[0]) == found).mean() < 0.99


def test_evaluation_mode_leaves_a_frozen_stem_in_it():
    pair = make_pair(make_recipe(network__structure="mobilenetv2-fpn", network__freeze_stem=True))
    network = pair.networks["left"]
    modes = [layer.training for layer in network.sublayers(include_self=True)]
    assert not all(modes)
    with cps.evaluation_mode(network):
        assert not any(layer.training for layer in network.sublayers(include_self=True))
    assert [layer.training for layer in network.sublayers(include_self=True)] == modes


def test_two_structures_train_together_and_go_on_to_the_bit(criterion):
    recipe = make_recipe(network__right_structure="mobilenetv2-fpn")
    pair = make_pair(recipe)
    assert [type(network).__name__ for network in pair.networks.values()] == ["SmallFPN", "MobileNetV2FPN"]
    run(pair, criterion, 0, 1)
    saved = states(pair)
    expected = run(pair, criterion, 1, 3)
    assert np.isfinite(expected).all()
    rebuilt = make_pair(recipe, seed=99, threads=True)
    restore(rebuilt, saved)
    assert run(rebuilt, criterion, 1, 3) == expected
