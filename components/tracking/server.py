"""Synchronous access to one run on an MLflow server: every call is a request, and every error is raised.

`client.Tracker` adds a queue and a thread, so that training never waits for the server.
"""

import json
import os
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeAlias

from components.tracking.address import RETRIES_VARIABLE, TIMEOUT_VARIABLE, VIEW
from components.tracking.values import (
    LONGEST_DIGEST,
    METRICS_PER_REQUEST,
    RUN_KEY_TAG,
    Point,
    RunIdentity,
    batches,
    run_name,
)

if TYPE_CHECKING:
    from components.tracking.full import FullClient
    from components.tracking.rest import RestClient

    Client: TypeAlias = FullClient | RestClient

VIEW_TAG = f"mlflow.sharedViewState.{VIEW}"
VIEW_COLUMNS = (
    "metrics.`best_mIoU`",
    "metrics.`best_mIoU_low`",
    "metrics.`best_mIoU_high`",
    "tags.`labeled_ratio`",
    "tags.`method`",
    "tags.`seed`",
    "metrics.`steps`",
    "params.`training.epochs`",
)
EXPERIMENT_TAGS = {
    # Makes MLflow's UI open with runs and charts. Without it, the UI assumes a language model.
    "mlflow.experimentKind": "custom_model_development",
    # How MLflow stores a view that somebody shares: the runs with the highest mIoU first, and what sets them apart.
    VIEW_TAG: json.dumps({"orderByKey": VIEW_COLUMNS[0], "orderByAsc": False, "selectedColumns": VIEW_COLUMNS}),
}


def connect(uri: str) -> "Client":
    """Return a client that gives up within seconds, unlike MLflow's defaults, which take minutes.

    Its `errors` are the exceptions that its requests raise.
    """
    from components.tracking.rest import RestClient, is_plain

    if is_plain(uri):
        return RestClient(uri)
    os.environ.setdefault("MLFLOW_DISABLE_TELEMETRY", "true")
    os.environ.setdefault("MLFLOW_SUPPRESS_PRINTING_URL_TO_STDOUT", "true")
    os.environ.setdefault(RETRIES_VARIABLE, "1")
    os.environ.setdefault(TIMEOUT_VARIABLE, "20")
    from components.tracking.full import FullClient

    return FullClient(tracking_uri=uri)


def http_status(error: Exception) -> int:
    """Return the status of a server's answer that a client raised, or 0 without an answer."""
    status = getattr(error, "get_http_status_code", None)
    return int(status()) if callable(status) else 0


