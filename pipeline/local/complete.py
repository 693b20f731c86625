"""Recognise a run that was completed before, from the store alone: no step, no MLflow and no KFP starts."""

import time
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING

from components import progress
from components.dataset.prepare import find_dataset
from components.errors import UserError, WorkFailed
from components.prediction.predict import find_predictions
from components.runs.checkpoints import finished_index, finished_result
from components.runs.finish import is_finished
from components.runs.planning.plan import plan_run
from components.runs.record import load_run
from components.storage.client import Store
from components.tracking.address import EMBEDDED_VARIABLE, TRACKING_VARIABLE
from components.tracking.published import published
from pipeline.local.jobs import log_of, run_of
from pipeline.local.run import JobOutcome
from pipeline.local.services import MLFLOW, services_status
from pipeline.parameters import PipelineParameters

if TYPE_CHECKING:
    from pydantic import JsonValue


def complete_outcome(
    parameters: PipelineParameters, store: Store, home: Path, environ: Mapping[str, str]
) -> JobOutcome | None:
    """Return the outcome of a run that is already complete, or None if the pipeline must run to complete or verify it.

    The run must have been started from `home` with the same request. Then the dataset's files are read for their
    digest, and everything that the steps look for must be there: all checkpoints, the result that is based on them, its
    weights, pages and predictions, and the records of their publication to MLflow. Writes nothing. Returns None for
    damaged or invalid objects as well, so that the step that made them repairs or reports them.

    Args:
        environ: names MLflow, which need not run.
    """
    key, began = run_of(home, parameters.run), time.monotonic()
    try:
        predictions = _predictions(parameters, store, key, environ) if key else None
    except (UserError, WorkFailed):
        return None
    if predictions is None:
        return None
    progress.say("run", f"already complete: {key}; `cps reproduce {key}` would train it again")
    if EMBEDDED_VARIABLE in environ and not any(one.name == MLFLOW and one.healthy for one in services_status(home)):
        progress.say("run", "MLflow is not running: `cps up` starts it")
    results: dict[str, dict[str, JsonValue]] = {"split-labels": {"run_key": key}, "predict": predictions}
    return JobOutcome(0, time.monotonic() - began, log_of(home, key), results)


def _predictions(
    parameters: PipelineParameters, store: Store, key: str, environ: Mapping[str, str]
) -> "dict[str, JsonValue] | None":
    """Return the summary of the predictions of a run that is complete; None if it is not."""
    index = finished_index(store, key)
    result = finished_result(store, key, index.checkpoints) if index else None
    address = environ.get(TRACKING_VARIABLE, "")
    # Without an address the embedded MLflow has never run, and the pipeline will publish to it.
    if result is None or not address or not published(store, key, environ) or not is_finished(store, key, address):
        return None
    request = parameters.run
    manifest = find_dataset(request.dataset, request.dataset_sha256, store, pools=request.dataset_pools)
    if manifest is None or plan_run(store, manifest.digest, request).key != key:
        return None
    _, split = load_run(store, key)
    images = parameters.prediction
    predictions = find_predictions(store, result, split, images.images, images.limit)
    return predictions.model_dump(mode="json") if predictions and not predictions.refused else None
