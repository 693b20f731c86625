"""Entries for MLflow that are not delivered yet, on this machine's disk: one file per process and run, in order.

    <cache>/mlflow/<run key>/<start time>-<process id>.jsonl

The first line identifies the run and the server. Each other line is an entry in JSON. The file is locked (flock) while
a process writes or delivers it, and removed when MLflow has everything. Entries are only held in memory while the disk
is full, and at most MOST_IN_MEMORY of them.
"""

import fcntl
import json
import os
import shutil
import threading
import time
from collections import deque
from contextlib import suppress
from dataclasses import asdict, dataclass
from itertools import islice
from pathlib import Path
from typing import Any
from urllib.parse import quote

from components.disk import default_cache
from components.files import locked
from components.tracking.values import RunIdentity

Entry = dict[str, Any]


@dataclass(frozen=True)
class Header:
    """What the first line of a spool says: the run, and the server that it is for."""

    address: str
    server: str
    """The server's name, which stays if an embedded server changes its port."""
    run: RunIdentity

    @classmethod
    def read(cls, line: bytes) -> "Header":
        """Parse the line. Raises KeyError, TypeError or ValueError if another version wrote it."""
        values = json.loads(line)
        # 0.1.0 named servers by their address only.
        return cls(values["address"], values.get("server", values["address"]), RunIdentity(**values["run"]))


MOST_IN_MEMORY = 100_000
MOST_AT_ONCE = 500
"""Entries per call of `read`."""
GATHER_SECONDS = 0.5
"""How long `read` waits for further entries, so that one request carries many."""
_CHUNK = 1 << 18


def spool_root() -> Path:
    return default_cache() / "mlflow"


def run_folder(run_key: str) -> Path:
    return spool_root() / quote(run_key, safe="")


def spool_files(folder: Path) -> list[Path]:
    """Return the spool files of a run, the oldest first."""
    return sorted(folder.glob("*.jsonl"))


