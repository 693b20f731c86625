"""The audit of pseudo labels: right figures, the same after a restart, and no effect on what is trained."""

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import paddle
import pytest

from components.dataset.stored.reader import DatasetReader
from components.recipes.loader import parse_recipe
from components.runs.record import load_run
from components.runs.result import PseudoLabelEpoch
from components.storage import keys
from components.training import process
from components.training.batches.augmentation import augment, warp_label
from components.training.batches.data import Share
from components.training.batches.randomness import Stream, generator
from components.training.batches.sampling import unlabeled_pairs
from components.training.group import Group
from components.training.loop import fit
from components.training.pseudo_label_audit import Audit, AuditState
from components.training.schedule import Plan
from components.training.supervision.watchdog import Watchdog, deferred_sigterm
from tests.components.training.batches.test_data import CLASSES, Scenes, make_data, make_split
from tests.components.training.small_training import make_recipe
from tests.components.training.stored_run import make_run, stored_run  # noqa: F401 - a fixture

ALONE = Group()
RECIPE = make_recipe()


def make_audit(hidden: int = 10) -> Audit:
    """Of the ten unlabelled images of `make_split` the first `hidden` have labels."""
    labels = {str(100 + number): str(100 + number) for number in range(hidden)}
    classes = [SimpleNamespace(name=f"class {number}") for number in range(CLASSES)]
    manifest: Any = SimpleNamespace(classes=classes, ignore_index=255, train_labels=lambda: labels)
    reader: Any = Scenes()
    return Audit(reader, manifest, make_split(), RECIPE, 5, Share())


def truth_of(step: int) -> np.ndarray:
    """(B, H, W) by `augment` with labels, which the training itself never does for unlabelled images."""
    batch, size = make_data().batch(step), RECIPE.training.batch_size
    sides = []
    for side, stream in enumerate((Stream.UNLABELED_IMAGE_A, Stream.UNLABELED_IMAGE_B)):
        names = [str(100 + pair[side]) for pair in unlabeled_pairs(10, 5, step, size)]
        rngs = [generator(5, stream, step * size + slot) for slot in range(size)]
        scenes, settings = Scenes(), RECIPE.augmentation
        found = [
            augment(scenes.image(name), scenes.label(name), settings, 255, rng)
            for name, rng in zip(names, rngs, strict=True)
        ]
        np.testing.assert_array_equal(
            np.stack([image for image, _ in found]), batch.first if side == 0 else batch.second
        )
        sides.append(np.stack([label for _, label in found]))
    assert batch.mask is not None
    return np.where(batch.mask, sides[1], sides[0])


def observe(audit: Audit, step: int, left: np.ndarray, right: np.ndarray) -> None:
    made = {"left": paddle.to_tensor(left.astype(np.int64)), "right": paddle.to_tensor(right.astype(np.int64))}
    audit.observe(step, make_data().batch(step), [made])


@pytest.mark.parametrize("seed", range(4))
def test_a_label_is_warped_as_with_its_image(seed):
    image, label = Scenes().image("1"), Scenes().label("1")
    _, expected = augment(image, label, RECIPE.augmentation, 255, np.random.default_rng(seed))
    found = warp_label(label, RECIPE.augmentation, 255, np.random.default_rng(seed))
    np.testing.assert_array_equal(found, expected)


def test_perfect_pseudo_labels_score_one_and_void_ones_do_not_count():
    audit, truth = make_audit(), truth_of(3)
    right = truth.copy()
    right[:, :10] = 255
    observe(audit, 3, truth, right)
    found = audit.close_epoch(1, ALONE)
    known = (truth != 255).sum()
    assert found.accuracy == found.agreement == 1.0
    assert found.precision == found.recall == (1.0,) * CLASSES
    assert found.labeled_share == pytest.approx((known + (truth[:, 10:] != 255).sum()) / (2 * known))


def test_precision_and_recall_by_class():
    audit, truth = make_audit(), truth_of(0)
    left = np.where(truth == 1, 2, truth)  # every 1 is taken for a 2
    observe(audit, 0, left, truth)
    found, pixels = audit.close_epoch(1, ALONE), np.bincount(truth[truth != 255], minlength=CLASSES)
    assert found.recall == (1.0, 0.5, 1.0, 1.0)
    assert found.precision == pytest.approx([1, 1, 2 * pixels[2] / (2 * pixels[2] + pixels[1]), 1])
    assert found.accuracy == pytest.approx(1 - pixels[1] / (2 * pixels.sum()))
    assert found.agreement == pytest.approx(1 - pixels[1] / pixels.sum())
    assert audit.metrics(found)["pseudo/recall/class 1"] == 0.5


