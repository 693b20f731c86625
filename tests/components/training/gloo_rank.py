"""One rank of test_group.py, started by paddle.distributed.launch: `gloo_rank.py FOLDER` leaves what it computed."""

import json
import sys
from dataclasses import replace
from functools import cache
from pathlib import Path
from types import MappingProxyType, SimpleNamespace
from typing import Any

import numpy as np
import paddle

sys.path.insert(0, str(Path(__file__).parents[3]))
from components.networks import layers
from components.recipes import Overrides, load_recipe
from components.scenes.generate import draw_street
from components.scenes.model import CLASSES as STREET_CLASSES
from components.training import cps
from components.training.batch_norm import synchronise
from components.training.batches.data import Share, TrainingData
from components.training.cps import Batch
from components.training.group import Group
from components.training.losses import Criterion, pixel_losses
from components.training.pair import Pair
from components.training.schedule import learning_rate
from tests.components.training.small_training import CLASSES, METHOD_OPTIONS, make_batch, make_pair, make_recipe, slots

STEPS = 20
OPTION_STEPS = 4
SGD: Overrides = {"optimization.optimizer": "sgd"}


class Streets:
    """Street scenes in memory, read as a DatasetReader's are."""

    manifest = SimpleNamespace(digest="0" * 64, files={}, ignore_index=255, classes=STREET_CLASSES)

    def image(self, name: str) -> np.ndarray:
        return self.drawn(name)[0]

    def label(self, name: str) -> np.ndarray:
        return self.drawn(name)[1]

    @staticmethod
    @cache
    def drawn(name: str) -> tuple[np.ndarray, np.ndarray]:
        return draw_street(np.random.default_rng(int(name)), 96, 64)


class Training:
    """The demo's training of batches of 8 from the same weights, alone or with the group's other process."""

    def __init__(self, group: Group | None, settings: Overrides = MappingProxyType({}), *, frozen: bool) -> None:
        self.recipe = load_recipe("demo", {"augmentation.crop": [48, 64], "cps.ramp_up": 0.0, **settings})
        labeled = tuple(SimpleNamespace(image=str(number), label=str(number)) for number in range(8))
        reader: Any = Streets()
        split: Any = SimpleNamespace(labeled=labeled, unlabeled=tuple(str(100 + number) for number in range(16)))
        self.group, share = group, group.share if group else Share()
        self.data = TrainingData(reader, split, self.recipe, 5, share)
        self.pair = Pair(self.recipe, len(STREET_CLASSES), 7, threads=False)
        for network in self.pair.networks.values() if group else ():
            synchronise(network)
        self.pair.start()
        if frozen:
            for network in self.pair.networks.values():
                network.eval()
        total = {"total": group.mean} if group else {}
        self.criterion = Criterion(self.recipe.loss, 255, min_kept=1, **total)

    def losses(self, steps: int) -> list[list[float]]:
        """Of each step: total, supervised and cross loss, as they are logged."""
        found = []
        for step in range(steps):
            made = cps.step(
                self.pair,
                self.data.batch(step),
                self.criterion,
                weight=self.recipe.cps.weight,
                learning_rate=learning_rate(self.recipe, step, STEPS),
                number=step,
                synchronize=self.group.average_gradients if self.group else None,
            )
            losses = [made.total, made.supervised, made.cross]
            found.append(self.group.means(losses) if self.group else losses)
        return found

    def weights(self) -> dict[str, np.ndarray]:
        return {
            f"{side}.{name}": value.numpy()
            for side, network in self.pair.networks.items()
            for name, value in network.state_dict().items()
        }

    def pixel_losses(self, batch: Any) -> list[np.ndarray]:
        """Of both networks, of every labelled pixel."""
        images, labels = paddle.to_tensor(batch.labeled), paddle.to_tensor(batch.labels)
        with paddle.no_grad():
            return [pixel_losses(network(images), labels, 255).numpy() for network in self.pair.networks.values()]


def use_double_precision() -> None:
    """Compute in float64, where rounding changes no pseudo label and no sign before a ReLU in a few steps."""
    paddle.set_default_dtype("float64")
    module: Any = layers
    module._cached_matrix = lambda *sizes: paddle.to_tensor(layers._weights(*sizes).astype(np.float64))
    owner: Any = TrainingData
    original = TrainingData.batch

    def batch(data: TrainingData, step: int) -> Any:
        made: Any = original(data, step)
        images = ("labeled", "first", "second", "mixed")
        return replace(made, **{name: getattr(made, name).astype(np.float64) for name in images})

    owner.batch = batch


def compare_in_double_precision(folder: Path, group: Group) -> dict[str, object]:
    """Trainings with frozen statistics, with every option, and with batch statistics.

    The last one leaves its weights and running statistics at the end. It has two micro-batches, so that each one is
    normalised over both processes.
    """
    use_double_precision()
    curves: dict[str, object] = {}
    cases: tuple[tuple[str, Overrides, int], ...] = (("frozen", {}, STEPS), ("options", METHOD_OPTIONS, OPTION_STEPS))
    for name, settings, steps in cases:
        curves[f"shared, {name}"] = Training(group, settings, frozen=True).losses(steps)
    # One does the one, the other the other, which saves time.
    name, settings, steps = cases[group.rank]
    curves[f"whole, {name}"] = Training(None, settings, frozen=True).losses(steps)
    for name, one in (("shared", group), ("whole", None)):
        training = Training(one, {**SGD, "training.accumulate": 2}, frozen=False)
        curves[f"{name}, batch statistics"] = training.losses(STEPS)
        np.savez(folder / f"synchronised-{name}.{group.rank}.npz", allow_pickle=False, **training.weights())
    return curves


