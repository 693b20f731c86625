"""The part of MLflow's client that this project uses, over plain HTTP: importing MLflow takes seconds in each process.

Methods have the names, arguments and results of `mlflow.MlflowClient`, or of `components.tracking.full.FullClient`,
which serves where plain HTTP does not: for a server with a login or TLS, for instance.
"""

import json
import math
import mimetypes
import os
import time
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from importlib.metadata import entry_points
from pathlib import Path
from typing import Any, ClassVar
from urllib.parse import quote

import urllib3

from components.addresses import proxy_of
from components.errors import UserError
from components.tracking.address import RETRIES_VARIABLE, TIMEOUT_VARIABLE, TRACKING_VARIABLE
from components.tracking.values import Point

_CONNECT_SECONDS = 5
_UNDERSTOOD = (TRACKING_VARIABLE, TIMEOUT_VARIABLE, RETRIES_VARIABLE)
_LARGEST_PAGE = 1000
_PROXIED = "mlflow-artifacts:/"
"""The scheme of artifacts that the tracking server stores itself."""


def is_plain(address: str) -> bool:
    """Return whether the server needs nothing but plain HTTP: no login, TLS, proxy, plug-in or MLflow's settings."""
    settings = ("MLFLOW_TRACKING_", "MLFLOW_HTTP_REQUEST_", "MLFLOW_WORKSPACE", "MLFLOW_REGISTRY_URI")
    configured = [name for name in os.environ if name.startswith(settings) and name not in _UNDERSTOOD]
    credentials = Path.home() / ".mlflow" / "credentials"
    return (
        address.startswith("http://")
        and not (configured or credentials.exists() or "@" in address or proxy_of(address))
        and not entry_points(group="mlflow.request_header_provider")
    )


class RequestRefused(OSError):
    """The server answered with an error, or not at all. The status is 0 without an answer."""

    def __init__(self, text: str, status: int = 0, code: str = "") -> None:
        super().__init__(text)
        self.status = status
        self.error_code = code

    def get_http_status_code(self) -> int:
        return self.status


@dataclass(frozen=True)
class RunInfo:
    """Times are in milliseconds since 1970."""

    run_id: str
    experiment_id: str
    status: str
    start_time: int
    artifact_uri: str


@dataclass(frozen=True)
class RunData:
    metrics: Mapping[str, float]
    params: Mapping[str, str]
    tags: Mapping[str, str]


@dataclass(frozen=True)
class Run:
    info: RunInfo
    data: RunData


@dataclass(frozen=True)
class Experiment:
    experiment_id: str
    lifecycle_stage: str
    tags: Mapping[str, str]


@dataclass(frozen=True)
class ModelVersion:
    version: str
    run_id: str
    tags: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True)
class LoggedModel:
    model_id: str


