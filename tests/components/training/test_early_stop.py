"""The hold-out is drawn by the seed and not learned from; its score is the sweep's; it ends a training in time."""

from types import SimpleNamespace
from typing import Any

import numpy as np
import paddle
import pytest

from components.dataset.manifest import Sample
from components.dataset.split import Split
from components.errors import UserError
from components.training import cps
from components.training.early_stop import EarlyStop, hold_out
from components.training.group import Group
from tests.components.training.small_training import make_batch, make_pair, make_recipe, run

CLASSES = 4


def make_split(labeled: int) -> Split:
    samples = tuple(Sample(image=f"{number}.png", label=f"{number}-label.png") for number in range(labeled))
    others = (Sample(image="val.png", label="val-label.png"),)
    return Split(
        labeled_ratio="1/8",
        seed=0,
        origin="seeded",
        labeled=samples,
        unlabeled=("a.png", "b.png"),
        val=others,
        test=others,
        fingerprint="f",
    )


class Scenes:
    manifest = SimpleNamespace(ignore_index=255, classes=[None] * CLASSES)

    def image(self, name: str) -> np.ndarray:
        return np.random.default_rng(len(name)).integers(0, 256, (30, 40, 3), dtype=np.uint8)

    def label(self, name: str) -> np.ndarray:
        label = np.random.default_rng(len(name)).integers(0, CLASSES - 1, (30, 40), dtype=np.uint8)
        label[:3] = 255
        return label


def test_a_share_of_the_labelled_images_is_held_out_by_the_seed():
    split = make_split(20)
    kept, held = hold_out(split, 0.2, 3)
    assert (len(kept.labeled), len(held)) == (16, 4)
    assert sorted((*kept.labeled, *held), key=str) == sorted(split.labeled, key=str)
    assert kept.model_copy(update={"labeled": split.labeled}) == split, "nothing else of the split changes"
    assert hold_out(split, 0.2, 3) == (kept, held)
    assert hold_out(split, 0.2, 4)[1] != held


def test_one_image_at_least_and_never_all_of_them():
    assert len(hold_out(make_split(4), 0.01, 0)[1]) == 1
    assert hold_out(make_split(4), 0.0, 0) == (make_split(4), ())
    with pytest.raises(UserError, match=r"training.holdout=0.9 takes 2 of 2 labelled images and leaves none"):
        hold_out(make_split(2), 0.9, 0)
    with pytest.raises(UserError, match="takes 1 of 1"):
        hold_out(make_split(1), 0.1, 0)


def early_stop(patience: int = 2) -> EarlyStop:
    recipe = make_recipe(
        training__patience=patience, training__holdout=0.1, evaluation__crop=[32, 32], evaluation__stride=[16, 24]
    )
    reader: Any = Scenes()
    return EarlyStop(make_split(3).labeled, reader, recipe)


def test_it_stops_when_patience_is_over_and_says_why(capfd):
    stop = early_stop()
    scores = [0.1, 0.3, 0.2, 0.35, 0.35, 0.2]
    assert [stop.ends(epoch, score) for epoch, score in enumerate(scores, start=1)] == [False] * 5 + [True]
    said = capfd.readouterr().err.splitlines()
    assert said[1] == "[train] epoch 2: mIoU 30.0 % on 3 held-out images"
    assert said[-1] == (
        "[train] epoch 6: mIoU 20.0 % on 3 held-out images: stopping early, because epoch 4 was the best with 35.0 % "
        "and training.patience is 2"
    )


def test_it_goes_on_where_it_was():
    undisturbed, resumed = early_stop(), early_stop()
    undisturbed.ends(1, 0.5)
    undisturbed.ends(2, 0.4)
    resumed.load_state(undisturbed.state())
    assert undisturbed.ends(3, 0.5)
    assert resumed.ends(3, 0.5)


def test_processes_score_their_shares(criterion):
    pair, stop = make_pair(make_recipe()), early_stop()
    run(pair, criterion, 0, 2)
    shares: list[np.ndarray] = []

    def score(rank: int, processes: int) -> float:
        group: Any = SimpleNamespace(
            rank=rank, processes=processes, totals=lambda counts: shares.append(counts) or counts
        )
        return stop.score(pair, group)

    alone = score(0, 1)
    for rank in range(2):
        score(rank, 2)
    whole, first, second = shares
    np.testing.assert_array_equal(first + second, whole)
    assert 0 < first.sum() < whole.sum()
    assert alone == stop.score(pair, Group())


@pytest.mark.parametrize("ema", [0.0, 0.9])
def test_the_score_is_that_of_a_checkpoint_and_nothing_changes(criterion, ema):
    pair, other = (make_pair(make_recipe(optimization__ema=ema)) for _ in range(2))
    for one in (pair, other):
        run(one, criterion, 0, 3)
    stop = early_stop()
    found = stop.score(pair, Group())

    # The same by the weights that a checkpoint gets: two windows of 32 x 32 side by side, the rows padded to 32.
    total = np.zeros((CLASSES, CLASSES), np.int64)
    recipe = pair.recipe
    for branch in other.branches.values():
        branch.network.set_state_dict({name: paddle.to_tensor(array) for name, array in branch.weights().items()})
        branch.network.eval()
    for sample in stop._held:
        assert sample.label
        pixels = (Scenes().image(sample.image) / 255 - recipe.augmentation.mean) / recipe.augmentation.std
        padded = np.zeros((3, 32, 40), np.float32)
        padded[:, :30] = pixels.transpose(2, 0, 1)
        mean = np.zeros((CLASSES, 30, 40))
        for network in other.networks.values():
            logits, visits = np.zeros((CLASSES, 32, 40)), np.zeros((32, 40))
            for left in (0, 8):
                window = paddle.to_tensor(np.ascontiguousarray(padded[None, :, :, left : left + 32]))
                logits[:, :, left : left + 32] += network(window)[0].numpy()
                visits[:, left : left + 32] += 1
            exponents = np.exp((logits / visits)[:, :30])
            mean += exponents / exponents.sum(axis=0)
        label, prediction = Scenes().label(sample.label), mean.argmax(axis=0)
        np.add.at(total, (label[label != 255], prediction[label != 255]), 1)
    hits, union = np.diag(total), total.sum(0) + total.sum(1) - np.diag(total)
    assert found == pytest.approx(np.mean(hits[union > 0] / union[union > 0]), abs=1e-4)

    undisturbed = make_pair(make_recipe(optimization__ema=ema))
    run(undisturbed, criterion, 0, 3)
    step: dict[str, Any] = {"weight": 1.0, "learning_rate": 0.01, "number": 3}
    losses = [cps.step(each, make_batch(3), criterion, **step) for each in (pair, undisturbed)]
    assert losses[0] == losses[1]
