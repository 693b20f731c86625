"""From a spool to the server: in order, and again until the server takes it."""

import os
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from functools import partial
from itertools import groupby
from pathlib import Path
from typing import Any, TypeVar

from components.errors import UserError, WorkFailed
from components.progress import say
from components.storage import keys
from components.storage.client import Store
from components.tracking.registry import register
from components.tracking.server import (
    TRACKING_VARIABLE,
    Point,
    RunIdentity,
    ServedRun,
    connect,
    open_served_run,
    server_name,
    without_login,
)
from components.tracking.spool import Entry, Spool, run_folder, spool_files, spool_root

RETRY_SECONDS = (0.5, 1.0, 2.0, 5.0, 10.0)
_LOGIN = (401, 403)
_BUSY = (408, 429)
_UNKNOWN = 501
"""Of a server that has no registry, say."""
_T = TypeVar("_T")
IN_A_POD = "KUBERNETES_SERVICE_HOST"
"""Kubernetes sets it in every container."""


class GaveUp(Exception):
    """The server was not reached, or lets nobody in, as the text says; the spool keeps what it has."""


class Delivery:
    """To the server at `address`; with `patient` it tries until `give_up`, else once."""

    def __init__(self, address: str, *, patient: bool = True, environ: Mapping[str, str] = os.environ) -> None:
        self.address = address
        self._name = server_name(address, environ)
        self.run: ServedRun | None = None
        self.connected = threading.Event()
        self._patient = patient
        self._gave_up = threading.Event()
        self._said = False

    def give_up(self) -> None:
        self._gave_up.set()

    @property
    def given_up(self) -> bool:
        return self._gave_up.is_set()

    def deliver(self, spool: Spool, *, works: bool) -> None:
        """All entries, until the spool is closed and empty. `works`: whose spool it is works on the run now.

        Raises GaveUp.
        """
        identity, self.run = RunIdentity(**spool.header["run"]), None
        self.run = run = self._insist(lambda: open_served_run(connect(self.address), identity, works=works))
        self.connected.set()
        while entries := spool.read():
            for call in _calls(entries):
                try:
                    self._insist(partial(call, run))
                except _Rejected as refused:
                    say("tracking", f"MLflow refused an entry, which is left out: {refused}")
            spool.delivered()

    def deliver_earlier(self, own: Spool) -> None:
        """What earlier processes left of the same run and server, before this one's. Raises GaveUp."""
        for path in spool_files(own.path.parent):
            while path < own.path and path.exists():
                spool = Spool.take(path)
                if spool is not None:
                    self.deliver_left(spool)
                    break
                if self._gave_up.wait(RETRY_SECONDS[0]):  # another process delivers it
                    raise GaveUp

    def deliver_left(self, spool: Spool) -> str:
        """What a process that ended left, where it was for this server; else the other's address. Raises GaveUp."""
        keep = True
        try:
            if spool.header.get("server", spool.header["address"]) != self._name:
                return str(spool.header["address"])
            self.deliver(spool, works=False)
            keep = False
            say("tracking", f"MLflow has what had waited on disk of {spool.header['run']['run_key']}")
        except (KeyError, TypeError):
            say("tracking", f"{spool.path} is not of this version; it is kept, and MLflow lacks what is in it")
        finally:
            spool.release(keep=keep)
        return ""

    def _insist(self, call: Callable[[], _T]) -> _T:
        """Try until it works. Raises GaveUp; _Refused for what the server does not take, however often it is tried."""
        attempt = 0
        while not self._gave_up.is_set():
            try:
                return call()
            except Exception as error:
                self._look_at(error)
            self._gave_up.wait(RETRY_SECONDS[min(attempt, len(RETRY_SECONDS) - 1)])
            attempt += 1
        raise GaveUp

    def _look_at(self, error: Exception) -> None:
        """Returns where it is worth trying again."""
        shown, status = without_login(self.address), _http_status(error)
        if status in _LOGIN or (self.run is None and _is_refusal(error)):
            raise GaveUp(f"MLflow at {shown} lets nothing in: {_first_line(error)}") from error
        if _is_refusal(error):
            raise _Rejected(_first_line(error)) from error
        if not self._patient:
            raise GaveUp(f"MLflow at {shown} does not answer: {_first_line(error)}") from error
        if not self._said:
            self._said = True
            say("tracking", f"MLflow at {shown} does not answer; what is logged is sent when it does")


