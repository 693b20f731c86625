"""The training loop: run the remaining steps, and save checkpoints and recoveries to the object store."""

import json
import math
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from functools import partial

import paddle

from components import progress
from components.contract import read
from components.errors import UserError, WorkFailed
from components.networks.weights import checkpoint_meta, content_sha256, pack
from components.recipes import Recipe
from components.runs.checkpoints import CheckpointEntry
from components.runs.record import RunRecord
from components.runs.result import CurvePoint, TrainingCurve, thinned
from components.storage import keys
from components.storage.client import ObjectRef, Store
from components.tracking.client import Tracker
from components.training import cps
from components.training.batches.data import TrainingData
from components.training.batches.on_device import PackedBatch
from components.training.branch import STATISTICS, Arrays, Branch
from components.training.cps import Batch, StepLosses
from components.training.early_stop import EarlyStop
from components.training.group import Group
from components.training.losses import Criterion
from components.training.pair import Pair
from components.training.pseudo_label_audit import Audit, AuditState
from components.training.recovery import (
    Recovery,
    RecoveryTimer,
    arrays_of_rank,
    mean_arrays,
    pack_recovery,
    rank_prefix,
    recovery_key,
    unplaced_key,
)
from components.training.schedule import Plan, cps_weight, learning_rate, work
from components.training.supervision.resources import Resources
from components.training.supervision.uploads import Uploads
from components.training.supervision.watchdog import Termination, Watchdog

LOG_STEPS = 10
SETTLE_SECONDS = 5.0
"""How long to wait for pending uploads after the last step; if any remain, the final state is saved as well."""
LAST_UPLOADS = "waiting for the object store to accept the last uploads"
CURVES = ("loss", "loss_supervised", "loss_cross")


class Preempted(Exception):
    """The training was asked to stop. Its state is queued for upload; finish the uploads before exiting."""


@dataclass
class Training:
    """The objects that the loop works with, and its mutable state."""

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
    audit: Audit | None = None
    recovery_slot: int = 0
    """The slot, 0 or 1, for the next recovery; the newest stored recovery is in the other one."""
    recovered: int = 0
    """The step at which the newest recovery of this process resumes."""
    saved: dict[int, CheckpointEntry] = field(default_factory=dict)
    """The checkpoints so far, by epoch. The first process replaces an entry when the checkpoint is packed."""
    sums: dict[str, float] = field(default_factory=dict)
    """Sums of the losses since they were last logged; `steps` is the number of steps in the sums."""
    curve: list[CurvePoint] = field(default_factory=list)
    """The logged losses of the first process, thinned."""
    timer: RecoveryTimer = field(init=False)

    def __post_init__(self) -> None:
        self.timer = RecoveryTimer(self.recipe.training)


class Pace:
    """Measures the time per step, and the share of it spent waiting for batches, since the last report."""

    def __init__(self) -> None:
        self.resources = Resources()
        self._since, self._steps, self._waited = time.monotonic(), 0, 0.0

    def batches(self, batches: Iterator[Batch | PackedBatch]) -> Iterator[Batch | PackedBatch]:
        """Yield the same batches, and measure how long each is waited for."""
        while True:
            began = time.monotonic()
            batch = next(batches, None)
            self._waited += time.monotonic() - began
            if batch is None:
                return
            self._steps += 1
            yield batch

    def report(self) -> tuple[float, float]:
        """Return the seconds per step and the share of them spent waiting for data, and start a new measurement."""
        passed = max(time.monotonic() - self._since, 1e-9)
        found = passed / max(self._steps, 1), self._waited / passed
        self._since, self._steps, self._waited = time.monotonic(), 0, 0.0
        return found


def fit(training: Training, first_step: int, *, stop: Termination, watchdog: Watchdog) -> None:
    """Train from `first_step` to the end of the plan, or until training stops early.

    Raises Preempted after `stop` was set, here or in another process, and WorkFailed if the loss is not finite.
    """
    plan, pace = training.plan, Pace()
    loaded = training.data.batches(first_step, plan.steps)
    training.timer.restart()
    for step, batch in enumerate(pace.batches(loaded), start=first_step):
        told_to_stop, due = _step(training, step, batch, stop)
        _log(training, step, pace)
        epoch = plan.epoch_ended(step)
        ends = epoch is not None and _ends_early(training, epoch, step)
        if epoch is not None and training.audit is not None:
            _log_audit(training, training.audit, epoch)
        if epoch is not None and (epoch in plan.checkpoint_epochs or ends):
            _save_checkpoint(training, epoch, step)
            _save_curve(training)
        if ends:
            break
        if told_to_stop or due:
            _save_recovery(training, step + 1)
            training.timer.restart()
        if told_to_stop:
            stop.set()
            raise Preempted(f"stopped after step {step + 1} of {plan.steps}")
        watchdog.alive()
    else:
        if first_step < plan.steps:
            _save_end(training)


