"""One training process, alone or as one of several ranks: prepare, resume from the newest recovery, and train."""

import sys
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING

from components import progress
from components.dataset.split import Split
from components.errors import WorkFailed
from components.networks import processor
from components.networks.device import prepare_kernels, set_tf32
from components.recipes import Recipe
from components.recipes.loader import parse_recipe
from components.runs.checkpoints import CheckpointEntry, CheckpointIndex
from components.runs.environment import Environment, this_environment
from components.runs.record import RunRecord, load_run, note_environment
from components.step_guard import TERMINATED
from components.storage import keys
from components.storage.client import Store
from components.tracking.client import Tracker, open_run
from components.tracking.delivery import delivered_through_store
from components.training.supervision.watchdog import Watchdog, step_timeout
from components.units import quantity

if TYPE_CHECKING:
    from components.networks.pretrained_weights.installed import Installed
    from components.training.group import Group
    from components.training.loop import Training
    from components.training.pair import Pair
    from components.training.supervision.uploads import Uploads
    from components.training.supervision.watchdog import Termination


def train_here(store: Store, run_key: str, *, processes: int, alone: bool, stacks: Path) -> None:
    """Train in this process and write the index of checkpoints.

    Args:
        processes: number of training processes on this machine, including this one.
        alone: this is the only process of the training, on this or any other machine.
        stacks: file for the stacks of all threads if a step hangs; the process then exits.
    """
    record, split = load_run(store, run_key)
    recipe = parse_recipe(record.settings, f"run {run_key}")
    prepare_kernels(tf32=recipe.training.tf32)
    chosen = processor.prepare_training(networks=2 if alone else 1, processes=processes)
    if chosen:
        progress.say("train", "set for this processor: " + ", ".join(f"{k}={v}" for k, v in chosen.items()))
    if told := set_tf32(recipe.training.tf32):
        progress.say("train", told)
    from components.training.loop import Preempted, fit, restore
    from components.training.recovery import newest_recovery, remove_recovery
    from components.training.supervision.watchdog import deferred_sigterm

    limit = step_timeout()
    with deferred_sigterm() as stop, delivered_through_store(store, run_key), tracker_of(record) as tracker:
        counts = {name: len(getattr(split, name)) for name in ("labeled", "unlabeled", "val")}
        manifest = store.uri(keys.dataset_manifest(record.dataset.digest))
        tracker.log_dataset(record.dataset.name, record.dataset.digest, manifest, counts)
        training = prepare_training(store, record, split, recipe, tracker)
        if training.group.leads:
            note_environment(store, run_key, _environment(training.group))
        recovery = newest_recovery(store, run_key)
        first = 0 if recovery is None else restore(training, recovery)
        if first:
            progress.say("train", f"resuming from step {first} of {training.plan.steps}")
        stopped = ""
        try:
            with Watchdog(limit, stacks) as watchdog:
                fit(training, first, stop=stop, watchdog=watchdog)
        except Preempted as preempted:
            stopped = str(preempted)
        _finish_uploads(training.uploads, stop, stopped)
    if training.group.leads:
        entries = tuple(_stored(store, entry) for _, entry in sorted(training.saved.items()))
        index = CheckpointIndex(run_key=run_key, checkpoints=entries)
        store.put_json(keys.checkpoint_index(run_key), index.model_dump(mode="json"))
        remove_recovery(store, run_key)


def _finish_uploads(uploads: "Uploads", stop: "Termination", stopped: str) -> None:
    """Wait for the uploads. If the process was asked to stop, exit, unless training is complete and all is stored.

    `stopped` is a message that names the last step, or empty if training is complete.
    """
    from components.training.supervision.uploads import NotStored

    try:
        uploads.finish(stop=stop)
    except NotStored as error:
        if not stop.is_set():
            raise
        progress.say("train", f"{stopped or 'stopped after the last step'}: {error}")
        sys.exit(TERMINATED)
    if stopped:
        progress.say("train", f"{stopped}, state saved in the object store")
        sys.exit(TERMINATED)


def _environment(group: "Group") -> Environment:
    import paddle

    return this_environment(processes=group.processes, device=paddle.device.get_device())


def _stored(store: Store, entry: CheckpointEntry) -> CheckpointEntry:
    """Return the entry with size and sha256, which recoveries of earlier versions may lack. Raises WorkFailed."""
    if entry.sha256:
        return entry
    found = store.stat(entry.key)
    if found is None:
        raise WorkFailed(f"checkpoint {store.uri(entry.key)} never arrived: remove the run's recovery to train again")
    return entry.model_copy(update={"sha256": found.sha256, "size": found.size})


