"""A real object store that tests kill and bring back, a line to it that tests cut, and a disk that fills up."""

import contextlib
import math
import os
import resource
import secrets
import select
import socket
import subprocess
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from components.errors import UserError
from components.storage.client import Store
from components.storage.settings import StoreSettings
from pipeline.local import object_store
from pipeline.local.ports import LOOPBACK, answers, reserve_internal_port
from pipeline.local.state import write_identities

PIECE = 1 << 16  # bytes that a line carries at once


class Server:
    """An object store of its own, on the same ports and with the same data every time it starts."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        folder.mkdir(exist_ok=True)
        keys = secrets.token_hex(8), secrets.token_hex(16)
        write_identities(folder / "identities.json", keys)
        self._reservation = reserve_internal_port()
        self.port = self._reservation.port
        self.internal = object_store.internal_ports()
        self.settings = StoreSettings(
            endpoint=f"http://{LOOPBACK}:{self.port}", access_key=keys[0], secret_key=keys[1], bucket="tests"
        )
        self.process: subprocess.Popen[bytes] | None = None

    def start(self) -> None:
        identities = self.folder / "identities.json"
        command = object_store.command(self.folder, self.port, self.internal, identities)
        with (self.folder / "log").open("ab") as log:
            self.process = subprocess.Popen(command, stdout=log, stderr=log)

    def kill(self) -> None:
        """As the kernel does when memory runs out: no time to write anything."""
        if self.process is not None:
            self.process.kill()
            self.process.wait()

    def close(self) -> None:
        self.kill()
        os.close(self._reservation.handle)

    def wait(self) -> None:
        deadline = time.monotonic() + 60
        while time.monotonic() < deadline:
            if answers(self.port):
                with contextlib.suppress(UserError):
                    Store(self.settings).check()
                    return
            time.sleep(0.05)
        raise AssertionError(f"the object store did not start: see {self.folder / 'log'}")


class Line:
    """Forwards a port to another; each entry of `cuts` ends a connection after so many bytes of the direction.

    `rate`, which may be changed at any time, is how many bytes a second it carries to that port, over all connections.
    """

    def __init__(
        self, port: int, cuts: list[int], *, upstream: bool, host: str = LOOPBACK, rate: float = math.inf
    ) -> None:
        self.port, self.cuts, self.upstream, self.rate = port, cuts, upstream, rate
        self.carried = 0
        self._lock, self._slot = threading.Lock(), threading.Lock()
        self._listener = socket.create_server((host, 0))
        if rate < math.inf:  # else the kernel takes megabytes at once
            self._listener.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, PIECE)
        self.address = f"http://{host}:{self._listener.getsockname()[1]}"
        threading.Thread(target=self._accept, daemon=True).start()

    def close(self) -> None:
        self._listener.close()

    def _accept(self) -> None:
        with contextlib.suppress(OSError):
            while True:
                client, _ = self._listener.accept()
                threading.Thread(target=self._forward, args=(client,), daemon=True).start()

    def _forward(self, client: socket.socket) -> None:
        with contextlib.suppress(OSError), client, socket.create_connection((LOOPBACK, self.port)) as server:
            other, done = {client: server, server: client}, 0
            while True:
                for end in select.select(list(other), [], [])[0]:
                    data = end.recv(PIECE)
                    if not data:
                        return
                    if end is (client if self.upstream else server):
                        done += len(data)
                        self.carried += len(data)
                    if end is client and self.rate < math.inf:
                        with self._slot:
                            time.sleep(len(data) / self.rate)
                    other[end].sendall(data)
                if self._cut(done):
                    return

    def _cut(self, done: int) -> bool:
        with self._lock:
            if self.cuts and done >= self.cuts[0]:
                self.cuts.pop(0)
                return True
        return False


@contextmanager
def line_to(
    settings: StoreSettings, cuts: list[int], *, upstream: bool, host: str = LOOPBACK, rate: float = math.inf
) -> Iterator[Line]:
    """`host` is the address that the line is reached at, of this machine."""
    line = Line(int(settings.host.rpartition(":")[2]), cuts, upstream=upstream, host=host, rate=rate)
    try:
        yield line
    finally:
        line.close()


@contextmanager
def files_of_at_most(size: int) -> Iterator[None]:
    """A disk that is full for files that grow beyond `size` bytes."""
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))


@contextmanager
def small_disk(folder: Path, size: str) -> Iterator[Path]:
    """A disk of its own in memory; only root may mount one."""
    folder.mkdir()
    mounted = subprocess.run(["mount", "-t", "tmpfs", "-o", f"size={size}", "tmpfs", str(folder)], capture_output=True)
    if mounted.returncode:
        pytest.skip("a disk cannot be mounted here")
    try:
        yield folder
    finally:
        subprocess.run(["umount", "--lazy", str(folder)], check=True)