class RestClient:
    """A client of the server at `address`. Its requests raise RequestRefused. Safe to share between threads."""

    errors: ClassVar[tuple[type[Exception], ...]] = (OSError,)

    def __init__(self, address: str) -> None:
        retries = urllib3.Retry(total=_whole_number(RETRIES_VARIABLE, 1), backoff_factor=0.2, redirect=3)
        timeout = urllib3.Timeout(connect=_CONNECT_SECONDS, read=_whole_number(TIMEOUT_VARIABLE, 20))
        self._pool = urllib3.PoolManager(timeout=timeout, retries=retries, maxsize=8)
        self._address = address.rstrip("/")

    def search_experiments(self) -> list[Experiment]:
        return [_experiment(entry) for entry in self._pages("experiments/search", "experiments")]

    def get_experiment(self, experiment_id: str) -> Experiment:
        return _experiment(self._get("experiments/get", experiment_id=experiment_id)["experiment"])

    def get_experiment_by_name(self, name: str) -> Experiment | None:
        try:
            return _experiment(self._get("experiments/get-by-name", experiment_name=name)["experiment"])
        except RequestRefused as missing:
            if missing.error_code == "RESOURCE_DOES_NOT_EXIST":
                return None
            raise

    def create_experiment(self, name: str, *, tags: Mapping[str, str]) -> str:
        return str(self._post("experiments/create", name=name, tags=_pairs(tags))["experiment_id"])

    def restore_experiment(self, experiment_id: str) -> None:
        self._post("experiments/restore", experiment_id=experiment_id)

    def set_experiment_tag(self, experiment_id: str, key: str, value: str) -> None:
        self._post("experiments/set-experiment-tag", experiment_id=experiment_id, key=key, value=value)

    def search_runs(
        self,
        experiment_ids: Sequence[str],
        filter_string: str = "",
        *,
        max_results: int = _LARGEST_PAGE,
        order_by: Sequence[str] = (),
    ) -> list[Run]:
        found = self._post(
            "runs/search",
            experiment_ids=list(experiment_ids),
            filter=filter_string,
            max_results=max_results,
            order_by=list(order_by),
        )
        return [_run(run) for run in found.get("runs", ())]

    def create_run(
        self,
        experiment_id: str,
        start_time: int | None = None,
        tags: Mapping[str, str] | None = None,
        run_name: str | None = None,
    ) -> Run:
        created = self._post(
            "runs/create",
            experiment_id=experiment_id,
            user_id="unknown",
            start_time=start_time or _now(),
            tags=_pairs(tags or {}),
            run_name=run_name or "",
        )
        return _run(created["run"])

    def update_run(self, run_id: str, *, status: str) -> None:
        self._post("runs/update", run_id=run_id, status=status)

    def set_terminated(self, run_id: str, *, status: str, end_time: int | None = None) -> None:
        self._post("runs/update", run_id=run_id, status=status, end_time=end_time or _now())

    def logged_steps(self, run_id: str, key: str) -> set[int]:
        """Return the steps at which a run has a value of a metric."""
        history = self._get("metrics/get-history", run_id=run_id, metric_key=key)
        return {int(entry.get("step", 0)) for entry in history.get("metrics", ())}

    def log_values(
        self,
        run_id: str,
        *,
        points: Iterable[Point] = (),
        params: Mapping[str, str] | None = None,
        tags: Mapping[str, str] | None = None,
    ) -> None:
        """Log metrics, params and tags in one request; MLflow limits the number of each."""
        metrics = [_metric(point) for point in points]
        batch = {"metrics": metrics, "params": _pairs(params or {}), "tags": _pairs(tags or {})}
        self._post("runs/log-batch", run_id=run_id, **batch)

    def log_training_dataset(self, run_id: str, name: str, digest: str, source: str, profile: str) -> None:
        """Log a dataset of the type s3 in the context "training"; `source` and `profile` are JSON."""
        dataset = {"name": name, "digest": digest, "source_type": "s3", "source": source, "profile": profile}
        tags = [{"key": "mlflow.data.context", "value": "training"}]
        self._post("runs/log-inputs", run_id=run_id, datasets=[{"dataset": dataset, "tags": tags}])

    def log_artifact(self, run_id: str, local_path: str, artifact_path: str | None = None) -> None:
        place = _run(self._get("runs/get", run_id=run_id)["run"]).info.artifact_uri
        if not place.startswith(_PROXIED) or place.startswith(f"{_PROXIED}/"):  # another store, or another server
            from components.tracking.full import FullClient

            FullClient(self._address).log_artifact(run_id, local_path, artifact_path)
            return
        path = "/".join(filter(None, (place.removeprefix(_PROXIED), artifact_path, Path(local_path).name)))
        kind = mimetypes.guess_type(local_path)[0] or "application/octet-stream"
        data = Path(local_path).read_bytes()
        self._ask("PUT", f"mlflow-artifacts/artifacts/{quote(path)}", body=data, headers={"Content-Type": kind})

    def search_logged_models(
        self, experiment_ids: Sequence[str], filter_string: str, max_results: int
    ) -> list[LoggedModel]:
        found = self._post(
            "logged-models/search",
            experiment_ids=list(experiment_ids),
            filter=filter_string,
            max_results=max_results,
        )
        return [_logged_model(model) for model in found.get("models", ())]

    def create_logged_model(
        self, experiment_id: str, *, name: str, source_run_id: str, params: Mapping[str, str], model_type: str
    ) -> LoggedModel:
        created = self._post(
            "logged-models",
            experiment_id=experiment_id,
            name=name,
            source_run_id=source_run_id,
            params=_pairs(params),
            model_type=model_type,
        )
        return _logged_model(created["model"])

    def finalize_logged_model(self, model_id: str, status: str) -> None:
        body = {"model_id": model_id, "status": f"LOGGED_MODEL_{status}"}
        self._ask("PATCH", f"mlflow/logged-models/{model_id}", json=body)

    def get_registered_model(self, name: str) -> None:
        """Raise RequestRefused with status 404 if the model does not exist."""
        self._get("registered-models/get", name=name)

    def create_registered_model(self, name: str, *, description: str) -> None:
        self._post("registered-models/create", name=name, description=description)

    def set_registered_model_alias(self, name: str, alias: str, version: str) -> None:
        self._post("registered-models/alias", name=name, alias=alias, version=version)

    def get_model_version_by_alias(self, name: str, alias: str) -> ModelVersion:
        return _version(self._get("registered-models/alias", name=name, alias=alias)["model_version"])

    def search_model_versions(self, filter_string: str) -> list[ModelVersion]:
        found = self._get("model-versions/search", filter=filter_string, max_results=str(_LARGEST_PAGE))
        return [_version(version) for version in found.get("model_versions", ())]

    def create_model_version(
        self,
        name: str,
        source: str,
        run_id: str,
        tags: Mapping[str, str],
        *,
        description: str,
        await_creation_for: int,  # noqa: ARG002 - this client never waits
    ) -> ModelVersion:
        created = self._post(
            "model-versions/create",
            name=name,
            source=source,
            run_id=run_id,
            tags=_pairs(tags),
            description=description,
        )
        return _version(created["model_version"])

    def _pages(self, path: str, name: str) -> Iterator[Any]:
        token = ""
        while True:
            page = self._post(path, max_results=_LARGEST_PAGE, page_token=token)
            yield from page.get(name, ())
            token = page.get("next_page_token", "")
            if not token:
                return

    def _get(self, path: str, **fields: str) -> Any:
        return self._ask("GET", f"mlflow/{path}", fields=fields)

    def _post(self, path: str, **body: object) -> Any:
        return self._ask("POST", f"mlflow/{path}", json=body)

    def _ask(self, method: str, path: str, **content: Any) -> Any:
        try:
            answer = self._pool.request(method, f"{self._address}/api/2.0/{path}", **content)
        except urllib3.exceptions.HTTPError as error:
            raise RequestRefused(str(getattr(error, "reason", error))) from error
        if answer.status != 200:
            raise _refusal(answer)
        try:
            return json.loads(answer.data or b"{}")  # a stored artifact is answered with nothing
        except ValueError as error:
            raise RequestRefused(f"it is no MLflow server: {error}") from error


