"""Log a run to MLflow through a spool on disk and a thread that sends it. Logging never waits and never fails.

MLflow may still be migrating a new database, or be away for hours. Meanwhile entries are kept in order, and are sent
when the server responds. Entries that `close` cannot deliver stay on disk, and one line reports them. The next process
on this machine that opens the run delivers them, or `delivery.deliver_spooled` does.
"""

import os
import threading
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Literal

from components.addresses import without_login
from components.progress import say
from components.tracking.address import TRACKING_VARIABLE, run_page, server_name, tracking_link
from components.tracking.delivery import Delivery, GaveUp, now
from components.tracking.registry import SCORE_TAG, model_name
from components.tracking.spool import Header, Spool
from components.tracking.values import RUN_KEY_TAG, Point, RunIdentity, experiment_name, metric_name

Status = Literal["RUNNING", "FINISHED", "FAILED", "KILLED"]
INTERRUPTED_TAG = "interrupted"
"""The tag of a run whose processes were killed, so that it could not end itself."""
LAST_SECONDS = 1.0
"""Seconds to wait for a pending request after giving up."""


def open_run(run_key: str, dataset: str, params: Mapping[str, str], tags: Mapping[str, str] | None = None) -> "Tracker":
    """Start or resume the MLflow run of `run_key`, without waiting for the server.

    `params` are only written if the run does not have them yet; `tags` are overwritten. A caller that does the work of
    the run passes params, which set its status to RUNNING; without params, the status does not change. If
    MLFLOW_TRACKING_URI is not set, tracking is off: one line reports it, and every method does nothing.
    """
    uri = os.environ.get(TRACKING_VARIABLE, "")
    all_tags = dict(tags or {})
    # KFP's MLflow plug-in creates its own run. We find ours by its key, so we only record the id of the other.
    if os.environ.get("MLFLOW_RUN_ID"):
        all_tags["kfp.mlflow_run_id"] = os.environ["MLFLOW_RUN_ID"]
    identity = RunIdentity(run_key, experiment_name(dataset), params, all_tags, now())
    if not uri:
        say("tracking", f"off: {TRACKING_VARIABLE} is not set")
    return Tracker(uri, identity)


def spool_interruption(uri: str, run_key: str, dataset: str, environ: Mapping[str, str] = os.environ) -> None:
    """Spool that a run was killed, without waiting for the server; whoever delivers spools next marks it as KILLED."""
    identity = RunIdentity(run_key, experiment_name(dataset, environ), {}, {INTERRUPTED_TAG: "killed"}, now())
    spool = Spool.create(run_key, Header(without_login(uri), server_name(uri, environ), identity))
    spool.append({"kind": "status", "status": "KILLED", "time": now()})
    spool.release(keep=True)


