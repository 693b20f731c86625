"""Score checkpoints on every validation image: left, right and their average, from the same windows.

A shard of the fan-out takes its share of the checkpoints. Scores that are in the store are not computed
again, so a killed sweep goes on where it was.
"""

import tempfile
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from components import progress
from components.dataset.manifest import Manifest
from components.dataset.reader import DatasetReader, default_cache
from components.dataset.run import load_run
from components.dataset.split import Split
from components.errors import WorkFailed
from components.evaluation.images import DecodedImages
from components.evaluation.scores import VARIANTS, Protocol, Scores, Variant, pack, unpack
from components.evaluation.shards import parse_shard
from components.inference.checkpoint import Checkpoint, check_belongs, open_checkpoint
from components.inference.probabilities import mean_probabilities, most_likely
from components.inference.sliding import images_in_flight, normalize, sliding_logits
from components.metrics.confusion import Matrix, confusion_matrix
from components.recipes.loader import parse_recipe
from components.recipes.model import Recipe
from components.storage import keys
from components.storage.client import MissingObject

if TYPE_CHECKING:
    from components.storage.client import Store

STEP = "evaluate"


@dataclass(frozen=True)
class CheckpointEntry:
    """A line of the run's checkpoint index."""

    epoch: int
    step: int
    key: str
    sha256: str


@dataclass(frozen=True)
class Sweep:
    """What all checkpoints of a run are scored on, and how."""

    run_key: str
    recipe: Recipe
    split: Split
    manifest: Manifest
    protocol: Protocol


def open_sweep(store: "Store", run_key: str, cache: Path | None) -> tuple[Sweep, DatasetReader]:
    record, split = load_run(store, run_key)
    recipe = parse_recipe(record.settings, store.uri(keys.run(run_key, "run.json")))
    reader = DatasetReader(store, record.dataset.digest, cache)
    protocol = Protocol(
        split=split.fingerprint,
        classes=tuple(item.name for item in reader.manifest.classes),
        ignore_index=reader.manifest.ignore_index,
        crop=recipe.evaluation.crop,
        stride=recipe.evaluation.stride,
        # Which exact engine computes changes no score: those that another machine has stored stay valid.
        engine="exact",
    )
    return Sweep(run_key, recipe, split, reader.manifest, protocol), reader


def read_index(store: "Store", run_key: str) -> list[CheckpointEntry]:
    """The checkpoints of a complete training, by epoch. Raises MissingObject, WorkFailed."""
    key = keys.checkpoint_index(run_key)
    try:
        found = [
            CheckpointEntry(int(item["epoch"]), int(item["step"]), item["key"], item["sha256"])
            for item in store.get_json(key)["checkpoints"]
        ]
    except (KeyError, TypeError, ValueError) as error:
        raise WorkFailed(f"{store.uri(key)} is malformed ({error}): train again") from error
    if not found:
        raise WorkFailed(f"{store.uri(key)} lists no checkpoint: train again")
    return sorted(found, key=lambda entry: entry.epoch)


def stored_scores(store: "Store", run_key: str, entry: CheckpointEntry, protocol: Protocol) -> Scores | None:
    """The scores of this very checkpoint under this protocol; None where they must be computed."""
    key = keys.scores(run_key, entry.epoch)
    try:
        scores = unpack(store.get_bytes(key), store.uri(key))
    except MissingObject:
        return None
    if (scores.checkpoint_sha256, scores.protocol) != (entry.sha256, protocol):
        return None
    return scores


def evaluate_shard(run_key: str, shard: str, store: "Store", cache: Path | None = None) -> dict[str, list[int]]:
    """Score this shard's checkpoints and store the scores.

    Args:
        shard: "i/n": every n-th checkpoint, from the i-th (from 0).
        cache: where dataset shards are kept; the reader's default when not given.

    Returns:
        Epochs, as {"scored": [...], "reused": [...]}.

    Raises:
        UserError: the shard is malformed.
        WorkFailed: a checkpoint is missing, is not the one that was saved, or belongs to another run.
    """
    part = parse_shard(shard)
    sweep, reader = open_sweep(store, run_key, cache)
    with reader:
        entries = part.take(read_index(store, run_key))
        todo = [entry for entry in entries if stored_scores(store, run_key, entry, sweep.protocol) is None]
        reused = [entry.epoch for entry in entries if entry not in todo]
        if reused:
            progress.say(STEP, f"{len(reused)} of {len(entries)} checkpoints of shard {part} are scored already")
        if todo:
            _score_all(store, sweep, reader, todo, cache or default_cache())
    return {"scored": [entry.epoch for entry in todo], "reused": reused}


