"""Run every combination of label ratio, seed and method one after the other; skip finished ones."""

from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

from components.matrix.cells import (
    Cell,
    MatrixDataset,
    MatrixOutcome,
    cell_request,
    impossible,
    planned_key,
    read_score,
)
from components.progress import Event
from components.step_guard import USERS_MISTAKE
from pipeline.local.run import JobOutcome, run_locally
from pipeline.parameters import PipelineParameters

if TYPE_CHECKING:
    from components.runs.request import RunRequest
    from components.storage.client import Store


def run_matrix(
    cells: list[Cell],
    parameters: PipelineParameters,
    *,
    home: Path,
    environment: Mapping[str, str],
    on_event: Callable[[Event], None],
    on_cell: Callable[[int, Cell, str], None],
) -> MatrixOutcome:
    """Run `cells`, each of which overrides the ratio, seed and method of `parameters`.

    If a cell fails, the others still run. A signal or invalid parameters end the matrix, because they would end every
    cell. Cells for which the dataset has no split are reported as soon as the dataset is known, not after hours of
    training. `on_cell` gets each cell's number, the cell and its status.
    """
    from components.evaluation.comparison.draws import last_draws
    from pipeline.local.environment import store_of

    store = store_of(environment)
    outcome = MatrixOutcome()
    for number, cell in enumerate(cells, start=1):
        if cell in outcome.failed:
            continue
        key = _finished(store, cell, parameters.run, outcome.dataset)
        if key is None:
            on_cell(number, cell, "running")
            own = replace(parameters, run=cell_request(cell, parameters.run))
            job = run_locally(own, home=home, environment=environment, on_event=on_event)
            if job.exit_code:
                outcome.failed[cell] = job.failure or f"exit code {job.exit_code} (log: {job.log})"
                outcome.exit_code = job.exit_code
                if job.exit_code != 1:
                    return outcome
                continue
            if outcome.dataset is None:
                outcome.dataset = _dataset(job)
                refused = impossible(store, cells, parameters.run, outcome.dataset.digest)
                for other, reason in refused.items():
                    on_cell(cells.index(other) + 1, other, f"cannot run: {reason}")
                    outcome.exit_code = outcome.exit_code or USERS_MISTAKE
                outcome.failed |= refused
            key = job.run_key
        score = read_score(store, cell, key, last_draws(store, key))
        outcome.scores.append(score)
        on_cell(number, cell, f"mIoU {100 * score.mean_iou:.1f} % ({key})")
    return outcome


def _finished(store: "Store", cell: Cell, request: "RunRequest", dataset: MatrixDataset | None) -> str | None:
    """Return the cell's run key if its result is in the store, without starting the pipeline."""
    from components.storage import keys

    if dataset is None:
        return None  # the first cell prepares the dataset; the digest is known afterwards
    key = planned_key(store, cell, request, dataset.digest)
    return key if store.stat(keys.run(key, "result.json")) else None


def _dataset(job: JobOutcome) -> MatrixDataset:
    stored = job.dataset
    return MatrixDataset(stored.digest, stored.name, stored.val, len(stored.class_names))
