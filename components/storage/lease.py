"""A lease gives one process exclusive access to something, and expires when the process dies.

with Lease(store, keys.run(run_key, "lease.json"), Holder(doing="training")) as lease:
    while not lease.lost.is_set():
        ...

A lease is one object. A heartbeat renews it, and every write fails if another process has written it in the meantime.
Times come from the holders' clocks, which are assumed to differ by much less than the duration of a lease.
"""

import contextlib
import os
import secrets
import socket
import threading
import time
from datetime import UTC, datetime
from pathlib import Path
from types import TracebackType
from typing import Self

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from components.errors import UserError, WorkFailed
from components.storage.client import MissingObject, Store

DURATION = 60.0
"""Seconds that a lease is valid after each renewal, and so the longest time that a killed process keeps it."""


class Holder(BaseModel):
    """The holder of a lease and its purpose. Fields that another version adds are ignored."""

    model_config = ConfigDict(frozen=True, extra="ignore")

    host: str = Field(default_factory=socket.gethostname)
    pid: int = Field(default_factory=os.getpid)
    run: str = ""
    doing: str = ""
    trainjob: str = ""
    """The TrainJob that the holder follows."""

    def __str__(self) -> str:
        return f"process {self.pid} on {self.host}"


class Heart(BaseModel):
    """The process that renews the lease; `Holder` may describe a different one."""

    model_config = ConfigDict(frozen=True, extra="ignore")

    pid: int
    space: str
    """See `_process_space`."""


class LeaseRecord(BaseModel):
    """The content of a lease's object."""

    model_config = ConfigDict(frozen=True, extra="ignore")

    token: str
    holder: Holder
    since: str
    """UTC, ISO 8601."""
    renewed: float
    """Seconds since the epoch."""
    seconds: float
    """How long the lease is valid after each renewal."""
    process: Heart


class LeaseHeld(WorkFailed):
    """Another process holds the lease."""

    def __init__(self, uri: str, holder: Holder, since: str) -> None:
        super().__init__(f"{uri} is held by {holder} since {since}: wait for it or stop it")
        self.uri = uri
        self.holder = holder
        self.since = since


class Lease:
    """A lease, held inside its `with` block. `holder` is shown to others, along with this host and process id.

    Entering raises LeaseHeld while another process holds the lease, and takes over an expired one.
    `lost` is set when another process has taken the lease over, such as after a long suspend: stop the work then.
    """

    def __init__(self, store: Store, key: str, holder: Holder | None = None, seconds: float = DURATION) -> None:
        self.store = store
        self.key = key
        self.seconds = seconds
        self.lost = threading.Event()
        self._token = secrets.token_hex(16)
        self._holder = holder or Holder()
        self._since = ""
        self._etag = ""
        self._released = threading.Event()
        self._heartbeat = threading.Thread(target=self._keep_alive, name="lease heartbeat", daemon=True)

    def __enter__(self) -> Self:
        self._acquire()
        self._heartbeat.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._released.set()
        self._heartbeat.join()
        # A failed release must not hide the outcome of the work: the lease expires anyway.
        with contextlib.suppress(WorkFailed, UserError):
            self._release()

    def _acquire(self) -> None:
        self._since = datetime.now(UTC).isoformat(timespec="seconds")
        while not self._etag:
            self._etag = self._create() or self._take_over() or ""

    def _create(self) -> str | None:
        return self._etag_if_ours() if self.store.put_if_absent(self.key, self._record()) else None

    def _take_over(self) -> str | None:
        """Replace an expired lease. Returns None if it is gone or another process was faster: try again."""
        try:
            data, etag = self.store.get_with_etag(self.key)
        except MissingObject:
            return None
        current = _parse(data)
        if current and not _expired(current):
            raise LeaseHeld(self.store.uri(self.key), current.holder, current.since)
        return self.store.put_if_match(self.key, self._record(), etag)

    def _keep_alive(self) -> None:
        while not self._released.wait(self.seconds / 3):
            try:
                etag = self.store.put_if_match(self.key, self._record(), self._etag)
            except (WorkFailed, UserError):
                continue  # while the store is away, nobody else can take the lease either
            if etag is None:
                self.lost.set()
                return
            self._etag = etag

    def _release(self) -> None:
        if etag := self._etag_if_ours():
            self.store.remove_if_match(self.key, etag)

    def _etag_if_ours(self) -> str | None:
        try:
            data, etag = self.store.get_with_etag(self.key)
        except MissingObject:
            return None
        current = _parse(data)
        return etag if current and current.token == self._token else None

    def _record(self) -> bytes:
        record = LeaseRecord(
            token=self._token,
            holder=self._holder,
            since=self._since,
            renewed=time.time(),
            seconds=self.seconds,
            process=Heart(pid=os.getpid(), space=_process_space()),
        )
        return record.model_dump_json().encode()


def held_by(store: Store, key: str) -> Holder | None:
    """Return the current holder of the lease at `key`, or None."""
    try:
        current = _parse(store.get_bytes(key))
    except MissingObject:
        return None
    return current.holder if current and not _expired(current) else None


def living_holder(store: Store, key: str) -> Holder | None:
    """Return the holder of the lease at `key`, or None if no living process holds it.

    A killed process leaves a valid lease behind. If this machine cannot tell, wait until the lease is renewed or
    expires, at most as long as it is valid.
    """
    first, began = None, time.monotonic()
    while True:
        try:
            current = _parse(store.get_bytes(key))
        except MissingObject:
            return None
        if current is None or _expired(current):
            return None
        first = first or current
        if _runs_here(current) or (current.token, current.renewed) != (first.token, first.renewed):
            return current.holder
        if time.monotonic() - began > first.seconds:  # the clocks differ: it should have been renewed
            return None
        time.sleep(min(1.0, first.seconds / 10))


def _parse(data: bytes) -> LeaseRecord | None:
    """Return the record, or None if it is malformed, which counts as expired."""
    try:
        return LeaseRecord.model_validate_json(data)
    except ValidationError:
        return None


def _expired(record: LeaseRecord) -> bool:
    return time.time() > record.renewed + record.seconds or _died_here(record)


def _died_here(record: LeaseRecord) -> bool:
    """Return whether the renewing process ran on this machine and has ended, so nobody has to wait for expiry."""
    return _is_here(record) and not _exists(record.process.pid)


def _runs_here(record: LeaseRecord) -> bool:
    return _is_here(record) and _exists(record.process.pid)


def _is_here(record: LeaseRecord) -> bool:
    return bool(record.process.space) and record.process.space == _process_space()


def _exists(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        return True  # it belongs to another user
    return True


def _process_space() -> str:
    """Return an id of this boot and PID namespace, in which a process id is unique, or "" if it is unknown.

    The host name is not enough: containers may share it without seeing each other's processes.
    """
    try:
        boot = Path("/proc/sys/kernel/random/boot_id").read_text().strip()
        return f"{boot} {os.readlink('/proc/self/ns/pid')}"
    except OSError:
        return ""