def test_images_without_a_hidden_label_count_for_agreement_alone():
    audit = make_audit(hidden=0)
    assert not audit.possible
    observe(audit, 0, truth_of(0), truth_of(0))
    found = audit.close_epoch(1, ALONE)
    assert found.accuracy is None
    assert found.agreement == 1.0
    assert set(audit.metrics(found)) == {"pseudo/agreement"}


def test_an_interrupted_epoch_comes_to_the_same_figures():
    whole, first, second = make_audit(), make_audit(), make_audit()
    rng = np.random.default_rng(0)
    made = [rng.integers(0, CLASSES, (2, 2, 32, 48)) for _ in range(4)]
    for step, (left, right) in enumerate(made):
        observe(whole, step, left, right)
        if step == 2:
            second.load_state(AuditState.model_validate_json(first.state(ALONE).model_dump_json()), leads=True)
        observe(first if step < 2 else second, step, left, right)
    assert second.close_epoch(1, ALONE) == whole.close_epoch(1, ALONE)


def test_a_long_epoch_is_looked_at_in_fifty_steps():
    looked = [step for step in range(2000) if Audit.looks_at(step, Plan(2, 1000, (2,)))]
    assert looked == list(range(0, 2000, 20))
    assert all(Audit.looks_at(step, Plan(2, 10, (2,))) for step in range(20))


def trained(
    store, run_key: str, stacks: Path, *, audit: bool = True
) -> tuple[dict[str, bytes], list[PseudoLabelEpoch]]:
    """Weights of both networks after a whole training in this process, and the epochs of its audit."""
    record, split = load_run(store, run_key)
    recipe = parse_recipe(record.settings, run_key)
    with deferred_sigterm() as stop, process.tracker_of(record) as tracker:
        training = process.prepare_training(store, record, split, recipe, tracker)
        assert training.audit is not None
        epochs = training.audit.epochs
        training.audit = training.audit if audit else None
        with Watchdog(0, stacks) as watchdog:
            fit(training, 0, stop=stop, watchdog=watchdog)
        training.uploads.finish()
    weights = {
        f"{side}.{name}": array.tobytes()
        for side, branch in training.pair.branches.items()
        for name, array in branch.state().items()
    }
    return weights, epochs


@pytest.mark.slow
@pytest.mark.usefixtures("stored_run")
def test_hidden_labels_change_no_bit_of_what_is_trained(store, monkeypatch, tmp_path):
    monkeypatch.setenv("CPS_DECODED_BYTES", "0")  # scrambled labels must not be shared with other processes
    overrides: dict[str, Any] = {"training.epochs": 2, "training.checkpoints": 1}
    run_key, stacks = make_run(**overrides), tmp_path / "stacks"
    audited, epochs = trained(store, run_key, stacks)
    stored = store.get_json(keys.pseudo_labels(run_key))
    curve = store.get_json(keys.training_curve(run_key))
    without, none = trained(store, run_key, stacks, audit=False)
    _, split = load_run(store, run_key)
    visible = {sample.label for sample in split.labeled}
    read, real = [], DatasetReader.label

    def scrambled(reader: DatasetReader, name: str) -> np.ndarray:
        label = real(reader, name)
        if name in visible:
            return label
        read.append(name)
        return np.random.default_rng(0).integers(0, 19, label.shape, dtype=np.uint8)

    monkeypatch.setattr(DatasetReader, "label", scrambled)
    blind, nonsense = trained(store, run_key, stacks)
    assert audited == without == blind
    assert none == []
    assert stored["images"] == len(split.unlabeled)
    assert stored["epochs"] == [epoch.model_dump(mode="json") for epoch in epochs]
    assert [entry.epoch for entry in epochs] == [1, 2]
    steps = [point["step"] for point in curve["points"]]
    assert steps[-1] == 2 * curve["steps_per_epoch"], "the last steps are in the curve as well"
    assert all(point["loss_supervised"] > 0 and point["learning_rate"] >= 0 for point in curve["points"])
    assert read, "the audit does look at hidden labels"
    assert [entry.agreement for entry in nonsense] == [entry.agreement for entry in epochs]
    assert nonsense[-1].accuracy < epochs[-1].accuracy
