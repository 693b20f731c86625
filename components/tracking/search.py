"""Search the runs of an MLflow server: filtered, ordered and cut by the server.

A plain HTTP server is asked directly, because importing MLflow takes longer than any search. Everything else, such as
authentication and TLS, is left to MLflow's client.
"""

import json
import os
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

from components.addresses import proxy_of
from components.tracking.server import TRACKING_VARIABLE, connect, no_answer

_Answer = TypeVar("_Answer")
_SECONDS = 20
_LARGEST_PAGE = 1000


@dataclass(frozen=True)
class FoundRun:
    """A run on the server. Times are in milliseconds since 1970."""

    run_id: str
    experiment_id: str
    status: str
    start_time: int
    metrics: Mapping[str, float]
    params: Mapping[str, str]
    tags: Mapping[str, str]


class RunSearch:
    """Searches all experiments of one server, which are listed once. Safe to share between threads."""

    def __init__(self, address: str) -> None:
        """List the experiments. Raises UserError."""
        self._address = address
        self._server: _PlainServer | _Client = _PlainServer(address) if _is_plain(address) else _Client(address)
        self._experiments = self._answer(self._server.experiments)

    def find(self, conditions: str, order_by: Sequence[str], limit: int) -> list[FoundRun]:
        """Return at most `limit` runs; `conditions` and `order_by` are in MLflow's search syntax. Raises UserError."""
        return self._answer(lambda: self._server.search(self._experiments, conditions, order_by, limit))

    def _answer(self, ask: Callable[[], _Answer]) -> _Answer:
        errors: tuple[type[Exception], ...] = (OSError, *_client_errors(self._server))
        try:
            return ask()
        except errors as error:
            raise no_answer(self._address, error) from None


def quoted(text: str) -> str | None:
    """Return a value for a search condition, or None for a value that MLflow's syntax cannot express."""
    quote = next((mark for mark in "'\"" if mark not in text), None)
    return quote and f"{quote}{text}{quote}"


def _is_plain(address: str) -> bool:
    """Return whether the server needs nothing but plain HTTP: no login, no TLS, no proxy."""
    configured = [name for name in os.environ if name.startswith("MLFLOW_TRACKING_") and name != TRACKING_VARIABLE]
    credentials = Path.home() / ".mlflow" / "credentials"
    return address.startswith("http://") and not (
        configured or credentials.exists() or "@" in address or proxy_of(address)
    )


class _Refused(OSError):
    """The server answered with an error."""


class _PlainServer:
    def __init__(self, address: str) -> None:
        import urllib3

        retries = urllib3.Retry(total=1, backoff_factor=0.2, allowed_methods=None)  # a search may be repeated
        self._pool = urllib3.PoolManager(timeout=urllib3.Timeout(connect=5, read=_SECONDS), retries=retries, maxsize=8)
        self._api = f"{address.rstrip('/')}/api/2.0/mlflow/"

    def experiments(self) -> list[str]:
        found, token = list[str](), ""
        while True:
            page = self._post("experiments/search", max_results=_LARGEST_PAGE, page_token=token)
            found += [entry["experiment_id"] for entry in page.get("experiments", ())]
            token = page.get("next_page_token", "")
            if not token:
                return found

    def search(self, experiments: list[str], conditions: str, order_by: Sequence[str], limit: int) -> list[FoundRun]:
        found = self._post(
            "runs/search",
            experiment_ids=experiments,
            filter=conditions,
            max_results=limit,
            order_by=list(order_by),
        )
        return [_from_json(run) for run in found.get("runs", ())]

    def _post(self, path: str, **body: int | str | list[str]) -> Any:
        import urllib3

        try:
            answer = self._pool.request("POST", self._api + path, json=body)
            if answer.status != 200:
                raise _Refused(f"HTTP {answer.status}: {_message(answer.data)}")
            return json.loads(answer.data)
        except urllib3.exceptions.HTTPError as error:
            raise _Refused(str(getattr(error, "reason", error))) from error
        except ValueError as error:
            raise _Refused(f"it is no MLflow server: {error}") from error


class _Client:
    def __init__(self, address: str) -> None:
        self._client = connect(address)

    def experiments(self) -> list[str]:
        return [entry.experiment_id for entry in self._client.search_experiments()]

    def search(self, experiments: list[str], conditions: str, order_by: Sequence[str], limit: int) -> list[FoundRun]:
        runs = self._client.search_runs(experiments, conditions, max_results=limit, order_by=list(order_by))
        return [
            FoundRun(
                run.info.run_id,
                run.info.experiment_id,
                run.info.status,
                run.info.start_time,
                run.data.metrics,
                run.data.params,
                run.data.tags,
            )
            for run in runs
        ]


def _client_errors(server: _PlainServer | _Client) -> tuple[type[Exception], ...]:
    if isinstance(server, _PlainServer):
        return ()
    from mlflow.exceptions import MlflowException

    return (MlflowException,)


def _from_json(run: Any) -> FoundRun:
    info, data = run["info"], run["data"]
    return FoundRun(
        info["run_id"],
        info["experiment_id"],
        info["status"],
        int(info["start_time"]),
        {entry["key"]: float(entry["value"]) for entry in data.get("metrics", ())},
        {entry["key"]: entry["value"] for entry in data.get("params", ())},
        {entry["key"]: entry["value"] for entry in data.get("tags", ())},
    )


def _message(data: bytes) -> str:
    try:
        return str(json.loads(data)["message"])
    except (ValueError, KeyError, TypeError):
        return data.decode(errors="replace").strip()