class ServedRun:
    """A run that exists on the server: found by its run key, or created."""

    def __init__(self, client: "Client", experiment_id: str, run_id: str, *, resumed: bool) -> None:
        self.client = client
        self.experiment_id = experiment_id
        self.run_id = run_id
        self.resumed = resumed
        self._logged_steps: dict[str, set[int]] = {}

    def log(self, points: Iterable[Point]) -> None:
        """Send values, except at steps where the run already has a value of the metric."""
        fresh = [point for point in points if point.step not in self.logged_steps(point.key)]
        for start in range(0, len(fresh), METRICS_PER_REQUEST):
            batch = fresh[start : start + METRICS_PER_REQUEST]
            self.client.log_values(self.run_id, points=batch)
            for point in batch:
                self._logged_steps[point.key].add(point.step)

    def logged_steps(self, key: str) -> set[int]:
        """Return the steps at which the run has a value of the metric."""
        if key not in self._logged_steps:
            self._logged_steps[key] = self.client.logged_steps(self.run_id, key) if self.resumed else set()
        return self._logged_steps[key]

    def set_tags(self, tags: Mapping[str, str]) -> None:
        for batch in batches(tags):
            self.client.log_values(self.run_id, tags=batch)

    def log_checkpoint(self, epoch: int, points: Iterable[Point], params: Mapping[str, str]) -> str:
        """Log a checkpoint as a LoggedModel, which is found by its name. Its metrics become the run's, too."""
        name = f"epoch-{epoch:04d}"
        found = self.client.search_logged_models(
            experiment_ids=[self.experiment_id],
            filter_string=f"name = '{name}' AND source_run_id = '{self.run_id}'",
            max_results=1,
        )
        if found:
            model_id = str(found[0].model_id)
        else:
            model = self.client.create_logged_model(
                self.experiment_id,
                name=name,
                source_run_id=self.run_id,
                params={key: str(value) for key, value in params.items()},
                model_type="checkpoint",
            )
            model_id = str(model.model_id)
            self.client.finalize_logged_model(model_id, "READY")
        self.log(Point(p.key, p.value, p.step, p.timestamp, model_id) for p in points)
        return model_id

    def log_dataset(self, name: str, digest: str, uri: str, profile: Mapping[str, int]) -> None:
        """Log the training dataset; `profile` holds numbers of images. Logging it again changes nothing."""
        source, numbers = json.dumps({"uri": uri}), json.dumps(profile)
        self.client.log_training_dataset(self.run_id, name, digest[:LONGEST_DIGEST], source, numbers)

    def log_artifact(self, path: Path, folder: str = "") -> None:
        self.client.log_artifact(self.run_id, str(path), folder or None)

    def set_status(self, status: str, ended: int | None = None) -> None:
        """Set the status to RUNNING, FINISHED, FAILED or KILLED; `ended` is in milliseconds since 1970, or now."""
        if status == "RUNNING":
            self.client.update_run(self.run_id, status=status)
        else:
            self.client.set_terminated(self.run_id, status=status, end_time=ended)


def find_run(client: "Client", experiment_ids: list[str], run_key: str) -> Any | None:
    """Return the MLflow run of a run key, or None. Raises MLflow's errors."""
    found = client.search_runs(experiment_ids, _tag_is(run_key), max_results=1)
    return found[0] if found else None


def open_served_run(client: "Client", identity: RunIdentity, *, works: bool) -> ServedRun:
    """Find the run of this run key in its experiment, or create it.

    If there are params to write and the caller `works` on the run, its status becomes RUNNING.
    """
    experiment_id = str(open_experiment(client, identity.experiment).experiment_id)
    found = find_run(client, [experiment_id], identity.run_key)
    if found is None:
        tags = {RUN_KEY_TAG: identity.run_key}
        created = client.create_run(experiment_id, identity.began, tags, run_name(identity))
        run, known = ServedRun(client, experiment_id, created.info.run_id, resumed=False), {}
    else:
        run, known = ServedRun(client, experiment_id, found.info.run_id, resumed=True), found.data.params
        if works and identity.params and found.info.status != "RUNNING":
            run.set_status("RUNNING")
    _log_params(run, {key: value for key, value in identity.params.items() if key not in known})
    run.set_tags(identity.tags)
    return run


def open_experiment(client: "Client", name: str) -> Any:
    found = client.get_experiment_by_name(name)
    if found is None:
        try:
            return client.get_experiment(client.create_experiment(name, tags=EXPERIMENT_TAGS))
        except client.errors:
            # Another process may have created it between the two calls.
            found = client.get_experiment_by_name(name)
            if found is None:
                raise
    if found.lifecycle_stage == "deleted":
        client.restore_experiment(found.experiment_id)
    for key, value in EXPERIMENT_TAGS.items():
        # An earlier version or somebody else has made the experiment. The view is ours alone.
        if key not in found.tags or (key == VIEW_TAG and found.tags[key] != value):
            client.set_experiment_tag(found.experiment_id, key, value)
    return found


def _log_params(run: ServedRun, params: Mapping[str, str]) -> None:
    for batch in batches(params):
        run.client.log_values(run.run_id, params=batch)


def _tag_is(run_key: str) -> str:
    return f"tags.`{RUN_KEY_TAG}` = '{run_key}'"
