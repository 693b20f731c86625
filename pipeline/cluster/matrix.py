"""Run a matrix on a KFP server: find or submit its runs, follow them, and collect their scores."""

from collections import deque
from collections.abc import Callable
from dataclasses import replace
from typing import TYPE_CHECKING

from components.matrix.cells import Cell, MatrixDataset, MatrixOutcome, cell_request, read_score
from components.runs.record import find_job
from components.runs.result import read_result
from components.storage import keys
from pipeline.cluster.client import Server
from pipeline.cluster.display import WORDS
from pipeline.cluster.status import RunStatus, failure, follow_all, list_runs
from pipeline.cluster.submission import Placing, Version, submit
from pipeline.parameters import PipelineParameters

if TYPE_CHECKING:
    from components.storage.client import Store

NEWEST = 500
"""How many of the server's newest runs are searched for those of an earlier call."""
_NOT_TO_BE_FOLLOWED = ("FAILED", "CANCELED", "CANCELING", "SKIPPED")


def run_matrix_on_cluster(
    server: Server,
    version: Version,
    cells: list[Cell],
    parameters: PipelineParameters,
    *,
    place: Placing,
    store: "Store",
    parallel: int,
    on_cell: Callable[[int, Cell, str], None],
) -> MatrixOutcome:
    """Run all `cells` on the server, and read their results from `store`, where their steps write them.

    At most `parallel` runs are active at once, in the order of the cells; 0 submits all of them at once. An earlier run
    of a cell is followed if it is still active, and reused if its result is in the store. If a run fails, the others
    continue. `on_cell` receives each cell's number, the cell, and a message about its progress.
    """
    runs, waiting = dict[str, tuple[int, Cell]](), deque[tuple[int, Cell]]()
    before = list_runs(server, limit=NEWEST)
    for number, cell in enumerate(cells, start=1):
        if run_id := _run_of_before(before, _of_cell(cell, parameters), store):
            on_cell(number, cell, f"found run {run_id}")
            runs[run_id] = (number, cell)
        else:
            waiting.append((number, cell))

    def more(going_on: int) -> list[str]:
        new = list[str]()
        while waiting and (not parallel or going_on + len(new) < parallel):
            number, cell = waiting.popleft()
            wanted = _of_cell(cell, parameters)
            name = f"{wanted.run_name} {cell.method}"
            made = submit(server, version, wanted, replace(place, name=name))
            on_cell(number, cell, f"submitted run {made.url or made.run_id}")
            runs[made.run_id] = (number, cell)
            new.append(made.run_id)
        return new

    said = dict[str, str]()

    def tell(status: RunStatus) -> None:
        text = _doing(status)
        if text and said.get(status.run_id) != text:
            said[status.run_id] = text
            on_cell(*runs[status.run_id], text)

    ended = follow_all(server, list(runs), tell, more=more)
    return _gathered(server, [(*runs[status.run_id], status) for status in ended], store, on_cell)


def _gathered(
    server: Server,
    ended: list[tuple[int, Cell, RunStatus]],
    store: "Store",
    on_cell: Callable[[int, Cell, str], None],
) -> MatrixOutcome:
    from components.evaluation.comparison.draws import last_draws

    outcome = MatrixOutcome()
    for number, cell, status in ended:
        if status.state != "SUCCEEDED":
            outcome.failed[cell] = failure(status, server.url(f"runs/details/{status.run_id}"))
            continue
        run_key = _run_key(store, status.run_id)
        if not run_key:
            outcome.failed[cell] = (
                f"run {status.name} ({status.run_id}) is done, but bucket {store.settings.bucket!r} at "
                f"{store.settings.endpoint} does not contain its result: is it the object store in the ConfigMap?"
            )
            continue
        outcome.dataset = outcome.dataset or _dataset(store, run_key)
        score = read_score(store, cell, run_key, last_draws(store, run_key))
        outcome.scores.append(score)
        on_cell(number, cell, f"mIoU {100 * score.mean_iou:.1f} % ({run_key})")
    outcome.exit_code = 1 if outcome.failed else 0
    return outcome


def _of_cell(cell: Cell, parameters: PipelineParameters) -> PipelineParameters:
    return replace(parameters, run=cell_request(cell, parameters.run))


def _run_of_before(runs: list[RunStatus], wanted: PipelineParameters, store: "Store") -> str:
    """Return the id of a run with exactly these parameters that is active or has a result; empty if none does."""
    for run in runs:
        if run.state in _NOT_TO_BE_FOLLOWED or run.parameters != wanted.as_dag():
            continue
        if not run.ended or _run_key(store, run.run_id):
            return run.run_id
    return ""


def _run_key(store: "Store", run_id: str) -> str:
    """Return the run key that the run's second step recorded; empty if its result is not in the store."""
    job = find_job(store, run_id)
    return job.run_key if job and store.stat(keys.run(job.run_key, "result.json")) else ""


def _dataset(store: "Store", run_key: str) -> MatrixDataset:
    result = read_result(store, run_key)
    classes = len(result.confusion_matrix.classes)
    return MatrixDataset(result.dataset.digest, result.dataset.name, result.images, classes)


def _doing(status: RunStatus) -> str:
    """Return the steps that are running, or the state of the run; empty between two steps."""
    if status.state != "RUNNING":
        return WORDS.get(status.state, status.state.lower())
    at = [step.name for step in status.steps if step.state == "RUNNING"]
    return f"running: {', '.join(at)}" if at else ""
