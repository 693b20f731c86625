"""Measure every image of a run's training lists with both of its networks, in chunks.

The store keeps the measures per checkpoint, so an interrupted ranking resumes, and asking for a different number of
suggestions costs nothing.
"""

import hashlib
import io
import tempfile
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from components import progress
from components.dataset.stored.reader import DatasetReader
from components.errors import UserError
from components.inference.checkpoint import Checkpoint
from components.inference.sliding import images_in_flight
from components.labeling.disagreement import Measure, compare, measure
from components.networks.processor import usable_cores
from components.runs.checkpoints import fetch_checkpoint, read_index
from components.runs.result import find_result
from components.storage import keys

if TYPE_CHECKING:
    from components.dataset.split import Split
    from components.runs.record import RunRecord
    from components.storage.client import Store

STEP = "label-next"
CHUNK = 32
"""Images per stored object."""
VERSION = 1
"""Version of the measures. Increase it whenever their definition changes."""


@dataclass(frozen=True)
class BestNetworks:
    """The checkpoint whose two networks are compared."""

    epoch: int
    sha256: str
    checkpoint: Checkpoint


def open_best_networks(store: "Store", record: "RunRecord", split: "Split", classes: int) -> BestNetworks:
    """Load both networks of the best checkpoint, or of the last one if none has been scored.

    Raises:
        UserError: the run has no checkpoint yet.
    """
    run_key = record.run_key
    if store.stat(keys.checkpoint_index(run_key)) is None:
        raise UserError(f"run {run_key} has not been trained yet: `cps run --resume {run_key}` continues it")
    entries = read_index(store, run_key)
    entry = entries[-1]
    result = find_result(store, run_key)
    if result is not None:
        entry = next((item for item in entries if item.epoch == result.best.epoch), entry)
    with tempfile.TemporaryDirectory(prefix="cps-label-next-") as folder:
        path = Path(folder) / "checkpoint.safetensors"
        checkpoint = fetch_checkpoint(
            store, entry, path, split=split.fingerprint, classes=classes, threads=usable_cores()
        )
    return BestNetworks(entry.epoch, entry.sha256, checkpoint)


def measure_images(
    store: "Store", run_key: str, networks: BestNetworks, reader: DatasetReader, images: Sequence[str]
) -> dict[str, Measure]:
    """Return the measure of each image, from the store where an earlier ranking saved it."""
    found: dict[str, Measure] = {}
    engines = [networks.checkpoint.engines[branch] for branch in ("left", "right")]
    description = networks.checkpoint.description

    def one(name: str) -> Measure:
        image = reader.image(name)
        return measure(compare(engines, image, description), image)

    height, width = reader.image(images[0]).shape[:2]
    with ThreadPoolExecutor(images_in_flight(height * width, len(description.classes))) as pool:
        for start in range(0, len(images), CHUNK):
            chunk = images[start : start + CHUNK]
            key = keys.measures(run_key, networks.sha256, _identity(chunk))
            if store.stat(key) is None:
                measured = list(pool.map(one, chunk))
                store.put_bytes(key, _pack(measured))
            else:
                measured = _unpack(store.get_bytes(key))
            found.update(zip(chunk, measured, strict=True))
            progress.advance(STEP, len(found), len(images), f"{len(found)} of {len(images)} images")
    return found


def _identity(images: Sequence[str]) -> str:
    return hashlib.sha256("\n".join([str(VERSION), *images]).encode()).hexdigest()[:16]


def _pack(measures: Sequence[Measure]) -> bytes:
    buffer = io.BytesIO()
    np.savez(
        buffer,
        disagreement=np.array([each.disagreement for each in measures]),
        uncertainty=np.array([each.uncertainty for each in measures]),
        appearance=np.stack([each.appearance for each in measures]),
    )
    return buffer.getvalue()


def _unpack(data: bytes) -> list[Measure]:
    with np.load(io.BytesIO(data), allow_pickle=False) as arrays:
        columns = arrays["disagreement"], arrays["uncertainty"], arrays["appearance"]
    return [Measure(float(one), float(two), three) for one, two, three in zip(*columns, strict=True)]
