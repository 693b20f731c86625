"""Synchronous access to one run on an MLflow server: every call is a request, and every error is raised.

`client.Tracker` adds a queue and a thread, so that training never waits for the server.
"""

import json
import os
import re
import time
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeAlias
from urllib.parse import urlsplit

from components.addresses import through_proxy, without_login
from components.errors import UserError
from components.storage.settings import public_address

if TYPE_CHECKING:
    from components.tracking.full import FullClient
    from components.tracking.rest import RestClient

    Client: TypeAlias = FullClient | RestClient

RUN_KEY_TAG = "cps.run_key"
EXPERIMENT_PREFIX = "cps/"

# Limits of MLflow's REST API.
METRICS_PER_REQUEST = 1000
ENTRIES_PER_REQUEST = 100
LONGEST_VALUE = 5000
LONGEST_DIGEST = 36

EMBEDDED_VARIABLE = "CPS_EMBEDDED_MLFLOW"
"""The embedded server's address and its folder, separated by a space. Its port may change at every start."""

VIEW = "cps"
"""The name of the view of an experiment's runs that links open."""
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
MODEL_TRAINING_VIEW = "?workflowType=machine_learning"
"""Selects MLflow's view for model training; without it, MLflow opens its view for language models, which has no link to
other runs."""
MLFLOW_VARIABLE = "CPS_PUBLIC_MLFLOW_URL"
TRACKING_VARIABLE = "MLFLOW_TRACKING_URI"
TIMEOUT_VARIABLE = "MLFLOW_HTTP_REQUEST_TIMEOUT"
RETRIES_VARIABLE = "MLFLOW_HTTP_REQUEST_MAX_RETRIES"


@dataclass(frozen=True)
class Point:
    """One value of one metric. `timestamp` is in milliseconds; `model_id` links it to a LoggedModel."""

    key: str
    value: float
    step: int
    timestamp: int = field(default_factory=lambda: int(time.time() * 1000))
    model_id: str | None = None


@dataclass(frozen=True)
class RunIdentity:
    """The identity of a run, and the data that it is created with. `began` is in milliseconds since 1970."""

    run_key: str
    experiment: str
    params: Mapping[str, str]
    tags: Mapping[str, str]
    began: int


def check_tracking_address(environ: Mapping[str, str] = os.environ) -> None:
    """Raise UserError if MLFLOW_TRACKING_URI is set and is no address; MLflow would take a bare host for a folder."""
    address = environ.get(TRACKING_VARIABLE, "")
    if not address or address == "databricks":
        return
    try:
        parts = urlsplit(address)
        wrong = "://" not in address or (parts.scheme in ("http", "https") and (not parts.hostname or parts.port == 0))
    except ValueError:  # a port that is not a number, unbalanced brackets
        wrong = True
    if wrong:
        shown = "" if "@" in address else f"={address!r}"  # a login is no text for a message
        raise UserError(f"{TRACKING_VARIABLE}{shown} is not an address: write it as http://host:port")


def experiment_name(dataset: str, environ: Mapping[str, str] = os.environ) -> str:
    """Return MLFLOW_EXPERIMENT_NAME, or else a name for the dataset, so that an experiment's runs are comparable."""
    return environ.get("MLFLOW_EXPERIMENT_NAME") or EXPERIMENT_PREFIX + dataset


def run_name(identity: RunIdentity) -> str:
    """Return a name such as `1/8 s1 cps camvid-mobilenetv2 f7275e`, or the run key if tags are missing.

    What sets runs of one dataset apart comes first, since MLflow truncates names in lists and legends.
    """
    tags = identity.tags
    ratio = tags.get("labeled_ratio") or tags.get("ratio")  # 0.1 spooled the latter
    if not ratio or not {"seed", "method", "recipe"} <= tags.keys():
        return identity.run_key
    again = "again " if "reproduces" in tags else ""
    key = identity.run_key.rpartition("-")[2][:6]
    return f"{ratio} s{tags['seed']} {again}{tags['method']} {tags['recipe']} {key}"


def server_name(uri: str, environ: Mapping[str, str] = os.environ) -> str:
    """Return the lasting identity of a server: the folder of the embedded one, or the address of another."""
    address, _, folder = environ.get(EMBEDDED_VARIABLE, "").partition(" ")
    return folder if folder and address == uri else without_login(uri)


def no_answer(address: str, error: Exception) -> UserError:
    """Return the error for a server that does not answer, or not as MLflow does."""
    reason = (str(error).splitlines() or [type(error).__name__])[0][:200]
    way = through_proxy(address)
    remedy = f"correct {TRACKING_VARIABLE}{', or list its host in NO_PROXY' if way else ''}"
    return UserError(f"MLflow at {without_login(address)} does not answer{way} ({reason}): {remedy}")


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
        for batch in _batches(tags):
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
    for batch in _batches(params):
        run.client.log_values(run.run_id, params=batch)


def _batches(values: Mapping[str, str]) -> Iterator[dict[str, str]]:
    """Yield as many entries at once as MLflow accepts, and as long ones."""
    entries = [(key, _short(value)) for key, value in values.items()]
    for start in range(0, len(entries), ENTRIES_PER_REQUEST):
        yield dict(entries[start : start + ENTRIES_PER_REQUEST])


def _tag_is(run_key: str) -> str:
    return f"tags.`{RUN_KEY_TAG}` = '{run_key}'"


def _short(value: object) -> str:
    text = str(value)
    return text if len(text) <= LONGEST_VALUE else text[: LONGEST_VALUE - 3] + "..."


def metric_name(text: str) -> str:
    """Return a name that MLflow accepts: letters, digits, and _ - . space : /"""
    return re.sub(r"[^\w\-. :/]", "_", text, flags=re.ASCII)


def runs_page(experiment_id: str) -> str:
    """Return the page with the runs of an experiment, the best first, relative to MLflow's address."""
    return f"#/experiments/{experiment_id}/runs{MODEL_TRAINING_VIEW}&viewStateShareKey={VIEW}"


def run_page(experiment_id: str, run_id: str) -> str:
    """Return a run's page, relative to MLflow's address."""
    return f"#/experiments/{experiment_id}/runs/{run_id}{MODEL_TRAINING_VIEW}"


def tracking_link(address: str, page: str) -> str:
    """Return the link to a page of MLflow ("#/experiments/…") at its public address, or else at `address`.

    Empty if neither is a web address.
    """
    base = public_address(MLFLOW_VARIABLE) or (address.rstrip("/") if address.startswith("http") else "")
    return f"{base}/{page}" if base and page else ""
