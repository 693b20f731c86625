"""Find and reserve ports on the loopback interface."""

import contextlib
import fcntl
import os
import random
import socket
import tempfile
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Self

LOOPBACK = "127.0.0.1"

# Even with the offset, these are below the range of outgoing connections, so a free port usually stays free.
_INTERNAL_PORTS = range(10_100, 22_000)


@dataclass(frozen=True)
class Reservation:
    """A port that is reserved from before its server listens until the server exits.

    A server may take many seconds to listen; until then, another `cps` would find its port free. Each port therefore
    has a lock file. The server inherits the locked file, so the lock is released whenever the server ends.
    """

    port: int
    handle: int

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        os.close(self.handle)


def reserve(port: int) -> Reservation | None:
    """Reserve the port; return None if another program listens on it or has reserved it."""
    folder = Path(tempfile.gettempdir()) / f"cps-ports-{os.getuid()}"
    folder.mkdir(mode=0o700, exist_ok=True)
    reservation = Reservation(port, os.open(folder / str(port), os.O_RDWR | os.O_CREAT, 0o600))
    try:
        fcntl.flock(reservation.handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        taken = True
    else:
        taken = not is_free(port)
    if taken:
        os.close(reservation.handle)
        return None
    return reservation


def reserve_from(preferred: int) -> Reservation:
    """Reserve the first available port from `preferred` on, so that addresses stay memorable."""
    reservations = (reserve(port) for port in range(preferred, 65_536))
    return next(reservation for reservation in reservations if reservation)


def is_free(port: int) -> bool:
    """Return whether a server could listen on the port now."""
    with socket.socket() as probe:
        # As servers do: a connection in TIME_WAIT does not occupy the port.
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((LOOPBACK, port))
        except OSError:
            return False
    return True


def answers(port: int) -> bool:
    """Return whether something listens on the port."""
    with contextlib.suppress(OSError), socket.create_connection((LOOPBACK, port), timeout=1):
        return True
    return False


def free_internal_ports(count: int, offset: int = 0) -> list[int]:
    """Return random free ports that nobody has reserved, so that two concurrent starts rarely pick the same ones.

    The port `offset` above each of them is free too.
    """
    free = (port for port in _candidates() if _is_available(port) and is_free(port + offset))
    return [next(free) for _ in range(count)]


def reserve_internal_port() -> Reservation:
    """Reserve a random port, for a server that may take long to listen or is started again."""
    return next(found for port in _candidates() if (found := reserve(port)))


def _candidates() -> list[int]:
    return random.sample(_INTERNAL_PORTS, len(_INTERNAL_PORTS))


def _is_available(port: int) -> bool:
    reservation = reserve(port)
    if reservation is None:
        return False
    os.close(reservation.handle)
    return True
