"""The train step of the pipeline: find the run's state in the store, and bring it to its end."""

import sys
import tempfile
from pathlib import Path
from threading import Event
from typing import Any

from components import progress
from components.dataset.run import RunRecord, load_run
from components.dataset.split import Split
from components.networks import processor
from components.recipes.loader import parse_recipe
from components.storage import keys
from components.storage.client import Store, open_store
from components.storage.lease import Lease

TERMINATED = 143


def train(run_key: str, processes: int = 1) -> dict[str, Any]:
    """Train the run `run_key`, or find it trained; returns the index of its checkpoints.

    A run that was stopped goes on from its newest recovery. Ends the process with code 143 after SIGTERM.
    """
    store = open_store()
    index = finished_index(store, run_key)
    if index is not None:
        progress.say("train", f"done before: {len(index['checkpoints'])} checkpoints")
        return index
    with Lease(store, keys.run(run_key, "lease.json"), {"run": run_key}) as lease:
        if processes > 1:
            from components.training.launch import train_in_processes

            train_in_processes(run_key, processes)
        else:
            train_here(store, run_key, processes=1, lost=lease.lost)
    index = finished_index(store, run_key)
    assert index is not None, "a training that ended well wrote its index"
    return index


def finished_index(store: Store, run_key: str) -> dict[str, Any] | None:
    """The index of a complete training whose checkpoints are all still there, else None."""
    key = keys.checkpoint_index(run_key)
    if store.stat(key) is None:
        return None
    index: dict[str, Any] = store.get_json(key)
    there = {item.key: item.size for item in store.list(keys.run(run_key, "checkpoints/"))}
    whole = all(there.get(entry["key"]) == entry["size"] for entry in index["checkpoints"])
    return index if whole else None


def train_here(store: Store, run_key: str, *, processes: int, lost: Event | None = None) -> None:
    """Train in this process, which is one of `processes` on this machine, and write the index.

    `lost` is set when another process took the run over, which ends this one.
    """
    record, split = load_run(store, run_key)
    recipe = parse_recipe(record.settings, f"run {run_key}")
    chosen = processor.prepare(networks=2 if processes == 1 else 1, processes=processes)
    if chosen:
        progress.say("train", "set for this processor: " + ", ".join(f"{k}={v}" for k, v in chosen.items()))
    from components.training.loop import Preempted, fit, restore
    from components.training.recovery import newest_recovery, remove_recovery

    with _tracker(record) as tracker:
        training = _prepare(store, record, split, recipe, tracker)
        recovery = newest_recovery(store, run_key)
        first = 0 if recovery is None else restore(training, recovery)
        if first:
            progress.say("train", f"going on from step {first} of {training.plan.steps}")
        try:
            checkpoints = fit(training, first, lost or Event())
        except Preempted as stopped:
            progress.say("train", str(stopped))
            sys.exit(TERMINATED)
    if training.group.leads:
        store.put_json(keys.checkpoint_index(run_key), {"run_key": run_key, "checkpoints": checkpoints})
        remove_recovery(store, run_key)


def _prepare(store: Store, record: RunRecord, split: Split, recipe: Any, tracker: Any) -> Any:
    import paddle

    from components.dataset.reader import DatasetReader
    from components.training.data import TrainingData
    from components.training.group import Group
    from components.training.loop import Training
    from components.training.losses import Criterion, min_kept_pixels, root_median_frequency
    from components.training.pair import Pair
    from components.training.schedule import plan

    group = Group()
    reader = DatasetReader(store, record.dataset.digest)
    data = TrainingData(reader, split, recipe, record.seed, group.share)
    length = plan(recipe, labeled=len(split.labeled), unlabeled=len(split.unlabeled), ratio=record.ratio)
    pair = Pair(recipe, len(reader.manifest.classes), record.seed, threads=group.alone)
    _load_pretrained(store, recipe, pair)
    pair.start()
    weights = None
    if recipe.loss.class_weights == "root_median_frequency":
        weights = paddle.to_tensor(root_median_frequency(data.class_pixels()))
    criterion = Criterion(
        settings=recipe.loss,
        ignore_index=reader.manifest.ignore_index,
        min_kept=min_kept_pixels(recipe.loss, recipe.augmentation.crop, recipe.training.batch_size // group.processes),
        class_weights=weights,
        total=group.mean,
    )
    progress.say(
        "train",
        f"{len(split.labeled)} labelled and {len(split.unlabeled)} unlabelled images, {length.epochs} epochs of "
        f"{length.steps_per_epoch} steps, checkpoints after epochs {', '.join(map(str, length.checkpoint_epochs))}",
    )
    return Training(record, recipe, length, pair, data, criterion, store, tracker, group)


def _load_pretrained(store: Store, recipe: Any, pair: Any) -> None:
    if not recipe.network.pretrained:
        return
    from components.dataset.fetch import fetch
    from components.networks.pretrained import load_backbone

    with tempfile.TemporaryDirectory(prefix="cps-pretrained-") as folder:
        path, _ = fetch(recipe.network.pretrained, recipe.network.pretrained_sha256, Path(folder), store, "train")
        matches = [load_backbone(network, path) for network in pair.networks.values()]
    progress.say("train", f"pretrained weights {recipe.network.pretrained}: {matches[0]}")


def _tracker(record: RunRecord) -> Any:
    from components.tracking.client import open_run

    settings = {
        f"{group}.{name}": value
        for group, values in record.settings.items()
        if isinstance(values, dict)
        for name, value in values.items()
    }
    params = {
        "recipe": record.recipe,
        "ratio": record.ratio,
        "seed": record.seed,
        "dataset_digest": record.dataset.digest,
        "split_fingerprint": record.split,
        "method_version": record.method_version,
        **settings,
    }
    tags = {
        "recipe": record.recipe,
        "ratio": record.ratio,
        "seed": record.seed,
        "dataset": record.dataset.name,
    }
    return open_run(record.run_key, record.dataset.name, params, tags)