def _score_all(store: "Store", sweep: Sweep, reader: DatasetReader, todo: list[CheckpointEntry], cache: Path) -> None:
    samples = [(sample.image, sample.label) for sample in sweep.split.val if sample.label is not None]
    if not samples:
        raise WorkFailed(f"dataset {sweep.manifest.name} has no validation image with a label")
    scratch = cache / "scratch"
    scratch.mkdir(parents=True, exist_ok=True)
    with (
        DecodedImages(reader, samples, scratch) as images,
        tempfile.TemporaryDirectory(dir=scratch) as folder,
    ):
        workers = images_in_flight(images.pair(0)[1].size, len(sweep.protocol.classes))
        report = _Progress(len(todo) * len(images))
        for entry in todo:
            uri = store.uri(entry.key)
            path = store.get_file(entry.key, Path(folder) / "checkpoint.safetensors", entry.sha256)
            checkpoint = open_checkpoint(path, threads=workers)
            check_belongs(
                checkpoint.description,
                origin=uri,
                split=sweep.split.fingerprint,
                classes=len(sweep.protocol.classes),
            )
            report.start(entry.epoch)
            matrices = score_images(checkpoint, images, sweep, workers, report.image_done)
            scores = Scores(entry.epoch, entry.step, entry.sha256, sweep.protocol, images.names, matrices)
            store.put_bytes(keys.scores(sweep.run_key, entry.epoch), pack(scores))
            progress.say(STEP, describe(scores))


def describe(scores: Scores) -> str:
    figures = ", ".join(f"{variant} {100 * scores.mean_iou(variant):.1f} %" for variant in VARIANTS)
    return f"epoch {scores.epoch}: mIoU {figures}"


def score_images(
    checkpoint: Checkpoint,
    images: DecodedImages,
    sweep: Sweep,
    workers: int,
    image_done: Callable[[], None] = lambda: None,
) -> dict[Variant, Matrix]:
    """Confusion matrices (N, C, C) of every image for each variant; `workers` images at a time."""
    engines = [checkpoint.engines[branch] for branch in ("left", "right")]
    description, protocol = checkpoint.description, sweep.protocol
    count = len(protocol.classes)
    matrices: dict[Variant, Matrix] = {variant: np.zeros((len(images), count, count), np.int64) for variant in VARIANTS}

    def score(number: int) -> None:
        image, label = images.pair(number)
        logits = sliding_logits(
            engines,
            normalize(image, description.mean, description.std),
            crop=protocol.crop,
            stride=protocol.stride,
            batch=sweep.recipe.evaluation.batch,
        )
        predictions: dict[Variant, Any] = {
            "left": most_likely(logits[0]),
            "right": most_likely(logits[1]),
            "mean": most_likely(mean_probabilities(logits)),
        }
        for variant, prediction in predictions.items():
            matrices[variant][number] = confusion_matrix(label, prediction, count, protocol.ignore_index)
        image_done()

    with ThreadPoolExecutor(workers) as pool:
        # Reading the results is what raises an error of a thread here.
        for _ in pool.map(score, range(len(images))):
            pass
    return matrices


class _Progress:
    """Counts images over all checkpoints of a shard, and says so about once a second."""

    def __init__(self, total: int) -> None:
        self._total, self._done, self._epoch = total, 0, 0
        self._started = self._said = time.monotonic()

    def start(self, epoch: int) -> None:
        self._epoch = epoch

    def image_done(self) -> None:
        self._done += 1
        now = time.monotonic()
        if now - self._said >= 1 or self._done == self._total:
            self._said = now
            rate = self._done / (now - self._started)
            progress.advance(STEP, self._done, self._total, f"epoch {self._epoch}, {rate:.1f} images/s")
