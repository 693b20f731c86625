"""Deliver a spool to the server: in order, with retries."""

import os
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from functools import partial
from itertools import groupby
from pathlib import Path
from typing import Any, TypeVar

from components.addresses import through_proxy, without_login
from components.errors import UserError, WorkFailed
from components.progress import say
from components.storage import keys
from components.storage.client import Store
from components.tracking.address import TRACKING_VARIABLE, server_name
from components.tracking.registry import register
from components.tracking.server import ServedRun, connect, http_status, open_served_run
from components.tracking.spool import Entry, Spool, run_folder, spool_files, spool_root
from components.tracking.values import Point

RETRY_SECONDS = (0.5, 1.0, 2.0, 5.0, 10.0)
_LOGIN = (401, 403)
_BUSY = (408, 429)
_UNKNOWN = 501
"""The status of a server without a model registry, for instance."""
_T = TypeVar("_T")
IN_A_POD = "KUBERNETES_SERVICE_HOST"
"""Set by Kubernetes in every container."""


class GaveUp(Exception):
    """The server cannot be reached or denies access. The spool keeps its entries."""


class Delivery:
    """Delivers to the server at `address`. With `patient` it retries until `give_up`, else it tries once."""

    def __init__(self, address: str, *, patient: bool = True, environ: Mapping[str, str] = os.environ) -> None:
        self.address = address
        self._name = server_name(address, environ)
        self.run: ServedRun | None = None
        self.connected = threading.Event()
        self._patient = patient
        self._gave_up = threading.Event()
        self._reported = False

    def give_up(self) -> None:
        self._gave_up.set()

    @property
    def given_up(self) -> bool:
        return self._gave_up.is_set()

    def deliver(self, spool: Spool, *, works: bool) -> None:
        """Deliver all entries, until the spool is closed and empty. Raises GaveUp.

        Args:
            works: the process that writes the spool is working on the run.
        """
        assert spool.header is not None
        identity, self.run = spool.header.run, None
        self.run = run = self._retry(lambda: open_served_run(connect(self.address), identity, works=works))
        self.connected.set()
        while entries := spool.read():
            for call in _calls(entries):
                try:
                    self._retry(partial(call, run))
                except _Rejected as refused:
                    say("tracking", f"MLflow rejected an entry, which is skipped: {refused}")
            spool.delivered()

    def deliver_earlier(self, own: Spool) -> None:
        """Deliver the spools that earlier processes left of the same run and server. Raises GaveUp."""
        for path in spool_files(own.path.parent):
            while path < own.path and path.exists():
                spool = Spool.take(path)
                if spool is not None:
                    self.deliver_orphaned(spool)
                    break
                if self._gave_up.wait(RETRY_SECONDS[0]):  # another process is delivering it
                    raise GaveUp

    def deliver_orphaned(self, spool: Spool) -> str:
        """Deliver the spool of a process that has ended. Raises GaveUp.

        If it is for another server, leave it and return the server's address.
        """
        keep = True
        try:
            header = spool.header
            if header is None:
                raise TypeError("an unknown header")
            # A process that knew only the embedded server's address recorded that instead of the server's folder.
            if header.server not in (self._name, without_login(self.address)):
                return header.address
            self.deliver(spool, works=False)
            keep = False
            say("tracking", f"delivered the spooled entries of {header.run.run_key} to MLflow")
        except (KeyError, TypeError):
            say("tracking", f"{spool.path} is from another version; it is kept, and not delivered to MLflow")
        finally:
            spool.release(keep=keep)
        return ""

    def _retry(self, call: Callable[[], _T]) -> _T:
        """Retry until the call works. Raises GaveUp, or _Rejected for a request that the server will never accept."""
        attempt = 0
        while not self._gave_up.is_set():
            try:
                return call()
            except Exception as error:
                self._check_error(error)
            self._gave_up.wait(RETRY_SECONDS[min(attempt, len(RETRY_SECONDS) - 1)])
            attempt += 1
        raise GaveUp

    def _check_error(self, error: Exception) -> None:
        """Return if a retry may help. Raises GaveUp or _Rejected otherwise."""
        shown, status = without_login(self.address), http_status(error)
        if status in _LOGIN or (self.run is None and _is_refusal(error)):
            raise GaveUp(f"MLflow at {shown} denies access: {_first_line(error)}") from error
        if _is_refusal(error):
            raise _Rejected(_first_line(error)) from error
        if not self._patient:
            raise GaveUp(
                f"MLflow at {shown} does not answer{through_proxy(self.address)}: {_first_line(error)}"
            ) from error
        if not self._reported:
            self._reported = True
            way = through_proxy(self.address)
            say("tracking", f"MLflow at {shown} does not answer{way}; entries are sent when it does")


class _Rejected(Exception):
    pass


def deliver_spooled(address: str, environ: Mapping[str, str] = os.environ) -> None:
    """Deliver the spools of all processes that have ended, for any run.

    Print one line if delivery fails, and one if spools belong to other servers. `environ` tells whether the server is
    the embedded one, which is identified by its folder.
    """
    paths = [path for folder in sorted(spool_root().glob("*")) for path in spool_files(folder)] if address else []
    delivery = Delivery(address, patient=False, environ=environ)
    others = set[str]()
    for path in paths:
        spool = Spool.take(path)
        if spool is None:
            continue  # a process that is working on the run holds it
        try:
            others.add(delivery.deliver_orphaned(spool))
        except GaveUp as reason:
            say("tracking", f"{reason}; its spooled entries are kept in {spool_root()}")
            return
    if others - {""}:
        say("tracking", f"spooled entries in {spool_root()} are for MLflow at {', '.join(sorted(others - {''}))}")


def _calls(entries: list[Entry]) -> Iterator[Callable[[ServedRun], object]]:
    """Yield the requests for the entries, in order. Consecutive metrics become one request."""
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
    """Return the time in milliseconds since 1970, as MLflow expects it."""
    return int(time.time() * 1000)


def _is_refusal(error: Exception) -> bool:
    """Return whether a retry is pointless: the server rejected the request, or a file is missing."""
    if isinstance(error, OSError) and error.filename:
        return True
    status = http_status(error)
    return status == _UNKNOWN or (400 <= status < 500 and status not in _BUSY)


def _first_line(error: Exception) -> str:
    return (str(error).strip().splitlines() or [type(error).__name__])[0][:200]


@contextmanager
def delivered_through_store(store: Store, run_key: str) -> Iterator[None]:
    """Carry a run's spool from pod to pod through the object store. Wrap the opening and closing of the tracker in it.

    Fetch the entries that earlier pods could not deliver, and store the undelivered ones at the end. Outside of pods,
    where the disk persists, do nothing.
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
                say(
                    "tracking",
                    f"undelivered entries of {run_key} are in the object store; the next step delivers them to MLflow",
                )
        except (UserError, WorkFailed, OSError) as error:
            say("tracking", f"undelivered entries of {run_key} could not be stored in the object store: {error}")
