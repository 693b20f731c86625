"""A run's checkpoints: the index that training writes at its end, and the networks, ready to score."""

import hashlib
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from components.contract import Frozen, read
from components.errors import WorkFailed
from components.runs.result import RunResult, find_result
from components.storage import keys

if TYPE_CHECKING:
    from components.inference.checkpoint import Checkpoint
    from components.storage.client import Store


class CheckpointEntry(Frozen):
    """A saved checkpoint. `sha256` and `size` are set once it is packed."""

    epoch: int
    step: int
    """Training steps completed when it was saved."""
    key: str
    sha256: str = ""
    size: int = 0
    """Bytes."""
    content: str = ""
    """sha256 over its tensors; empty in an index that an earlier version wrote."""

    def packed(self, data: bytes, content: str) -> "CheckpointEntry":
        """Return the entry of the checkpoint whose bytes are `data`."""
        return self.model_copy(
            update={"sha256": hashlib.sha256(data).hexdigest(), "size": len(data), "content": content}
        )


class CheckpointIndex(Frozen):
    """checkpoints/index.json, which is only written when training is complete."""

    run_key: str
    checkpoints: tuple[CheckpointEntry, ...]
    """Ordered by epoch."""


def read_index(store: "Store", run_key: str) -> tuple[CheckpointEntry, ...]:
    """Return the checkpoints of a fully trained run, ordered by epoch. Raises MissingObject, WorkFailed."""
    key = keys.checkpoint_index(run_key)
    found = read(CheckpointIndex, store.get_json(key), store.uri(key)).checkpoints
    if not found:
        raise WorkFailed(f"{store.uri(key)} lists no checkpoints: train the run again")
    return tuple(sorted(found, key=lambda entry: entry.epoch))


def finished_index(store: "Store", run_key: str) -> CheckpointIndex | None:
    """Return a run's checkpoint index, or None if it does not exist or a checkpoint is missing from the store."""
    key = keys.checkpoint_index(run_key)
    if store.stat(key) is None:
        return None
    index = read(CheckpointIndex, store.get_json(key), store.uri(key))
    stored = {item.key: item.size for item in store.list(keys.run(run_key, "checkpoints/"))}
    return index if all(stored.get(entry.key) == entry.size for entry in index.checkpoints) else None


def finished_result(store: "Store", run_key: str, entries: Sequence[CheckpointEntry]) -> RunResult | None:
    """Return the stored result if it is based on these checkpoints and its weights and report still exist."""
    try:
        result = find_result(store, run_key)
    except WorkFailed:
        return None  # this version cannot read its format, so it is rebuilt from the scores
    if result is None:
        return None
    best, digest = result.best, result.protocol.checkpoint_sha256
    stored = store.stat(keys.best_weights(run_key, pair=best.variant == "ensemble"))
    same = (
        [row.epoch for row in result.checkpoints] == [entry.epoch for entry in entries]
        and any(entry.epoch == best.epoch and entry.sha256 == digest for entry in entries)
        and stored is not None
        and stored.sha256 == result.weights.sha256
        and store.stat(keys.run(run_key, "report.html")) is not None
    )
    return result if same else None


def fetch_checkpoint(
    store: "Store",
    entry: CheckpointEntry,
    path: Path,
    *,
    split: str,
    classes: int,
    threads: int,
    allow_bf16: bool = False,
) -> "Checkpoint":
    """Download a checkpoint to `path` and open its networks.

    Args:
        split, classes: the split fingerprint and number of classes that the weights must have been trained with.
        threads: number of threads that will run the networks concurrently.

    Raises:
        WorkFailed: the checkpoint is damaged or belongs to another run.
    """
    from components.inference.checkpoint import check_belongs, open_checkpoint

    checkpoint = open_checkpoint(store.get_file(entry.key, path, entry.sha256), threads=threads, allow_bf16=allow_bf16)
    check_belongs(checkpoint.description, origin=store.uri(entry.key), split=split, classes=classes)
    return checkpoint
