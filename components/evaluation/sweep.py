"""Score checkpoints on every validation image: left, right and ensemble, from the same windows.

Each shard of the fan-out scores its share of the checkpoints. Stored scores are reused, so an interrupted sweep
resumes.
"""

import re
import tempfile
import threading
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple, TypeVar

from components import progress
from components.dataset.manifest import Manifest, Sample
from components.dataset.split import Split
from components.dataset.stored.reader import DatasetReader
from components.disk import default_cache, scratch_of
from components.errors import UserError, WorkFailed
from components.evaluation.agreement import Agreement
from components.evaluation.comparison.pairs import ValidationPairs
from components.evaluation.scores import Counts, Protocol, Scores, pack, unpack
from components.evaluation.snapshots import Snapshots
from components.inference.checkpoint import Checkpoint
from components.inference.engine import EXACT, choose, is_exact
from components.inference.output import Output, Truth
from components.inference.segmentation import segment
from components.inference.sliding import images_in_flight
from components.metrics.boundary import boundary_counts
from components.metrics.confusion import ClassIds
from components.recipes.loader import parse_recipe
from components.recipes.model import Recipe
from components.runs.checkpoints import CheckpointEntry, fetch_checkpoint, read_index
from components.runs.record import RunRecord, load_run
from components.runs.result import VARIANTS, Variant
from components.storage import keys
from components.storage.client import MissingObject

if TYPE_CHECKING:
    from components.storage.client import Store

STEP = "evaluate"
T = TypeVar("T")


@dataclass(frozen=True)
class Sweep:
    """The images that all checkpoints of a run are scored on, and the protocol."""

    run_key: str
    recipe: Recipe
    split: Split
    manifest: Manifest
    protocol: Protocol


def open_sweep(store: "Store", run_key: str, cache: Path | None) -> tuple[Sweep, DatasetReader]:
    """Return the sweep of a run, and the reader of its dataset, which the caller must close."""
    record, split = load_run(store, run_key)
    reader = DatasetReader(store, record.dataset.digest, cache)
    return sweep_of(record, split, reader), reader


def sweep_of(record: RunRecord, split: Split, reader: DatasetReader) -> Sweep:
    """Return the sweep of a run on its dataset. Raises UserError."""
    recipe = parse_recipe(record.settings, f"run {record.run_key}")
    engine = choose(allow_bf16=recipe.evaluation.bf16)
    protocol = Protocol(
        split=split.fingerprint,
        classes=tuple(item.name for item in reader.manifest.classes),
        ignore_index=reader.manifest.ignore_index,
        crop=recipe.evaluation.crop,
        stride=recipe.evaluation.stride,
        # Exact engines differ only by rounding, so the scores of one are valid for all of them.
        engine=EXACT if is_exact(engine) else engine,
        scales=recipe.evaluation.scales,
        flip=recipe.evaluation.flip,
        longest_side=recipe.network.longest_side,
    )
    return Sweep(record.run_key, recipe, split, reader.manifest, protocol)


def stored_scores(store: "Store", run_key: str, entry: CheckpointEntry, protocol: Protocol) -> Scores | None:
    """Return the stored scores of this checkpoint under this protocol, or None if they must be computed."""
    key = keys.scores(run_key, entry.epoch)
    try:
        scores = unpack(store.get_bytes(key), store.uri(key))
    except MissingObject:
        return None
    if scores is None or (scores.checkpoint_sha256, scores.protocol) != (entry.sha256, protocol):
        return None
    return scores


def evaluate_shard(run_key: str, shard: str, store: "Store", cache: Path | None = None) -> dict[str, list[int]]:
    """Score this shard's checkpoints and store the scores.

    Args:
        shard: "i/n": every n-th checkpoint, starting with the i-th (from 0).
        cache: where to keep dataset shards; the reader's default if not given.

    Returns:
        The epochs, as {"scored": [...], "reused": [...]}.

    Raises:
        UserError: the shard is malformed.
        WorkFailed: a checkpoint is missing or damaged, or belongs to another run.
    """
    part = parse_shard(shard)
    sweep, reader = open_sweep(store, run_key, cache)
    with reader:
        entries = part.take(read_index(store, run_key))
        todo = [entry for entry in entries if stored_scores(store, run_key, entry, sweep.protocol) is None]
        reused = [entry.epoch for entry in entries if entry not in todo]
        if reused:
            progress.say(STEP, f"{len(reused)} of {len(entries)} checkpoints in shard {part} are already scored")
        if todo:
            _score_all(store, sweep, reader, todo, cache or default_cache())
    return {"scored": [entry.epoch for entry in todo], "reused": reused}


