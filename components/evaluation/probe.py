"""Measure the cost of scoring a checkpoint on a few validation images: the second process of `cps plan`.

    python3 -m components.evaluation.probe FOLDER

reads the files that `components.training.probe` wrote to the folder, and adds evaluation.json. It writes nothing to the
store.
"""

import resource
import sys
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import TypeVar

from components.dataset.split import Split
from components.dataset.stored.reader import DatasetReader
from components.errors import UserError
from components.evaluation.comparison.pairs import ValidationPairs
from components.evaluation.sweep import score_images, sweep_of, with_label
from components.inference.checkpoint import open_checkpoint
from components.inference.sliding import images_in_flight
from components.runs.planning.probes import EvaluationProbe
from components.runs.record import RunRecord
from components.step_guard import die_with_parent, step_guard
from components.storage.client import open_store

Result = TypeVar("Result")

_IMAGES = 4
"""Minimum number of timed images; at least as many as are scored concurrently."""


def probe_evaluation(folder: Path) -> EvaluationProbe:
    """Return the cost of scoring validation images in all variants, as the sweep does, after an untimed warm-up.

    A network structure is exported the first time a checkpoint is opened, so only the second opening shows the cost of
    each further checkpoint.
    """
    record = RunRecord.model_validate_json((folder / "run.json").read_bytes())
    split = Split.model_validate_json((folder / "split.json").read_bytes())
    with DatasetReader(open_store(), record.dataset.digest) as reader:
        sweep = sweep_of(record, split, reader)
        samples = with_label(split.val)
        if not samples:
            raise UserError(f"dataset {record.dataset.name} has no labelled validation images: add some")
        with ValidationPairs(reader, samples, folder) as images:
            workers = images_in_flight(images.pair(0)[1].size, len(sweep.protocol.classes))
        count = min(len(samples), max(workers, _IMAGES))
        opening = partial(
            open_checkpoint,
            folder / "checkpoint.safetensors",
            threads=workers,
            allow_bf16=sweep.recipe.evaluation.bf16,
        )
        checkpoint, start = _timed(opening)
        with ValidationPairs(reader, samples[:workers], folder) as first:
            score_images(checkpoint, first, sweep, workers)
        checkpoint, reopening = _timed(opening)
        with ValidationPairs(reader, samples[-count:], folder) as images:
            _, seconds = _timed(partial(score_images, checkpoint, images, sweep, workers))
    return EvaluationProbe(
        images_probed=count,
        image_seconds=seconds / count,
        start_seconds=start,
        open_seconds=reopening,
        images=len(samples),
        peak_rss_bytes=resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024,
    )


def _timed(work: Callable[[], Result]) -> tuple[Result, float]:
    began = time.monotonic()
    return work(), time.monotonic() - began


def main() -> None:
    die_with_parent()
    folder = Path(sys.argv[1])
    with step_guard("probe"):
        (folder / "evaluation.json").write_text(probe_evaluation(folder).model_dump_json())


if __name__ == "__main__":
    main()
