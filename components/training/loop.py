"""The training loop: steps from where the run stands to its end, checkpoints and recoveries into the store."""

import json
import math
import time
from dataclasses import dataclass, field
from threading import Event
from typing import Any

import paddle

from components import progress
from components.dataset.run import RunRecord
from components.errors import WorkFailed
from components.networks.weights import checkpoint_meta, pack
from components.recipes import Recipe
from components.storage import keys
from components.storage.client import ObjectRef, Store
from components.tracking.client import Tracker
from components.training.data import TrainingData
from components.training.group import Group
from components.training.holdout import EarlyStop
from components.training.loader import ahead
from components.training.losses import Criterion
from components.training.pair import Pair, StepLosses
from components.training.randomness import Stream, number
from components.training.recovery import Recovery, pack_recovery, recovery_key
from components.training.schedule import Plan, cps_weight, learning_rate
from components.training.uploads import Uploads

LOG_STEPS = 10
LOADER_THREADS = 2
LOADER_DEPTH = 4
PREEMPTION_PATIENCE = 15.0
"""Seconds to get the state into the store before the process is ended by force."""
CURVES = ("loss", "loss_supervised", "loss_cross")


class Preempted(Exception):
    """The training was told to stop, and has saved its state."""


@dataclass
class Training:
    """What the loop works with."""

    record: RunRecord
    recipe: Recipe
    plan: Plan
    pair: Pair
    data: TrainingData
    criterion: Criterion
    store: Store
    tracker: Tracker
    group: Group
    uploads: Uploads
    early_stop: EarlyStop | None = None
    recovery_slot: int = 0
    saved: list[dict[str, Any]] = field(default_factory=list)
    """The checkpoints in the store so far, as the index lists them."""
    sums: dict[str, float] = field(default_factory=dict)
    """Losses since they were last logged, and how many steps they sum: `steps`."""


def fit(training: Training, first_step: int, *, stop: Event, lost: Event) -> list[dict[str, Any]]:
    """Train from `first_step` to the plan's end, or to where it stops early; returns the index's entries.

    Raises Preempted, with the state saved, after `stop` was set, and WorkFailed when the loss is not finite or another
    process took the run over, which `lost` says.
    """
    plan, recipe = training.plan, training.recipe
    batches = ahead(training.data.batch, first_step, plan.steps, workers=LOADER_THREADS, depth=LOADER_DEPTH)
    synchronise = None if training.group.alone else training.group.average_gradients
    began = time.monotonic()
    for step, batch in enumerate(batches, start=first_step):
        if training.pair.has_dropout:
            paddle.seed(number(training.record.seed, Stream.STEP, step, training.group.rank))
        if lost.is_set():
            raise WorkFailed(f"another process took over the run {training.record.run_key} while this one slept")
        rate = learning_rate(recipe, step, plan.steps)
        losses = training.pair.step(
            batch,
            training.criterion,
            weight=cps_weight(recipe, step, plan.steps),
            learning_rate=rate,
            number=step,
            synchronise=synchronise,
        )
        _check_finite(training, losses, step, batch.names)
        _log(training, losses, step, rate, (time.monotonic() - began) / (step - first_step + 1))
        epoch = plan.epoch_ended(step)
        ends = epoch is not None and _ends_early(training, epoch, step)
        if epoch is not None and (epoch in plan.checkpoint_epochs or ends):
            _save_checkpoint(training, epoch, step)
        if ends:
            break
        told_to_stop = training.group.any(stop.is_set())
        if (step + 1) % recipe.training.recovery_steps == 0 or told_to_stop:
            _save_recovery(training, step + 1)
        if told_to_stop:
            training.uploads.finish(PREEMPTION_PATIENCE)
            raise Preempted(f"stopped after step {step + 1} of {plan.steps}, state saved")
    training.uploads.finish()
    return training.saved


def restore(training: Training, recovery: Recovery) -> int:
    """Bring networks, optimizers, averages and sums to the recovery's state; returns the next step."""
    origin = training.store.uri(recovery_key(training.record.run_key, recovery.slot))
    for name, branch in training.pair.branches.items():
        prefix = f"{name}."
        arrays = {key.removeprefix(prefix): array for key, array in recovery.arrays.items() if key.startswith(prefix)}
        branch.load_state(arrays, origin)
    training.saved = list(recovery.notes["checkpoints"])
    training.sums = dict(recovery.notes["sums"])
    if training.early_stop is not None:
        training.early_stop.load_state(recovery.notes["early_stop"])
    training.recovery_slot = 1 - recovery.slot
    return recovery.step