def compare_trainings(folder: Path, group: Group) -> dict[str, object]:
    """Trainings of both processes together, and of one process alone with the whole batch."""
    curves: dict[str, object] = {}
    for name, one in (("shared", group), ("whole", None)):
        curves[f"{name}, single precision"] = Training(one, frozen=False).losses(STEPS)

    shared, whole = (Training(one, SGD, frozen=True) for one in (group, None))
    mine = group.share.slots(8)
    ours, all_of_it = shared.pixel_losses(shared.data.batch(0)), whole.pixel_losses(whole.data.batch(0))
    equal = [np.array_equal(one, every[mine]) for one, every in zip(ours, all_of_it, strict=True)]
    shared.losses(1)
    whole.losses(1)
    np.savez(folder / f"stepped-shared.{group.rank}.npz", allow_pickle=False, **shared.weights())
    np.savez(folder / f"stepped-whole.{group.rank}.npz", allow_pickle=False, **whole.weights())
    curves |= compare_in_double_precision(folder, group)
    return {"curves": curves, "pixels equal": equal}


def gradients(batch: Batch, criterion: Criterion, synchronize) -> tuple[dict, list[float]]:
    """Of both networks after one step from the same weights; and the step's three losses."""
    pair = make_pair(make_recipe(optimization__ema=0.0))
    for network in pair.networks.values():
        network.eval()  # batch statistics would differ between shares: only with them frozen can it be exact
    found = {}

    def note(branch) -> None:
        synchronize(branch)
        for name, parameter in branch.trained.items():
            found[f"{branch.name}.{name}"] = parameter.grad.numpy()

    losses = cps.step(pair, batch, criterion, weight=1.5, learning_rate=0.01, number=0, synchronize=note)
    return found, [losses.total, losses.supervised, losses.cross]


def toy_weights(group: Group, *, as_reference: bool) -> list[float]:
    """Weights of a linear layer after some steps on both processes' shares, with momentum and weight decay.

    The references add up the loss over processes and divide it by their number inside autograd, which divides the
    gradient, and their data parallelism averages the gradients. We average the gradients alone.
    """
    rate, decay = 0.5, 0.02
    if not as_reference:
        rate, decay = rate / group.processes, decay * group.processes
    random = np.random.default_rng(0)
    layer = paddle.nn.Linear(5, 3, bias_attr=False)
    layer.weight.set_value(paddle.to_tensor(random.normal(size=(5, 3)).astype(np.float32)))
    network = paddle.DataParallel(layer)
    optimizer = paddle.optimizer.Momentum(rate, 0.9, parameters=layer.parameters(), weight_decay=decay)
    for _ in range(6):
        images = random.normal(size=(2 * group.processes, 5)).astype(np.float32)[group.share.slots(4)]
        labels = random.integers(0, 3, 2 * group.processes)[group.share.slots(4)]
        loss = paddle.nn.functional.cross_entropy(network(paddle.to_tensor(images)), paddle.to_tensor(labels))
        if as_reference:
            paddle.distributed.all_reduce(loss)
            loss = loss / group.processes
        loss.backward()
        optimizer.step()
        optimizer.clear_grad()
    return layer.weight.numpy().ravel().tolist()


def main() -> None:
    folder, group = Path(sys.argv[1]), Group()
    whole = make_batch(0, size=4)
    whole.labels[0, :24] = 255  # the ranks' shares have different numbers of valid pixels, in labels and pseudo labels
    assert whole.void is not None
    whole.void[3, 5:] = True
    weights = paddle.to_tensor(np.linspace(0.5, 2, CLASSES).astype(np.float32))
    loss = make_recipe(loss__kind="ohem").loss
    # More pixels than there are: OHEM keeps every valid one.
    mine = Criterion(loss, 255, min_kept=10**6, class_weights=weights, total=group.mean)
    alone = Criterion(loss, 255, min_kept=10**6, class_weights=weights)
    shared, losses = gradients(slots(whole, group.share.slots(4)), mine, group.average_gradients)
    expected, whole_losses = gradients(whole, alone, lambda _branch: None)
    np.savez(folder / f"shared.{group.rank}.npz", allow_pickle=False, **shared)
    np.savez(folder / f"whole.{group.rank}.npz", allow_pickle=False, **expected)
    own = {"a": np.full((2, 3), group.rank, np.float32), "b": np.arange(2, dtype=np.float32) + 10 * group.rank}
    gathered = [{name: array.tolist() for name, array in part.items()} for part in group.gather(own)]
    said = {
        "losses": losses,
        "means": group.means(losses),
        "whole": whole_losses,
        "gathered": gathered,
        "totals": group.totals(np.array([[group.rank, 2**40 + 1], [3, 4]])).tolist(),
        "toy": [toy_weights(group, as_reference=as_reference) for as_reference in (True, False)],
        **compare_trainings(folder, group),
        "valid": [int((whole.labels[group.share.slots(4)] != 255).sum()), int((~whole.void).sum())],
    }
    (folder / f"said.{group.rank}.json").write_text(json.dumps(said))


if __name__ == "__main__":
    main()
