"""The training's side of MLflow: a queue, and a thread that sends it. Nothing here waits for the server or fails.

MLflow may still be migrating its fresh database, or be away for a while: what is logged meanwhile is kept in
order and sent when the server answers. What could not be delivered by `close` is said in one line.
"""

import os
import queue
import threading
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, Literal, TypeVar

from components.progress import say
from components.public import tracking_link
from components.tracking.server import Point, RunIdentity, ServedRun, connect, metric_name, open_served_run

TRACKING_VARIABLE = "MLFLOW_TRACKING_URI"
Status = Literal["RUNNING", "FINISHED", "FAILED", "KILLED"]

_FLUSH_SECONDS = 0.5
_RETRY_SECONDS = (0.5, 1.0, 2.0, 5.0)
_Operation = Callable[[ServedRun], None]
_T = TypeVar("_T")


def open_run(run_key: str, dataset: str, params: Mapping[str, Any], tags: Mapping[str, Any] | None = None) -> "Tracker":
    """Begin or go on with the MLflow run of `run_key`; returns at once, whether or not the server answers.

    `params` are written once, when they are new to the run; `tags` are written over. Who gives params does the
    run's work, and makes it RUNNING; without any, something is added to it and its status stays. Where
    MLFLOW_TRACKING_URI is unset tracking is off, which is said in one line, and every method does nothing.
    """
    uri = os.environ.get(TRACKING_VARIABLE, "")
    all_tags = {key: str(value) for key, value in (tags or {}).items()}
    # KFP's MLflow plug-in makes a run of its own; ours is found by its key, so the other is only written down.
    if os.environ.get("MLFLOW_RUN_ID"):
        all_tags["kfp.mlflow_run_id"] = os.environ["MLFLOW_RUN_ID"]
    identity = RunIdentity(run_key, dataset, {k: str(v) for k, v in params.items()}, all_tags)
    if not uri:
        say("tracking", f"off: {TRACKING_VARIABLE} is not set")
    return Tracker(uri, identity)