def _score_all(store: "Store", sweep: Sweep, reader: DatasetReader, todo: list[CheckpointEntry], cache: Path) -> None:
    samples = with_label(sweep.split.val)
    if not samples:
        raise WorkFailed(f"dataset {sweep.manifest.name} has no labelled validation images: add some")
    scratch = scratch_of(cache)
    with (
        ValidationPairs(reader, samples, scratch) as images,
        tempfile.TemporaryDirectory(dir=scratch) as folder,
    ):
        workers = images_in_flight(images.pair(0)[1].size, len(sweep.protocol.classes))
        report = ImageProgress(len(todo) * len(images))
        near_copies: tuple[str, ...] | None = None
        for entry in todo:
            checkpoint = fetch_checkpoint(
                store,
                entry,
                Path(folder) / "checkpoint.safetensors",
                split=sweep.protocol.split,
                classes=len(sweep.protocol.classes),
                threads=workers,
                allow_bf16=sweep.recipe.evaluation.bf16,
            )
            report.start(entry.epoch)
            snapshots, agreement = Snapshots(images.names), Agreement()
            predicted = _each(snapshots.keep, agreement.observe)
            counts = score_images(checkpoint, images, sweep, workers, report.image_done, predicted=predicted)
            store.put_bytes(keys.snapshots(sweep.run_key, entry.epoch), snapshots.pack())
            if near_copies is None:  # not before, because the images are decoded now
                near_copies = images.near_copies()
            scores = Scores(
                entry.epoch,
                entry.step,
                entry.sha256,
                sweep.protocol,
                images.names,
                counts,
                near_copies,
                agreement.share,
            )
            store.put_bytes(keys.scores(sweep.run_key, entry.epoch), pack(scores))
            progress.say(STEP, describe(scores))


def _each(*takers: Callable[[int, Variant, ClassIds], None]) -> Callable[[int, Variant, ClassIds], None]:
    """Return a function that passes its arguments on to all takers."""

    def take(number: int, variant: Variant, ids: ClassIds) -> None:
        for taker in takers:
            taker(number, variant, ids)

    return take


def with_label(samples: Sequence[Sample]) -> list[tuple[str, str]]:
    """Return (image, label) of the samples that have a label."""
    return [(sample.image, sample.label) for sample in samples if sample.label is not None]


def describe(scores: Scores) -> str:
    """Return the mIoU of each variant as a log line."""
    figures = ", ".join(f"{variant} {100 * scores.mean_iou(variant):.1f} %" for variant in scores.counts)
    return f"epoch {scores.epoch}: mIoU {figures}"


def score_images(
    checkpoint: Checkpoint,
    images: ValidationPairs,
    sweep: Sweep,
    workers: int,
    image_done: Callable[[], None] = lambda: None,
    variants: Sequence[Variant] = VARIANTS,
    predicted: Callable[[int, Variant, ClassIds], None] | None = None,
) -> dict[Variant, Counts]:
    """Return the counts over all images for each variant.

    Args:
        workers: number of images to score concurrently.
        image_done: called after each image.
        predicted: called with the number of each image, the variant and the predicted ids, from several threads.
    """
    branches = [branch for branch in ("left", "right") if branch in variants or "ensemble" in variants]
    engines = [checkpoint.engines[branch] for branch in branches]
    groups = [range(len(branches)) if variant == "ensemble" else [branches.index(variant)] for variant in variants]
    description, protocol = checkpoint.description, sweep.protocol
    count = len(protocol.classes)
    counts = {variant: Counts.zeros(len(images), count) for variant in variants}
    counting = threading.Lock()

    def score(number: int) -> None:
        image, label = images.pair(number)
        found = segment(
            engines,
            image,
            protocol.window(sweep.recipe.evaluation.batch),
            mean=description.mean,
            std=description.std,
            output=Output(groups, Truth(label, count, protocol.ignore_index)),
        )
        for variant, item in zip(variants, found, strict=True):
            assert item.matrix is not None, "the truth was given"
            if predicted is not None:
                predicted(number, variant, item.ids)
            bands = boundary_counts(label, item.ids, count, protocol.ignore_index, protocol.boundary_ratio)
            with counting:
                counts[variant].add(number, item.matrix, bands)
        image_done()

    with ThreadPoolExecutor(workers) as pool:
        # Iterating over the results re-raises the threads' errors.
        for _ in pool.map(score, range(len(images))):
            pass
    return counts


class ImageProgress:
    """Counts images over all checkpoints and reports progress about once a second."""

    def __init__(self, total: int, step: str = STEP) -> None:
        self._step, self._total, self._done, self._epoch = step, total, 0, 0
        self._started = self._said = time.monotonic()

    def start(self, epoch: int) -> None:
        self._epoch = epoch

    def image_done(self) -> None:
        self._done += 1
        now = time.monotonic()
        if now - self._said >= 1 or self._done == self._total:
            self._said = now
            rate = self._done / (now - self._started)
            progress.advance(self._step, self._done, self._total, f"epoch {self._epoch}, {rate:.1f} images/s")


class Shard(NamedTuple):
    """Part `number` (from 0) of `total`."""

    number: int
    total: int

    def take(self, items: Sequence[T]) -> list[T]:
        """Return every `total`-th item. Parts differ by at most one item; with few items, some are empty."""
        return list(items[self.number :: self.total])

    def __str__(self) -> str:
        return f"{self.number}/{self.total}"


def parse_shard(text: str) -> Shard:
    """Parse "1/4", the second of four shards. Raises UserError."""
    match = re.fullmatch(r"\s*(\d{1,6})\s*/\s*(\d{1,6})\s*", text)
    if not match or int(match[1]) >= int(match[2]):
        raise UserError(f"shard {text!r} must be i/n with 0 <= i < n, such as 1/4 for the second of four")
    return Shard(int(match[1]), int(match[2]))


def evaluate_step(run_key: str, shard: str) -> dict[str, list[int]]:
    """Score the checkpoints of shard "i/n" (i from 0). Return the epochs as {"scored": [...], "reused": [...]}."""
    from components.evaluation.sweep import evaluate_shard
    from components.storage.client import reopen_store

    return evaluate_shard(run_key, shard, reopen_store())