def prepare_training(store: Store, record: RunRecord, split: Split, recipe: Recipe, tracker: Tracker) -> "Training":
    import paddle

    from components.dataset.stored.reader import DatasetReader
    from components.training.batch_norm import set_batch_norm
    from components.training.batches.data import TrainingData
    from components.training.early_stop import EarlyStop, hold_out
    from components.training.group import Group
    from components.training.loop import Training
    from components.training.losses import Criterion, min_kept_pixels, root_median_frequency
    from components.training.pair import Pair
    from components.training.precision import check_precision
    from components.training.pseudo_label_audit import Audit
    from components.training.schedule import burn_in_steps, plan
    from components.training.supervision.pending import pending_folder
    from components.training.supervision.uploads import Uploads

    check_precision(recipe.training.precision)
    group = Group()
    reader = DatasetReader(store, record.dataset.digest)
    split, held = hold_out(split, recipe.training.holdout, record.seed)
    length = plan(recipe, labeled=len(split.labeled), unlabeled=len(split.unlabeled), ratio=record.labeled_ratio)
    burn_in = burn_in_steps(recipe, length.steps)
    data = TrainingData(reader, split, recipe, record.seed, group.share, burn_in=burn_in)
    pair = Pair(recipe, len(reader.manifest.classes), record.seed, threads=group.alone)
    _load_pretrained(store, recipe, pair)
    set_batch_norm(pair.networks.values(), recipe.training, alone=group.alone)
    pair.start()
    weights = None
    if recipe.loss.class_weights == "root_median_frequency":
        weights = paddle.to_tensor(root_median_frequency(data.class_pixels()))
    images = recipe.training.batch_size // group.processes // recipe.training.accumulate
    criterion = Criterion(
        settings=recipe.loss,
        ignore_index=reader.manifest.ignore_index,
        min_kept=min_kept_pixels(recipe.loss, recipe.augmentation.crop, images),
        class_weights=weights,
        total=group.mean,
    )
    progress.say(
        "train",
        f"{len(split.labeled)} labelled and {len(split.unlabeled)} unlabelled images, "
        f"{quantity(length.epochs, 'epoch')} of {quantity(length.steps_per_epoch, 'step')}, checkpoints after epochs "
        f"{', '.join(map(str, length.checkpoint_epochs))}"
        + (f"; {quantity(len(held), 'labelled image')} held out, to stop early" if held else ""),
    )
    uploads = Uploads(store, pending_folder(record.run_key))
    early_stop = EarlyStop(held, reader, recipe) if held else None
    audit = Audit(data.decoded, reader.manifest, split, recipe, record.seed, group.share)
    return Training(
        record,
        recipe,
        length,
        pair,
        data,
        criterion,
        store,
        tracker,
        group,
        uploads,
        early_stop,
        audit if audit.possible else None,
    )


def _load_pretrained(store: Store, recipe: Recipe, pair: "Pair") -> None:
    backbones = recipe.network.backbones
    if not backbones:
        return
    from components.dataset.sources.fetch import fetch
    from components.networks.pretrained_weights.installed import IMAGENET, installed_file, installed_weights
    from components.networks.pretrained_weights.loading import load_backbone

    for source, sha256, names in backbones:
        with tempfile.TemporaryDirectory(prefix="cps-pretrained-") as folder:
            structure = recipe.network.structures[names[0]]
            if source == IMAGENET:
                _warn_of_other_normalisation(recipe, installed_weights(structure))
            place = str(installed_file(structure)) if source == IMAGENET else source
            path, _ = fetch(place, sha256, Path(folder), store, "train")
            for name in names:
                match = load_backbone(pair.networks[name], path)
        progress.say("train", f"pretrained weights {source}: {match}")


def _warn_of_other_normalisation(recipe: Recipe, weights: "Installed") -> None:
    used = recipe.augmentation
    if (used.mean, used.std) != (weights.mean, weights.std):
        progress.warn(
            "train",
            f"network.pretrained={recipe.network.pretrained} expects augmentation.mean={list(weights.mean)} "
            f"and augmentation.std={list(weights.std)}; with other values the backbone recognises less",
        )


def tracker_of(record: RunRecord) -> Tracker:
    recipe = parse_recipe(record.settings, f"run {record.run_key}")
    settings = {
        f"{group}.{name}": str(value)
        for group, values in record.settings.items()
        if isinstance(values, dict)
        for name, value in values.items()
    }
    params = {
        "recipe": record.recipe,
        "labeled_ratio": record.labeled_ratio,
        "seed": str(record.seed),
        "dataset_digest": record.dataset.digest,
        "split_fingerprint": record.split,
        "method_version": str(record.method_version),
        **settings,
    }
    tags = {
        "recipe": record.recipe,
        "labeled_ratio": record.labeled_ratio,
        "ratio": record.labeled_ratio,  # its name in 0.1, kept for saved searches until 0.3
        "seed": str(record.seed),
        "method": "cps" if recipe.cps.weight else "supervised",
        "dataset": record.dataset.name,
        **({"reproduces": record.reproduces} if record.reproduces else {}),
    }
    return open_run(record.run_key, record.dataset.name, params, tags)