def _whole_number(variable: str, default: int) -> int:
    """Return the value of an environment variable, in which MLflow too expects a whole number. Raises UserError."""
    text = os.environ.get(variable) or str(default)
    try:
        return int(text)
    except ValueError:
        raise UserError(f"{variable}={text!r} is not a whole number: correct or unset it") from None


def _refusal(answer: urllib3.BaseHTTPResponse) -> RequestRefused:
    try:
        said = json.loads(answer.data)
        text, code = str(said["message"]), str(said.get("error_code", ""))
    except (ValueError, KeyError, TypeError):
        text, code = answer.data.decode(errors="replace").strip(), ""
    return RequestRefused(f"HTTP {answer.status}: {text}", answer.status, code)


def _now() -> int:
    return int(time.time() * 1000)


def _pairs(values: Mapping[str, str]) -> list[dict[str, str]]:
    return [{"key": key, "value": str(value)} for key, value in values.items()]


def _metric(point: Point) -> dict[str, object]:
    value: float | str = point.value
    if not math.isfinite(point.value):  # which JSON has no numbers for
        value = "NaN" if math.isnan(point.value) else "Infinity" if point.value > 0 else "-Infinity"
    entry: dict[str, object] = {"key": point.key, "value": value, "timestamp": point.timestamp, "step": point.step}
    return {**entry, "model_id": point.model_id} if point.model_id else entry


def _values(entries: Iterable[Mapping[str, str]]) -> dict[str, str]:
    return {entry["key"]: entry.get("value", "") for entry in entries}


def _experiment(entry: Any) -> Experiment:
    return Experiment(entry["experiment_id"], entry["lifecycle_stage"], _values(entry.get("tags", ())))


def _run(entry: Any) -> Run:
    info, data = entry["info"], entry.get("data", {})
    return Run(
        RunInfo(
            info["run_id"],
            info["experiment_id"],
            info["status"],
            int(info.get("start_time", 0)),
            info.get("artifact_uri", ""),
        ),
        RunData(
            {metric["key"]: float(metric["value"]) for metric in data.get("metrics", ())},
            _values(data.get("params", ())),
            _values(data.get("tags", ())),
        ),
    )


def _version(entry: Any) -> ModelVersion:
    return ModelVersion(str(entry["version"]), entry.get("run_id", ""), _values(entry.get("tags", ())))


def _logged_model(entry: Any) -> LoggedModel:
    return LoggedModel(str(entry["info"]["model_id"]))