def _step(training: Training, step: int, batch: Batch | PackedBatch, stop: Termination) -> tuple[bool, bool]:
    """Run one step and add its losses to the sums.

    Returns whether any process was asked to stop, and whether a recovery is due by the first process's clock. Both are
    equal in every process.
    """
    recipe, plan, group = training.recipe, training.plan, training.group
    training.pair.seed(training.record.seed, step, group.rank)
    audit = training.audit if step >= training.data.burn_in else None
    if audit is not None and not audit.looks_at(step, plan):
        audit = None
    try:
        losses = cps.step(
            training.pair,
            batch,
            training.criterion,
            weight=cps_weight(recipe, step, plan.steps),
            learning_rate=learning_rate(recipe, step, plan.steps),
            number=step,
            synchronize=None if group.alone else group.average_gradients,
            watch=None if audit is None else partial(audit.observe, step, batch),
        )
    except MemoryError as error:  # Paddle's, for its devices too
        raise out_of_memory(recipe, group.processes) from error
    _check_finite(training, losses, step, batch.names)
    # These are plain numbers, without gradients, which `synchronize` has already averaged.
    asked = [float(stop.is_set()), float(group.leads and training.timer.due(step + 1))]
    told, due, *means = group.means([*asked, losses.total, losses.supervised, losses.cross])
    for name, value in zip(CURVES, means, strict=True):
        training.sums[name] = training.sums.get(name, 0.0) + value
    training.sums["steps"] = training.sums.get("steps", 0.0) + 1
    return told > 0, due > 0


def restore(training: Training, recovery: Recovery) -> int:
    """Restore networks, optimizers, averages and sums from the recovery, and return the next step."""
    origin = training.store.uri(recovery_key(training.record.run_key, recovery.slot))
    arrays = arrays_of_rank(recovery, training.group.rank, training.group.processes)
    for name, branch in training.pair.branches.items():
        branch.load_state(_below(arrays, f"{name}."), origin)
    listed = (read(CheckpointEntry, item, origin) for item in recovery.notes["checkpoints"])
    training.saved = {entry.epoch: entry for entry in listed}
    training.sums = dict(recovery.notes["sums"])
    training.curve = [read(CurvePoint, point, origin) for point in recovery.notes.get("curve", [])]
    if training.early_stop is not None:
        training.early_stop.load_state(recovery.notes["early_stop"])
    if training.audit is not None and recovery.notes.get("audit"):
        training.audit.load_state(read(AuditState, recovery.notes["audit"], origin), leads=training.group.leads)
    training.recovery_slot = 1 - recovery.slot
    return recovery.step


def _ends_early(training: Training, epoch: int, step: int) -> bool:
    """Return whether training stops after this epoch."""
    early_stop, group = training.early_stop, training.group
    if early_stop is None:
        return False
    ends, score = False, early_stop.score(training.pair, group)
    if group.leads:
        training.tracker.log(step + 1, {"holdout_mIoU": score})
        ends = early_stop.ends(epoch, score)
    return float(group.mean(paddle.to_tensor(float(ends)))) > 0


def _log_audit(training: Training, audit: Audit, epoch: int) -> None:
    found = audit.close_epoch(epoch, training.group)
    if not training.group.leads:
        return
    training.tracker.log(epoch, audit.metrics(found))
    record = audit.record().model_dump_json().encode()
    training.uploads.add(keys.pseudo_labels(training.record.run_key), lambda: record, replaceable=True)


def _below(arrays: Arrays, prefix: str) -> Arrays:
    return {key.removeprefix(prefix): array for key, array in arrays.items() if key.startswith(prefix)}


def _statistics(arrays: Arrays) -> Arrays:
    return {name: array for name, array in arrays.items() if name.endswith(STATISTICS)}


def _common_weights(training: Training, branch: Branch) -> Arrays:
    """Return a branch's weights for a checkpoint; running statistics are averaged over processes."""
    weights = branch.weights()
    if training.group.alone:
        return weights
    return {**weights, **mean_arrays(training.group.gather(_statistics(weights)))}


def _save_checkpoint(training: Training, epoch: int, step: int) -> None:
    record, recipe, manifest = training.record, training.recipe, training.data.reader.manifest
    entry = CheckpointEntry(epoch=epoch, step=step + 1, key=keys.checkpoint(record.run_key, epoch))
    training.saved[epoch] = entry
    networks = {name: _common_weights(training, branch) for name, branch in training.pair.branches.items()}
    if not training.group.leads:
        return
    meta = checkpoint_meta(
        structure=recipe.network.structure,
        right_structure=recipe.network.right_structure,
        classes=manifest.classes,
        mean=recipe.augmentation.mean,
        std=recipe.augmentation.std,
        crop=recipe.evaluation.crop,
        stride=recipe.evaluation.stride,
        longest_side=recipe.network.longest_side,
        run_key=record.run_key,
        split=record.split,
        dataset=record.dataset.digest,
        epoch=epoch,
        step=step + 1,
    )

    def stored(reference: ObjectRef) -> None:
        training.tracker.log_checkpoint(epoch, step + 1, reference.uri, sha256=reference.sha256)

    def packed() -> bytes:
        data = pack(networks, meta)
        training.saved[epoch] = entry.packed(data, content_sha256(data))
        return data

    training.uploads.add(entry.key, packed, stored)