class Spool:
    """One spool file, for one thread that appends and one that reads.

    `header` is its first line, or None if another version wrote it.
    """

    def __init__(self, path: Path, header: Header | None, handle: int | None, first: int, size: int) -> None:
        """Use `create` or `take` instead. The entries lie between the byte offsets `first` and `size`."""
        self.path, self.header = path, header
        self._handle = handle
        self._first = self._read = first
        self._size = size
        self._without_room = 0
        self._memory: deque[bytes] = deque()  # entries that follow those on disk
        self._taken = (0, 0)  # bytes and entries that `read` returned last
        self._closed = False
        self._copies = 0
        self._changed = threading.Condition()

    @classmethod
    def create(cls, run_key: str, header: Header) -> "Spool":
        """Create a spool, which is only in memory if the disk is full."""
        path = run_folder(run_key) / f"{time.time_ns():020}-{os.getpid()}.jsonl"
        first, handle = _line(asdict(header)), None
        try:
            path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
            handle = os.open(path, os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
            fcntl.flock(handle, fcntl.LOCK_EX)
        except OSError:
            pass
        if handle is not None and not _write_whole(handle, first, 0):
            path.unlink()
            os.close(handle)
            handle = None
        return cls(path, header, handle, len(first), len(first))

    @classmethod
    def take(cls, path: Path) -> "Spool | None":
        """Open an earlier process's spool to read it, or return None if another process holds or has removed it."""
        try:
            handle = locked(path, os.O_RDWR, wait=False)
        except OSError:
            return None
        try:
            with open(handle, "rb", closefd=False) as file:
                line = file.readline()
        except OSError:
            os.close(handle)
            return None
        if not line.endswith(b"\n"):  # the process was killed while it wrote the first line
            path.unlink(missing_ok=True)
            os.close(handle)
            return None
        header = None
        with suppress(KeyError, TypeError, ValueError):
            header = Header.read(line)
        spool = cls(path, header, handle, len(line), os.fstat(handle).st_size)
        spool.close()
        return spool

    def append(self, entry: Entry) -> None:
        line = _line(entry)
        with self._changed:
            if not self._memory and self._write(line):
                pass
            elif len(self._memory) < MOST_IN_MEMORY:
                self._memory.append(line)
            else:
                self._without_room += 1
            self._changed.notify_all()

    def keep(self, file: Path) -> Path:
        """Copy a file to a folder beside the spool, which is removed with it. Returns the file itself if that fails."""
        self._copies += 1
        copy = self._copies_folder / str(self._copies) / file.name
        try:
            copy.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
            shutil.copyfile(file, copy)
        except OSError:
            return file
        return copy

    def read(self) -> list[Entry]:
        """Wait for the next entries and return them, the same ones until `delivered` is called. Empty at the end."""
        with self._changed:
            self._changed.wait_for(lambda: self._closed or not self._empty())
            if self._size - self._read < _CHUNK:  # otherwise there are enough for a request
                self._changed.wait_for(lambda: self._closed, GATHER_SECONDS)
            lines = self._from_disk() if self._read < self._size else list(islice(self._memory, MOST_AT_ONCE))
            self._taken = (sum(map(len, lines)), len(lines))
        return [json.loads(line) for line in lines]

    def delivered(self) -> None:
        """Drop the entries that `read` returned last."""
        with self._changed:
            size, count = self._taken
            self._taken = (0, 0)
            if self._read < self._size:
                self._read += size
            else:
                for _ in range(count):
                    self._memory.popleft()
            if self._read >= self._size and self._handle is not None:
                os.ftruncate(self._handle, self._first)
                self._read = self._size = self._first

    def close(self) -> None:
        """Mark the end: no entry is appended after this."""
        with self._changed:
            self._closed = True
            self._changed.notify_all()

    def empty(self) -> bool:
        with self._changed:
            return self._empty()

    def flush(self) -> int:
        """Write the entries in memory to disk, and return how many are lost because the disk is full.

        Entries that are being sent at this moment will be sent again.
        """
        with self._changed:
            self._taken = (0, 0)
            while self._memory and self._write(self._memory[0]):
                self._memory.popleft()
            return self._without_room + len(self._memory)

    def release(self, *, keep: bool) -> None:
        """Unlock the file for another process, or remove it."""
        with self._changed:
            if self._handle is None:
                return
            if not keep:
                self.path.unlink(missing_ok=True)
                shutil.rmtree(self._copies_folder, ignore_errors=True)
                _remove_empty(self.path.parent)
            os.close(self._handle)
            self._handle = None

    @property
    def on_disk(self) -> bool:
        return self._handle is not None

    @property
    def _copies_folder(self) -> Path:
        return self.path.with_suffix(".files")

    def _empty(self) -> bool:
        return self._read >= self._size and not self._memory

    def _from_disk(self) -> list[bytes]:
        assert self._handle is not None
        wanted = _CHUNK
        while True:
            data = os.pread(self._handle, min(wanted, self._size - self._read), self._read)
            whole = data[: data.rfind(b"\n") + 1]
            if whole:
                return whole.splitlines(keepends=True)[:MOST_AT_ONCE]
            if len(data) < wanted:  # a killed process left the last line incomplete
                self._size = self._read
                return []
            wanted *= 2

    def _write(self, line: bytes) -> bool:
        if self._handle is None or not _write_whole(self._handle, line, self._size):
            return False
        self._size += len(line)
        return True


def _line(entry: Entry) -> bytes:
    return json.dumps(entry).encode() + b"\n"


def _write_whole(handle: int, data: bytes, offset: int) -> bool:
    """Write all of the data or nothing, and return whether it was written."""
    try:
        if os.pwrite(handle, data, offset) == len(data):
            return True
        os.ftruncate(handle, offset)
    except OSError:
        pass
    return False


def _remove_empty(folder: Path) -> None:
    try:
        folder.rmdir()
    except OSError:
        return  # the run has other spools
