"""A lease says who works on something, and frees it by itself when that process dies.

with Lease(store, keys.run(run_key, "lease.json"), {"doing": "training"}) as lease:
    while not lease.lost.is_set():
        ...

It is one object, written only under the condition that nobody else has written it since, and rewritten by a
heartbeat. Times are those of the holders' clocks, which are taken to differ by much less than the lease lasts.
"""

import contextlib
import json
import os
import secrets
import socket
import threading
import time
from collections.abc import Mapping
from datetime import UTC, datetime
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from components.errors import UserError, WorkFailed
from components.storage.client import MissingObject, Store


class LeaseHeld(WorkFailed):
    """Somebody else works on it."""

    def __init__(self, uri: str, holder: Mapping[str, Any], since: str) -> None:
        super().__init__(
            f"{uri} is held by process {holder.get('pid', '?')} on {holder.get('host', '?')} since {since}: "
            "wait for it or stop it"
        )
        self.uri = uri
        self.holder = dict(holder)
        self.since = since


class Lease:
    """Held inside its `with` block. `holder` is what others are told besides this host and process.

    Raises LeaseHeld on entering while another holds it; an expired lease is taken over.
    `lost` is set when another took it over from us, as after a long suspend: stop then, the work is theirs.
    """

    def __init__(self, store: Store, key: str, holder: Mapping[str, Any], seconds: float = 60) -> None:
        self.store = store
        self.key = key
        self.seconds = seconds
        self.lost = threading.Event()
        self._token = secrets.token_hex(16)
        self._holder = {"host": socket.gethostname(), "pid": os.getpid(), **holder}
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
        # Failing to give it back must not hide how the work went: the lease expires by itself.
        with contextlib.suppress(WorkFailed, UserError):
            self._release()

    def _acquire(self) -> None:
        self._since = datetime.now(UTC).isoformat(timespec="seconds")
        while not self._etag:
            self._etag = self._create() or self._take_over() or ""

    def _create(self) -> str | None:
        return self._etag_if_ours() if self.store.put_if_absent(self.key, self._record()) else None

    def _take_over(self) -> str | None:
        """Replace an expired lease. None where it went away or another was quicker: look again."""
        try:
            data, etag = self.store.get_with_etag(self.key)
        except MissingObject:
            return None
        current = _parse(data)
        if current and not _expired(current):
            raise LeaseHeld(self.store.uri(self.key), current["holder"], current["since"])
        return self.store.put_if_match(self.key, self._record(), etag)

    def _keep_alive(self) -> None:
        while not self._released.wait(self.seconds / 3):
            try:
                etag = self.store.put_if_match(self.key, self._record(), self._etag)
            except (WorkFailed, UserError):
                continue  # the store is away: until it is back, nobody else can take the lease either
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
        return etag if current and current["token"] == self._token else None

    def _record(self) -> bytes:
        record = {
            "token": self._token,
            "holder": self._holder,
            "since": self._since,
            "renewed": time.time(),
            "seconds": self.seconds,
            # Apart from the holder, who may speak of another process than the one whose heart beats here.
            "process": {"pid": os.getpid(), "space": _process_space()},
        }
        return json.dumps(record).encode()


def held_by(store: Store, key: str) -> dict[str, Any] | None:
    """Who holds the lease at `key` now; None where nobody does."""
    try:
        current = _parse(store.get_bytes(key))
    except MissingObject:
        return None
    return dict(current["holder"]) if current and not _expired(current) else None


def _parse(data: bytes) -> dict[str, Any] | None:
    """The record, or None for what is not one: it cannot say when it expires, so it has."""
    try:
        record = json.loads(data)
        float(record["renewed"] + record["seconds"])
        int(record["process"]["pid"])
        whole = isinstance(record["holder"], dict) and isinstance(record["process"]["space"], str)
        return record if whole and {"token", "since"} <= record.keys() else None
    except (ValueError, TypeError, KeyError):
        return None


def _expired(record: Mapping[str, Any]) -> bool:
    return bool(time.time() > record["renewed"] + record["seconds"]) or _died_here(record)


def _died_here(record: Mapping[str, Any]) -> bool:
    """Whether the holder was a process that we would see if it lived: no need then to wait for the expiry."""
    process = record["process"]
    if not process["space"] or process["space"] != _process_space():
        return False
    try:
        os.kill(process["pid"], 0)
    except ProcessLookupError:
        return True
    except PermissionError:
        return False  # it lives, and belongs to another user
    return False


def _process_space() -> str:
    """Names the set of processes in which a pid has one meaning: this boot, this container. "" if unknown.

    The host's name would not do: containers may share it and still not see each other's processes.
    """
    try:
        boot = Path("/proc/sys/kernel/random/boot_id").read_text().strip()
        return f"{boot} {os.readlink('/proc/self/ns/pid')}"
    except OSError:
        return ""