def _save_recovery(training: Training, next_step: int) -> None:
    """Copy the state and queue it for upload. Saving does not change the state, so it does not affect training."""
    training.recovered = next_step
    group, branches = training.group, training.pair.branches
    arrays = {f"{name}.{key}": array for name, branch in branches.items() for key, array in branch.state().items()}
    for rank, statistics in enumerate([] if group.alone else group.gather(_statistics(arrays))):
        arrays.update({rank_prefix(rank) + key: array for key, array in statistics.items()})
    audit = training.audit.state(group) if training.audit else None
    if not group.leads:
        return
    run_key, sums, curve = training.record.run_key, dict(training.sums), list(training.curve)
    stopping = training.early_stop.state() if training.early_stop else None

    def make() -> bytes:
        # Uploads run in order: by now, every checkpoint listed here has its digest, and is in the store or on disk.
        entries = [entry for entry in list(training.saved.values()) if entry.step <= next_step]
        checkpoints = [entry.model_dump(mode="json", exclude_defaults=True) for entry in entries]
        state = {"checkpoints": checkpoints, "sums": sums, "processes": group.processes}
        state["curve"] = [point.model_dump() for point in curve]
        state |= {"early_stop": stopping, "audit": audit and audit.model_dump(mode="json")}
        return pack_recovery(Recovery(next_step, arrays, json.loads(json.dumps(state))), run_key)

    def stored(_reference: ObjectRef) -> None:
        training.recovery_slot = 1 - training.recovery_slot

    def slot() -> str:
        return recovery_key(run_key, training.recovery_slot)

    training.uploads.add(unplaced_key(run_key), make, stored, replaceable=True, place=slot)


def _save_end(training: Training) -> None:
    """Save the final state if uploads are slow, so that no step is repeated if the process ends before they finish."""
    steps = training.plan.steps
    if training.recovered == steps:
        return
    [behind] = training.group.means([float(not training.uploads.settled(SETTLE_SECONDS))])
    if behind > 0:
        _save_recovery(training, steps)
        if training.group.leads:
            progress.say("train", LAST_UPLOADS)


def _log(training: Training, step: int, pace: Pace) -> None:
    """Log every LOG_STEPS steps. Losses are means over these steps, which makes their curves less noisy."""
    sums, plan = training.sums, training.plan
    if (step + 1) % LOG_STEPS != 0 and step + 1 != plan.steps:
        return
    means = {name: sums[name] / sums["steps"] for name in CURVES}
    sums.clear()
    seconds, waiting = pace.report()
    if not training.group.leads:
        return
    epoch, rate = step // plan.steps_per_epoch + 1, learning_rate(training.recipe, step, plan.steps)
    measured = {"learning_rate": rate, "epoch": epoch, "seconds_per_step": seconds, "loader_wait_share": waiting}
    training.tracker.log(step + 1, {**means, **measured, **pace.resources.read()})
    note = f"epoch {epoch}/{plan.epochs}  loss {means['loss']:.3f}  {seconds:.2f} s/step, {waiting:.1%} of it for data"
    done, total = (work(training.recipe, steps, plan.steps) for steps in (step + 1, plan.steps))
    progress.advance("train", done, total, note)
    point = CurvePoint(
        step=step + 1,
        loss_supervised=means["loss_supervised"],
        loss_cross=means["loss_cross"],
        learning_rate=rate,
    )
    training.curve = thinned([*training.curve, point])


def _save_curve(training: Training) -> None:
    if not training.group.leads:
        return
    curve = TrainingCurve(steps_per_epoch=training.plan.steps_per_epoch, points=tuple(training.curve))
    data = curve.model_dump_json().encode()
    training.uploads.add(keys.training_curve(training.record.run_key), lambda: data, replaceable=True)


def out_of_memory(recipe: Recipe, processes: int) -> UserError:
    settings, (height, width) = recipe.training, recipe.augmentation.crop
    images = settings.batch_size // processes
    # Two images in each forward pass over all processes: some networks cannot normalise one.
    splits = [
        parts
        for parts in range(settings.accumulate + 1, images + 1)
        if images % parts == 0 and settings.batch_size >= 2 * parts
    ]
    fewer = (
        f"training.accumulate={splits[0]} or a smaller augmentation.crop" if splits else "a smaller augmentation.crop"
    )
    return UserError(
        f"out of memory on {paddle.device.get_device()} with {images // settings.accumulate} images of {height} x "
        f"{width} pixels in each forward pass. The same command resumes this run where more memory is free, or on more "
        f"processes or GPUs; {fewer} needs less, as another run"
    )


def _check_finite(training: Training, losses: StepLosses, step: int, names: tuple[str, ...]) -> None:
    if math.isfinite(losses.total):
        return
    last = training.saved[max(training.saved)].key if training.saved else "none yet"
    raise WorkFailed(
        f"the loss is {losses.total} at step {step + 1} (images: {', '.join(names)}); last checkpoint: {last}; "
        "a lower optimization.learning_rate often helps"
    )
