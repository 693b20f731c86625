"""Recoveries: the complete training state in the store. A killed training resumes from the newest one.

Two objects, the slots, are written alternately: while one is being written, or turns out to be damaged, the other is
intact. A recovery gets its slot when its upload starts, because some waiting recoveries are replaced and never stored:
it takes the slot that does not hold the newest stored recovery.
"""

import json
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from safetensors import SafetensorError
from safetensors.numpy import load, save

from components import progress
from components.errors import WorkFailed
from components.networks.device import on_gpu
from components.recipes.model import Training
from components.storage import keys
from components.storage.client import Store

FORMAT = "cps-recovery/1"
CPU_SECONDS, GPU_SECONDS = 60.0, 600.0
"""Default times between recoveries."""


@dataclass(frozen=True)
class Recovery:
    """Training state: `step` is the next step to run; `notes` is the loop's other state, as JSON values."""

    step: int
    arrays: dict[str, NDArray[Any]]
    notes: dict[str, Any]
    slot: int = 0


class RecoveryTimer:
    """Tells when the next recovery is due: by time, because its cost does not depend on how long a step takes."""

    def __init__(self, settings: Training) -> None:
        self._seconds = settings.recovery_seconds or (GPU_SECONDS if on_gpu() else CPU_SECONDS)
        self._steps = settings.recovery_steps
        self.restart()

    def due(self, next_step: int) -> bool:
        by_steps = self._steps > 0 and next_step % self._steps == 0
        return by_steps or time.monotonic() - self._since >= self._seconds

    def restart(self) -> None:
        self._since = time.monotonic()


def pack_recovery(recovery: Recovery, run_key: str) -> bytes:
    meta = {
        "format": FORMAT,
        "run_key": run_key,
        "step": str(recovery.step),
        "notes": json.dumps(recovery.notes),
    }
    return bytes(save(recovery.arrays, meta))


def rank_prefix(rank: int) -> str:
    """Return the name prefix of arrays that belong to one process."""
    return f"rank{rank}."


def arrays_of_rank(recovery: Recovery, rank: int, processes: int) -> dict[str, NDArray[Any]]:
    """Return the state for a process to resume from: its own, or the mean if the number of processes changed."""
    saved = int(recovery.notes.get("processes", 1))
    by_rank = [_of_rank(recovery.arrays, number) for number in range(saved)]
    common = {name: array for name, array in recovery.arrays.items() if not name.startswith("rank")}
    return {**common, **(by_rank[rank] if saved == processes else mean_arrays(by_rank))}


def mean_arrays(parts: Sequence[Mapping[str, NDArray[np.float32]]]) -> dict[str, NDArray[np.float32]]:
    """Return the mean of the arrays with the same name."""
    return {name: np.mean([part[name] for part in parts], axis=0, dtype=np.float32) for name in parts[0]}


def _of_rank(arrays: Mapping[str, NDArray[Any]], rank: int) -> dict[str, NDArray[Any]]:
    prefix = rank_prefix(rank)
    return {name.removeprefix(prefix): array for name, array in arrays.items() if name.startswith(prefix)}


def recovery_key(run_key: str, slot: int) -> str:
    return keys.run(run_key, f"recovery.{slot}.safetensors")


def unplaced_key(run_key: str) -> str:
    """Return the key of a recovery without a slot: one that waits in memory or on local disk."""
    return keys.run(run_key, "recovery.safetensors")


def newest_recovery(store: Store, run_key: str) -> Recovery | None:
    """Return the newest intact recovery whose checkpoints are all in the store; report the ones that are ignored."""
    found = []
    for slot in (0, 1):
        key = recovery_key(run_key, slot)
        if store.stat(key) is None:
            continue
        try:
            found.append(parse_recovery(store.get_bytes(key), run_key, store.uri(key), slot))
        except WorkFailed as error:
            progress.say("train", f"ignoring a damaged recovery: {error}")
    stored = {item.key for item in store.list(keys.run(run_key, "checkpoints/"))}
    for recovery in sorted(found, key=lambda recovery: recovery.step, reverse=True):
        missing = [entry["key"] for entry in recovery.notes["checkpoints"] if entry["key"] not in stored]
        if not missing:
            return recovery
        progress.say("train", f"ignoring the recovery of step {recovery.step}: {missing[0]} was never stored")
    return None


def remove_recovery(store: Store, run_key: str) -> None:
    for slot in (0, 1):
        store.remove(recovery_key(run_key, slot))


def parse_recovery(data: bytes, run_key: str, origin: str, slot: int = 0) -> Recovery:
    """Parse a recovery. Raises WorkFailed, which names `origin`, if it is damaged or belongs to another run."""
    try:
        header = int.from_bytes(data[:8], "little")
        meta = json.loads(data[8 : 8 + header])["__metadata__"]
        arrays = load(data)
    except (SafetensorError, ValueError, KeyError) as error:
        raise WorkFailed(f"{origin} cannot be read: {error}") from None
    if meta.get("format") != FORMAT or meta.get("run_key") != run_key:
        raise WorkFailed(f"{origin} is not a recovery of run {run_key}")
    return Recovery(int(meta["step"]), arrays, json.loads(meta["notes"]), slot)
