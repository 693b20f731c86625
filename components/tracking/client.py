"""The training's side of MLflow: a spool on disk, and a thread that sends it. Nothing here waits or fails.

MLflow may still be migrating its fresh database, or be away for hours: what is logged meanwhile is kept in order and
sent when the server answers. What could not be delivered by `close` stays on disk, is named in one line, and is
delivered by the next process on this machine that opens the run, or by `delivery.deliver_spooled`.
"""

import os
import threading
from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any, Literal

from components.progress import say
from components.tracking.delivery import Delivery, GaveUp, now
from components.tracking.registry import SCORE_TAG, model_name
from components.tracking.server import (
    RUN_KEY_TAG,
    TRACKING_VARIABLE,
    Point,
    RunIdentity,
    experiment_name,
    metric_name,
    server_name,
    tracking_link,
    without_login,
)
from components.tracking.spool import Spool

Status = Literal["RUNNING", "FINISHED", "FAILED", "KILLED"]
AS_A_TRAINING = "?workflowType=machine_learning"
"""Else MLflow shows the page among those of language models, without a way to the other runs."""
LAST_SECONDS = 1.0
"""For a request that is under way when it is given up."""


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
    texts = {key: str(value) for key, value in params.items()}
    identity = RunIdentity(run_key, experiment_name(dataset), texts, all_tags, now())
    if not uri:
        say("tracking", f"off: {TRACKING_VARIABLE} is not set")
    return Tracker(uri, identity)


class Tracker:
    """Logs to one MLflow run in the background. Use as a context manager, or call `close`."""

    def __init__(self, uri: str, identity: RunIdentity) -> None:
        self._uri = uri
        self._run_key = identity.run_key
        self._delivery = Delivery(uri)
        self._spool: Spool | None = None
        if uri:
            header = {"address": without_login(uri), "server": server_name(uri), "run": asdict(identity)}
            self._spool = Spool.create(identity.run_key, header)
            self._thread = threading.Thread(target=self._send, args=(self._spool,), name="mlflow", daemon=True)
            self._thread.start()

    def __enter__(self) -> "Tracker":
        return self

    def __exit__(self, kind: object, *_: object) -> None:
        # A step that is being stopped has seconds left, and better uses for them.
        self.close(timeout=60.0 if kind is None else 5.0)

    @property
    def on(self) -> bool:
        return self._spool is not None

    def log(self, step: int, metrics: Mapping[str, float]) -> None:
        """Metrics at a step; a step that a resumed run already has is not logged twice."""
        self._add("metrics", points=_points(metrics, step))

    def log_checkpoint(
        self, epoch: int, step: int, uri: str, metrics: Mapping[str, float] | None = None, sha256: str = ""
    ) -> None:
        """One LoggedModel per checkpoint, which ranks checkpoints of all runs by a metric; `metrics` at step=epoch."""
        params = {"uri": uri, "sha256": sha256, "epoch": str(epoch), "step": str(step)}
        self._add("checkpoint", epoch=epoch, points=_points(metrics or {}, epoch), params=params)

    def log_dataset(self, name: str, digest: str, uri: str, profile: Mapping[str, int]) -> None:
        """What the run learns from: its manifest's address, and how many images it has of what kind."""
        self._add("dataset", name=name, digest=digest, uri=uri, profile=dict(profile))

    def register(
        self, dataset: str, digest: str, weights: str, miou: float, tags: Mapping[str, Any], description: str = ""
    ) -> None:
        """The run's weights as a version in the registry, and as its dataset's champion where `miou` is the highest."""
        texts = {key: str(value) for key, value in tags.items()}
        tags = {**texts, RUN_KEY_TAG: self._run_key, SCORE_TAG: str(miou)}
        model = model_name(dataset, digest)
        self._add("version", model=model, weights=weights, tags=tags, description=description)

    def set_tags(self, tags: Mapping[str, Any]) -> None:
        self._add("tags", tags={key: str(value) for key, value in tags.items()})

    def log_artifact(self, path: Path, folder: str = "") -> None:
        """Upload a file as it is now."""
        if self._spool is not None:
            self._add("artifact", path=str(self._spool.keep(path)), folder=folder)

    def finish(self, status: Status = "FINISHED", timeout: float = 60.0) -> bool:
        """Close the run with its true status, deliver everything, and say whether it arrived."""
        self._add("status", status=status, time=now())
        return self.close(timeout)

    def close(self, timeout: float = 60.0) -> bool:
        """Deliver what is logged, for at most `timeout` seconds. False, and one line, when some of it could not be."""
        spool, self._spool = self._spool, None
        if spool is None:
            return True
        spool.close()
        self._thread.join(timeout)
        if not self._thread.is_alive() and spool.empty() and self._delivery.run is not None:
            spool.release(keep=False)
            return True
        self._name_what_is_left(spool)
        self._delivery.give_up()
        self._thread.join(LAST_SECONDS)
        if not self._thread.is_alive():
            spool.release(keep=True)
        return False

    @property
    def url(self) -> str:
        """Where a person sees the run; empty until the server has answered."""
        return tracking_link(without_login(self._uri), self.page)

    @property
    def page(self) -> str:
        """The run's page below MLflow's address; empty until the server has answered."""
        run = self._delivery.run
        return f"#/experiments/{run.experiment_id}/runs/{run.run_id}{AS_A_TRAINING}" if run else ""

    def wait(self, timeout: float) -> bool:
        """Whether the run exists on the server, waiting at most `timeout` seconds for it."""
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
                say("tracking", f"{reason}; what is logged is kept on disk")
        finally:
            if self._delivery.given_up:  # after a request that outlasted `close`
                spool.release(keep=True)

    def _name_what_is_left(self, spool: Spool) -> None:
        lost, left = spool.leave(), []
        if spool.on_disk:
            left.append(f"the rest waits in {spool.path}, and the next `cps` command on this machine delivers it")
        if lost:
            left.append(f"{lost} entries found no room on the disk and are lost")
        say("tracking", f"MLflow at {without_login(self._uri)} did not take everything: {'; '.join(left)}")


def _points(metrics: Mapping[str, float], step: int) -> list[tuple[str, float, int, int]]:
    """As `server.Point` takes them."""
    points = (Point(metric_name(key), float(value), int(step)) for key, value in metrics.items())
    return [(point.key, point.value, point.step, point.timestamp) for point in points]
