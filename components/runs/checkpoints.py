"""The checkpoints of a run: the index that a finished training leaves, and their weights, ready to score."""

import hashlib
from pathlib import Path
from typing import TYPE_CHECKING

from components.contract import Frozen, read
from components.errors import WorkFailed
from components.storage import keys

if TYPE_CHECKING:
    from components.inference.checkpoint import Checkpoint
    from components.storage.client import Store


class CheckpointEntry(Frozen):
    """A saved checkpoint. `sha256` and `size` are known once it is packed."""

    epoch: int
    step: int
    """Training steps made until then."""
    key: str
    sha256: str = ""
    size: int = 0
    """Bytes."""
    content: str = ""
    """The sha256 over its tensors; empty in an index of an earlier version."""

    def packed(self, data: bytes, content: str) -> "CheckpointEntry":
        """Return the entry of the checkpoint whose bytes are `data`."""
        return self.model_copy(
            update={"sha256": hashlib.sha256(data).hexdigest(), "size": len(data), "content": content}
        )


class CheckpointIndex(Frozen):
    """checkpoints/index.json: written when the training is complete, and not before."""

    run_key: str
    checkpoints: tuple[CheckpointEntry, ...]
    """By growing epoch."""


def read_index(store: "Store", run_key: str) -> tuple[CheckpointEntry, ...]:
    """Return the checkpoints of a complete training, by epoch. Raises MissingObject, WorkFailed."""
    key = keys.checkpoint_index(run_key)
    found = read(CheckpointIndex, store.get_json(key), store.uri(key)).checkpoints
    if not found:
        raise WorkFailed(f"{store.uri(key)} lists no checkpoint: train again")
    return tuple(sorted(found, key=lambda entry: entry.epoch))


def finished_index(store: "Store", run_key: str) -> CheckpointIndex | None:
    """Return the index of a complete training whose checkpoints are all still in the store, else None."""
    key = keys.checkpoint_index(run_key)
    if store.stat(key) is None:
        return None
    index = read(CheckpointIndex, store.get_json(key), store.uri(key))
    there = {item.key: item.size for item in store.list(keys.run(run_key, "checkpoints/"))}
    return index if all(there.get(entry.key) == entry.size for entry in index.checkpoints) else None


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
        split, classes: the fingerprint and the number of classes that the weights must have been trained with.
        threads: that will run the networks at once.

    Raises:
        WorkFailed: it is damaged, or belongs to another run.
    """
    from components.inference.checkpoint import check_belongs, open_checkpoint

    checkpoint = open_checkpoint(store.get_file(entry.key, path, entry.sha256), threads=threads, allow_bf16=allow_bf16)
    check_belongs(checkpoint.description, origin=store.uri(entry.key), split=split, classes=classes)
    return checkpoint
