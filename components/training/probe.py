"""Measure what a training needs by running a few real steps: the first process of `cps plan`.

    python3 -m components.training.probe FOLDER

reads FOLDER/run.json, split.json and probe.json, and the dataset from the store. It writes training.json and
checkpoint.safetensors to the folder, and nothing to the store.
"""

import json
import math
import os
import resource
import shutil
import statistics
import sys
import time
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path

from pydantic import BaseModel

from components.dataset.split import Split
from components.dataset.stored.reader import DatasetReader
from components.dataset.stored.shared_images import MEMORY, PRIVATE_BYTES
from components.networks import processor
from components.networks.image_size import reduced_size
from components.recipes.loader import parse_recipe
from components.runs.planning.probes import TrainingProbe
from components.runs.record import RunRecord
from components.step_guard import die_with_parent, step_guard
from components.storage.client import ObjectRef, Store
from components.storage.settings import StoreSettings, settings_from_environment
from components.storage.transfer import Source
from components.training.supervision.watchdog import Watchdog

WARM_UP = 3
"""Untimed first steps, which read files and fill caches."""
_SAMPLE = 16
"""Number of images whose size is read."""


class Unwritten(Store):
    """A read-only store: it records the size of each upload, and writes the checkpoint to a folder."""

    def __init__(self, settings: StoreSettings, folder: Path) -> None:
        super().__init__(settings)
        self.folder, self.sizes = folder, dict[str, int]()

    def _put(self, key: str, source: Source, size: int, *_: object) -> ObjectRef:
        self.sizes[key] = size
        if "/checkpoints/" in key:
            (self.folder / "checkpoint.safetensors").write_bytes(source.read_at(0, size))
        return ObjectRef(key, self.uri(key), size, "", datetime.now(UTC))


class StepClock(Watchdog):
    """A watchdog that records when each step ends and never times out."""

    def __init__(self) -> None:
        super().__init__(0, Path(os.devnull))
        self.ends: list[float] = []

    def alive(self) -> None:
        self.ends.append(time.monotonic())


def probe_training(folder: Path, steps: int) -> TrainingProbe:
    """Run WARM_UP + `steps` + 1 steps. The last is not timed either: everything is saved after it.

    If the run has a burn-in, WARM_UP + `steps` steps on labelled images alone come first.
    """
    began = time.monotonic()
    record = RunRecord.model_validate_json((folder / "run.json").read_bytes())
    split = Split.model_validate_json((folder / "split.json").read_bytes())
    recipe = parse_recipe(record.settings, "probe")
    processor.prepare_training(networks=2)
    from components.training.loop import fit
    from components.training.process import prepare_training, tracker_of
    from components.training.schedule import Plan, burn_in_steps
    from components.training.supervision.watchdog import Termination

    store, clock = Unwritten(settings_from_environment(), folder), StepClock()
    with tracker_of(record) as tracker:
        training = prepare_training(store, record, split, recipe, tracker)
        whole, reader = training.plan, training.data.reader
        burn_in = burn_in_steps(recipe, whole.steps) if recipe.cps.weight else 0
        early = WARM_UP + steps if burn_in else 0
        count = early + WARM_UP + steps + 1
        changes: dict[str, BaseModel] = {
            "training": recipe.training.model_copy(update={"recovery_steps": count, "recovery_seconds": math.inf}),
            "cps": recipe.cps.model_copy(update={"burn_in": early / count}),
        }
        training = replace(training, plan=Plan(1, count, (1,)), recipe=recipe.model_copy(update=changes))
        training.data.burn_in = early
        clock.alive()
        fit(training, 0, stop=Termination(), watchdog=clock)
        training.uploads.finish()
    times = [after - before for before, after in zip(clock.ends, clock.ends[1:], strict=False)]
    seconds, in_burn_in = times[early + WARM_UP : -1], times[WARM_UP:early]
    return TrainingProbe(
        steps_probed=len(seconds),
        step_seconds=statistics.median(seconds),
        step_seconds_range=(min(seconds), max(seconds)),
        burn_in_steps=burn_in,
        burn_in_step_seconds=statistics.median(in_burn_in) if in_burn_in else 0.0,
        start_seconds=clock.ends[0] - began,
        peak_rss_bytes=resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024,
        epochs=whole.epochs,
        steps=whole.steps,
        checkpoints=len(whole.checkpoint_epochs),
        checkpoint_bytes=_size(store, "/checkpoints/"),
        recovery_bytes=_size(store, "/recovery."),
        decoded_bytes=decoded_bytes(reader, split, recipe.network.longest_side),
        private_bytes=PRIVATE_BYTES,
        shm_bytes=shutil.disk_usage(MEMORY).total if MEMORY.is_dir() else 0,
        dataset_bytes=sum(shard.size for shard in reader.manifest.shards),
    )


def decoded_bytes(reader: DatasetReader, split: Split, longest_side: int = 0) -> int:
    """Estimate the size of all decoded training images and labels from a sample: 3 bytes a pixel, 4 with a label."""
    labeled, known = [item.image for item in split.labeled], reader.manifest.train_labels()
    names = [*labeled, *split.unlabeled]
    sample = names[:: max(1, len(names) // _SAMPLE)]
    shapes = [reader.image(name).shape for name in sample]
    sizes = [reduced_size(height, width, longest_side) for height, width, _ in shapes]
    pixels = statistics.mean(height * width for height, width in sizes)
    # Hidden labels are decoded too: the audit compares pseudo labels with them.
    return round(sum(pixels * (4 if name in known else 3) for name in names))


def _size(store: Unwritten, part: str) -> int:
    return max(size for key, size in store.sizes.items() if part in key)


def main() -> None:
    die_with_parent()
    folder = Path(sys.argv[1])
    with step_guard("probe"):
        wanted = json.loads((folder / "probe.json").read_text())
        found = probe_training(folder, wanted["steps"])
        (folder / "training.json").write_text(found.model_dump_json())


if __name__ == "__main__":
    main()