class Tracker:
    """Logs to one MLflow run in the background. Use as a context manager, or call `close`."""

    def __init__(self, uri: str, identity: RunIdentity) -> None:
        self._uri = uri
        self._identity = identity
        self._queue: queue.Queue[_Operation | Point | None] = queue.Queue()  # None is the last entry
        self._abandoned = threading.Event()
        self._connected = threading.Event()
        self._run: ServedRun | None = None
        self._warned = False
        self._thread: threading.Thread | None = None
        if uri:
            self._thread = threading.Thread(target=self._send, name="mlflow", daemon=True)
            self._thread.start()

    def __enter__(self) -> "Tracker":
        return self

    def __exit__(self, kind: object, *_: object) -> None:
        # A step that is being stopped has seconds left, and better uses for them.
        self.close(timeout=60.0 if kind is None else 5.0)

    @property
    def on(self) -> bool:
        return self._thread is not None

    def log(self, step: int, metrics: Mapping[str, float]) -> None:
        """Metrics at a step; a step that a resumed run already has is not logged twice."""
        if self.on:
            for point in _points(metrics, step):
                self._queue.put(point)

    def last_logged_step(self, metric: str, timeout: float = 10.0) -> int:
        """The newest step of a metric on the server; -1 where it has none or does not answer in `timeout` seconds."""
        answer: queue.Queue[int] = queue.Queue()
        if not self.on:
            return -1
        self._queue.put(lambda run: answer.put(max(run.logged_steps(metric), default=-1)))
        try:
            return answer.get(timeout=timeout)
        except queue.Empty:
            return -1

    def log_checkpoint(
        self, epoch: int, step: int, uri: str, metrics: Mapping[str, float] | None = None, sha256: str = ""
    ) -> None:
        """One LoggedModel per checkpoint, which ranks checkpoints of all runs by a metric; `metrics` at step=epoch."""
        points = _points(metrics or {}, epoch)
        params = {"uri": uri, "sha256": sha256, "epoch": str(epoch), "step": str(step)}
        self._do(lambda run: run.log_checkpoint(epoch, points, params))

    def set_tags(self, tags: Mapping[str, Any]) -> None:
        values = {key: str(value) for key, value in tags.items()}
        self._do(lambda run: run.set_tags(values))

    def log_artifact(self, path: Path, folder: str = "") -> None:
        """Upload a file, which must stay where it is until `close`."""
        self._do(lambda run: run.log_artifact(path, folder))

    def finish(self, status: Status = "FINISHED", timeout: float = 60.0) -> bool:
        """Close the run with its true status, deliver everything, and say whether it arrived."""
        self._do(lambda run: run.set_status(status))
        return self.close(timeout)

    def close(self, timeout: float = 60.0) -> bool:
        """Deliver what is queued, for at most `timeout` seconds. False, and one line, when some of it could not be."""
        if self._thread is None:
            return True
        self._queue.put(None)
        self._thread.join(timeout)
        delivered = not self._thread.is_alive()
        self._abandoned.set()
        self._thread = None
        if not delivered:
            say("tracking", f"MLflow at {self._uri} did not take everything within {timeout:.0f} s; the rest is lost")
        return delivered

    @property
    def url(self) -> str:
        """Where a person sees the run; empty until the server has answered."""
        return tracking_link(self._uri, self.page)

    @property
    def page(self) -> str:
        """The run's page below MLflow's address; empty until the server has answered."""
        return f"#/experiments/{self._run.experiment_id}/runs/{self._run.run_id}" if self._run else ""

    def wait(self, timeout: float) -> bool:
        """Whether the run exists on the server, waiting at most `timeout` seconds for it."""
        return self.on and self._connected.wait(timeout)

    def _do(self, operation: Callable[[ServedRun], object]) -> None:
        if self.on:
            self._queue.put(lambda run: (operation(run), None)[1])

    def _send(self) -> None:
        run = self._insist(lambda: open_served_run(connect(self._uri), self._identity))
        if run is None:
            return
        self._run = run
        self._connected.set()
        last = False
        while not last and not self._abandoned.is_set():
            points, operation, last = self._next()
            if points:
                self._insist(lambda batch=points: run.log(batch))  # type: ignore[misc]
            if operation is not None:
                self._insist(lambda act=operation: act(run))  # type: ignore[misc]

    def _next(self) -> tuple[list[Point], _Operation | None, bool]:
        """All points up to the next operation, that operation, and whether nothing follows; in the order given."""
        points: list[Point] = []
        deadline = time.monotonic() + _FLUSH_SECONDS
        while True:
            try:
                item = self._queue.get(timeout=max(0.0, deadline - time.monotonic()))
            except queue.Empty:
                return points, None, False
            if item is None:
                return points, None, True
            if not isinstance(item, Point):
                return points, item, False
            points.append(item)

    def _insist(self, call: Callable[[], _T]) -> _T | None:
        """Try until it works or the tracker is given up. What the server refuses for good is dropped, and said."""
        for attempt in range(1_000_000):
            if self._abandoned.is_set():
                return None
            try:
                return call()
            except Exception as error:
                if _refused(error):
                    say("tracking", f"MLflow refused an entry, which is left out: {_first_line(error)}")
                    return None
                if not self._warned:
                    self._warned = True
                    say("tracking", f"MLflow at {self._uri} does not answer; what is logged is sent when it does")
                self._abandoned.wait(_RETRY_SECONDS[min(attempt, len(_RETRY_SECONDS) - 1)])
        return None


def _points(metrics: Mapping[str, float], step: int) -> list[Point]:
    return [Point(metric_name(key), float(value), int(step)) for key, value in metrics.items()]


def _refused(error: Exception) -> bool:
    """Whether trying again cannot help: the server understood the request and said no, or a file is not there."""
    if isinstance(error, OSError) and error.filename:
        return True
    status = getattr(error, "get_http_status_code", None)
    return callable(status) and 400 <= status() < 500 and status() not in (408, 429)


def _first_line(error: Exception) -> str:
    return (str(error).strip().splitlines() or [type(error).__name__])[0][:200]