class _Rejected(Exception):
    pass


def deliver_spooled(address: str, environ: Mapping[str, str] = os.environ) -> None:
    """Give the server what processes that ended left of any run.

    What it does not take, and what is for another server, is named in one line. `environ` says whether it is the
    embedded server, which is known by its folder.
    """
    paths = [path for folder in sorted(spool_root().glob("*")) for path in spool_files(folder)] if address else []
    delivery = Delivery(address, patient=False, environ=environ)
    others = set[str]()
    for path in paths:
        spool = Spool.take(path)
        if spool is None:
            continue  # a process that works on the run has it
        try:
            others.add(delivery.deliver_left(spool))
        except GaveUp as reason:
            say("tracking", f"{reason}; what waits for it is kept in {spool_root()}")
            return
    if others - {""}:
        say("tracking", f"what waits in {spool_root()} is for MLflow at {', '.join(sorted(others - {''}))}")


def _calls(entries: list[Entry]) -> Iterator[Callable[[ServedRun], object]]:
    """Requests for entries, in order; metrics that follow each other are one."""
    for kind, group in groupby(entries, key=lambda entry: str(entry["kind"])):
        if kind == "metrics":
            points = [Point(*values) for entry in group for values in entry["points"]]
            yield lambda run, points=points: run.log(points)  # type: ignore[misc]
        else:
            yield from (partial(_OPERATIONS[kind], entry) for entry in group)


def _log_checkpoint(entry: Entry, run: ServedRun) -> None:
    run.log_checkpoint(entry["epoch"], [Point(*values) for values in entry["points"]], entry["params"])


_OPERATIONS: Mapping[str, Callable[[Entry, ServedRun], Any]] = {
    "checkpoint": _log_checkpoint,
    "dataset": lambda entry, run: run.log_dataset(entry["name"], entry["digest"], entry["uri"], entry["profile"]),
    "version": lambda entry, run: register(
        run, entry["model"], entry["weights"], entry["tags"], entry.get("description", "")
    ),
    "tags": lambda entry, run: run.set_tags(entry["tags"]),
    "artifact": lambda entry, run: run.log_artifact(Path(entry["path"]), entry["folder"]),
    "status": lambda entry, run: run.set_status(entry["status"], entry["time"]),
}


def now() -> int:
    """As MLflow counts time: milliseconds since 1970."""
    return int(time.time() * 1000)


def _is_refusal(error: Exception) -> bool:
    """Whether the server understood the request and said no, or a file is not there."""
    if isinstance(error, OSError) and error.filename:
        return True
    status = _http_status(error)
    return status == _UNKNOWN or (400 <= status < 500 and status not in _BUSY)


def _http_status(error: Exception) -> int:
    status = getattr(error, "get_http_status_code", None)
    return int(status()) if callable(status) else 0


def _first_line(error: Exception) -> str:
    return (str(error).strip().splitlines() or [type(error).__name__])[0][:200]


@contextmanager
def delivered_through_store(store: Store, run_key: str) -> Iterator[None]:
    """To be around the opening and closing of a run's tracker: begins with what earlier pods left, and leaves the rest.

    Outside of pods nothing happens: there the disk keeps it.
    """
    if not os.environ.get(IN_A_POD) or not os.environ.get(TRACKING_VARIABLE):
        yield
        return
    folder, prefix = run_folder(run_key), keys.run(run_key, "mlflow/")
    brought: set[str] = set()
    with suppress(UserError, WorkFailed, OSError):
        for item in store.list(prefix):
            store.get_file(item.key, folder / item.key.removeprefix(prefix))
            brought.add(item.key)
    try:
        yield
    finally:
        try:
            left = {prefix + path.name: path.read_bytes() for path in spool_files(folder)}
            for key, data in left.items():
                store.put_bytes(key, data)
            for key in brought - left.keys():
                store.remove(key)
            if left:
                say("tracking", f"what MLflow lacks of {run_key} is in the object store until the next step brings it")
        except (UserError, WorkFailed, OSError) as error:
            say("tracking", f"what MLflow lacks of {run_key} could not be kept in the object store: {error}")
