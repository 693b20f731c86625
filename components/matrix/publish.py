"""Publish a matrix to MLflow: one run in the dataset's experiment, with its curves and files."""

from collections.abc import Iterable
from pathlib import Path
from typing import TYPE_CHECKING

from components.matrix.cells import CPS
from components.matrix.gains import points
from components.matrix.report import MatrixResult
from components.progress import say
from components.tracking.server import ServedRun, connect, open_experiment
from components.tracking.values import Point as Value
from components.tracking.values import experiment_name

if TYPE_CHECKING:
    from components.tracking.server import Client

TAG = "cps.matrix"


def publish(result: MatrixResult, files: Iterable[Path], address: str) -> None:
    """Log mIoU/<method>, gain (of CPS) and gain/<recipe>, and upload the files.

    The step is the number of labelled images. A matrix of the same recipe updates its earlier MLflow run. If the server
    is unavailable, print one line and return.
    """
    if not address:
        return
    client = connect(address)
    try:
        _publish(result, files, client)
    except client.errors as error:
        reason = (str(error).splitlines() or [type(error).__name__])[0][:200]
        say("matrix", f"MLflow at {address} did not accept the result ({reason}); the files are complete without it")


def _publish(result: MatrixResult, files: Iterable[Path], client: "Client") -> None:
    experiment = str(open_experiment(client, experiment_name(result.dataset)).experiment_id)
    name = f"matrix: {result.recipe}"
    found = client.search_runs([experiment], f"tags.`{TAG}` = '{result.recipe.replace(chr(39), '')}'", max_results=1)
    if found:
        run_id = found[0].info.run_id
    else:
        tags = {TAG: result.recipe.replace("'", ""), "dataset": result.dataset}
        run_id = client.create_run(experiment, run_name=name, tags=tags).info.run_id
    run = ServedRun(client, experiment, run_id, resumed=False)  # also where it is, its values are replaced
    run.log(_values(result))
    for path in files:
        run.log_artifact(path)
    run.set_status("FINISHED")


def _values(result: MatrixResult) -> Iterable[Value]:
    for point in points(result.scores):
        yield Value(f"mIoU/{point.method}", point.mean, point.labeled)
        if point.spread is not None:
            yield Value(f"spread/{point.method}", point.spread, point.labeled)
    for gain in result.gains:
        yield Value("gain" if gain.method == CPS else f"gain/{gain.method}", gain.mean, gain.labeled)
