"""The index of a finished training: its checkpoints, by epoch."""

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from components.errors import WorkFailed
from components.storage import keys

if TYPE_CHECKING:
    from components.storage.client import Store


@dataclass(frozen=True)
class CheckpointEntry:
    """A line of the run's checkpoint index."""

    epoch: int
    step: int
    key: str
    sha256: str
    content: str = ""
    """The sha256 over its tensors; empty in an index of an earlier version."""


def read_index(store: "Store", run_key: str) -> list[CheckpointEntry]:
    """The checkpoints of a complete training, by epoch. Raises MissingObject, WorkFailed."""
    key = keys.checkpoint_index(run_key)
    try:
        found = [
            CheckpointEntry(int(item["epoch"]), int(item["step"]), item["key"], item["sha256"], item.get("content", ""))
            for item in store.get_json(key)["checkpoints"]
        ]
    except (KeyError, TypeError, ValueError) as error:
        raise WorkFailed(f"{store.uri(key)} is malformed ({error}): train again") from error
    if not found:
        raise WorkFailed(f"{store.uri(key)} lists no checkpoint: train again")
    return sorted(found, key=lambda entry: entry.epoch)


def finished_index(store: "Store", run_key: str) -> dict[str, Any] | None:
    """The index of a complete training whose checkpoints are all still there, else None."""
    key = keys.checkpoint_index(run_key)
    if store.stat(key) is None:
        return None
    index: dict[str, Any] = store.get_json(key)
    there = {item.key: item.size for item in store.list(keys.run(run_key, "checkpoints/"))}
    whole = all(there.get(entry["key"]) == entry["size"] for entry in index["checkpoints"])
    return index if whole else None