class Tracker:
    """Logs to one MLflow run in the background. Use as a context manager, or call `close`."""

    def __init__(self, uri: str, identity: RunIdentity) -> None:
        self._uri = uri
        self._run_key = identity.run_key
        self._delivery = Delivery(uri)
        self._spool: Spool | None = None
        if uri:
            self._spool = Spool.create(identity.run_key, Header(without_login(uri), server_name(uri), identity))
            self._thread = threading.Thread(target=self._send, args=(self._spool,), name="mlflow", daemon=True)
            self._thread.start()

    def __enter__(self) -> "Tracker":
        return self

    def __exit__(self, kind: object, *_: object) -> None:
        # A step that is being stopped has only seconds left.
        self.close(timeout=60.0 if kind is None else 5.0)

    @property
    def on(self) -> bool:
        return self._spool is not None

    def log(self, step: int, metrics: Mapping[str, float]) -> None:
        """Log metrics at a step. Steps that a resumed run already has are skipped."""
        self._add("metrics", points=_points(metrics, step))

    def log_checkpoint(
        self, epoch: int, step: int, uri: str, metrics: Mapping[str, float] | None = None, sha256: str = ""
    ) -> None:
        """Log a checkpoint as a LoggedModel, so that MLflow can rank checkpoints; `metrics` get the epoch as step."""
        params = {"uri": uri, "sha256": sha256, "epoch": str(epoch), "step": str(step)}
        self._add("checkpoint", epoch=epoch, points=_points(metrics or {}, epoch), params=params)

    def log_dataset(self, name: str, digest: str, uri: str, profile: Mapping[str, int]) -> None:
        """Log the training dataset: the URI of its manifest, and its number of images of each kind."""
        self._add("dataset", name=name, digest=digest, uri=uri, profile=dict(profile))

    def register(
        self, dataset: str, digest: str, weights: str, miou: float, tags: Mapping[str, str], description: str = ""
    ) -> None:
        """Register the run's weights as a model version, and as the champion if `miou` is the highest so far."""
        tags = {**tags, RUN_KEY_TAG: self._run_key, SCORE_TAG: str(miou)}
        model = model_name(dataset, digest)
        self._add("version", model=model, weights=weights, tags=tags, description=description)

    def set_tags(self, tags: Mapping[str, str]) -> None:
        self._add("tags", tags=dict(tags))

    def log_artifact(self, path: Path, folder: str = "") -> None:
        """Upload the current content of a file."""
        if self._spool is not None:
            self._add("artifact", path=str(self._spool.keep(path)), folder=folder)

    def finish(self, status: Status = "FINISHED", timeout: float = 60.0) -> bool:
        """Set the final status of the run, deliver everything, and return whether it was delivered."""
        self._add("status", status=status, time=now())
        return self.close(timeout)

    def close(self, timeout: float = 60.0) -> bool:
        """Deliver all entries within `timeout` seconds. Returns False, and reports it, if some are left."""
        spool, self._spool = self._spool, None
        if spool is None:
            return True
        spool.close()
        self._thread.join(timeout)
        if not self._thread.is_alive() and spool.empty() and self._delivery.run is not None:
            spool.release(keep=False)
            return True
        self._report_undelivered(spool)
        self._delivery.give_up()
        self._thread.join(LAST_SECONDS)
        if not self._thread.is_alive():
            spool.release(keep=True)
        return False

    @property
    def url(self) -> str:
        """The web address of the run; empty until the server has responded."""
        return tracking_link(without_login(self._uri), self.page)

    @property
    def page(self) -> str:
        """The run's page, relative to MLflow's address; empty until the server has responded."""
        run = self._delivery.run
        return run_page(run.experiment_id, run.run_id) if run else ""

    def wait(self, timeout: float) -> bool:
        """Wait at most `timeout` seconds for the run to exist on the server, and return whether it does."""
        return self.on and self._delivery.connected.wait(timeout)

    def _add(self, kind: str, **values: Any) -> None:
        if self._spool is not None:
            self._spool.append({"kind": kind, **values})

    def _send(self, spool: Spool) -> None:
        try:
            self._delivery.deliver_earlier(spool)
            self._delivery.deliver(spool, works=True)
        except GaveUp as reason:
            if str(reason):
                say("tracking", f"{reason}; its entries are kept on disk")
        finally:
            if self._delivery.given_up:  # the pending request took longer than `close` waited
                spool.release(keep=True)

    def _report_undelivered(self, spool: Spool) -> None:
        lost, left = spool.flush(), []
        if spool.on_disk:
            left.append(f"the rest is kept in {spool.path}, and the next `cps` command on this machine delivers it")
        if lost:
            left.append(f"{lost} entries are lost, since the disk is full")
        say("tracking", f"MLflow at {without_login(self._uri)} did not receive everything: {'; '.join(left)}")


def _points(metrics: Mapping[str, float], step: int) -> list[tuple[str, float, int, int]]:
    """Return the metrics as the fields of a `server.Point`."""
    points = (Point(metric_name(key), float(value), int(step)) for key, value in metrics.items())
    return [(point.key, point.value, point.step, point.timestamp) for point in points]