def _ends_early(training: Training, epoch: int, step: int) -> bool:
    """The first process scores the held-out images, and decides for all."""
    early_stop, group = training.early_stop, training.group
    if early_stop is None:
        return False
    ends = False
    if group.leads:
        score = early_stop.score(training.pair)
        training.tracker.log(step + 1, {"holdout_mIoU": score})
        ends = early_stop.ends(epoch, score)
    return float(group.mean(paddle.to_tensor(float(ends)))) > 0


def _save_checkpoint(training: Training, epoch: int, step: int) -> None:
    record, recipe, manifest = training.record, training.recipe, training.data.reader.manifest
    training.group.average_statistics(training.pair.branches.values())
    entry: dict[str, Any] = {"epoch": epoch, "step": step + 1, "key": keys.checkpoint(record.run_key, epoch)}
    training.saved.append(entry)
    if not training.group.leads:
        return
    data = pack(
        {name: branch.weights() for name, branch in training.pair.branches.items()},
        checkpoint_meta(
            structure=recipe.network.structure,
            right_structure=recipe.network.right_structure,
            classes=[item.model_dump(mode="json") for item in manifest.classes],
            mean=recipe.augmentation.mean,
            std=recipe.augmentation.std,
            crop=recipe.evaluation.crop,
            stride=recipe.evaluation.stride,
            run_key=record.run_key,
            split=record.split,
            dataset=record.dataset.digest,
            epoch=epoch,
            step=step + 1,
        ),
    )

    def stored(reference: ObjectRef) -> None:
        entry.update(sha256=reference.sha256, size=reference.size)
        training.tracker.log_checkpoint(epoch, step + 1, reference.uri, sha256=reference.sha256)

    training.uploads.add(entry["key"], lambda: data, stored)


def _save_recovery(training: Training, next_step: int) -> None:
    # Processes differ in running statistics only; a resumed run gives all of them the leader's.
    training.group.average_statistics(training.pair.branches.values())
    if not training.group.leads:
        return
    arrays = {
        f"{name}.{key}": array
        for name, branch in training.pair.branches.items()
        for key, array in branch.state().items()
    }
    slot, training.recovery_slot = training.recovery_slot, 1 - training.recovery_slot
    key, sums = recovery_key(training.record.run_key, slot), dict(training.sums)
    stopping = training.early_stop.state() if training.early_stop else None

    def make() -> bytes:
        # Uploads keep their order: every checkpoint noted here is in the store, with its digest, by now.
        notes = json.loads(json.dumps({"checkpoints": training.saved, "sums": sums, "early_stop": stopping}))
        notes["checkpoints"] = [entry for entry in notes["checkpoints"] if entry["step"] <= next_step]
        return pack_recovery(Recovery(next_step, arrays, notes), training.record.run_key)

    training.uploads.add(key, make, replaceable=True)


def _log(training: Training, losses: StepLosses, step: int, rate: float, seconds: float) -> None:
    """Curves are means over LOG_STEPS steps, so that a curve is no noisier than it must be."""
    sums, plan = training.sums, training.plan
    for name, value in zip(CURVES, (losses.total, losses.supervised, losses.cross), strict=True):
        sums[name] = sums.get(name, 0.0) + value
    sums["steps"] = sums.get("steps", 0.0) + 1
    last = step + 1 == plan.steps
    if not ((step + 1) % LOG_STEPS == 0 or last):
        return
    means = {name: sums[name] / sums["steps"] for name in CURVES}
    sums.clear()
    if training.group.leads:
        epoch = step // plan.steps_per_epoch + 1
        training.tracker.log(step + 1, {**means, "learning_rate": rate, "epoch": epoch, "seconds_per_step": seconds})
        progress.advance(
            "train",
            step + 1,
            plan.steps,
            f"epoch {epoch}/{plan.epochs}  loss {means['loss']:.3f}  {seconds:.2f} s/step",
        )


def _check_finite(training: Training, losses: StepLosses, step: int, names: tuple[str, ...]) -> None:
    if math.isfinite(losses.total):
        return
    last = training.saved[-1]["key"] if training.saved else "none yet"
    raise WorkFailed(
        f"the loss is {losses.total} at step {step + 1} (images: {', '.join(names)}); last checkpoint: {last}; "
        "a lower optimization.learning_rate often helps"
    )
