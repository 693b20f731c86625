"""Ports on the loopback interface, and who may have them."""

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

# With the offset below the range that outgoing connections get: a port that was free yesterday mostly is today.
_INTERNAL_PORTS = range(10_100, 22_000)


@dataclass(frozen=True)
class Reservation:
    """A port of ours from before the server listens on it until the server is gone.

    A server may take many seconds to listen; meanwhile another `cps` would find its port free. So there is a lock
    for each port. The server inherits the locked file, and whatever ends it unlocks the port.
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
    """The port, unless something listens on it or is about to."""
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
    """The first port to be had from `preferred` on, so that addresses stay memorable."""
    reservations = (reserve(port) for port in range(preferred, 65_536))
    return next(reservation for reservation in reservations if reservation)


def is_free(port: int) -> bool:
    """Whether a server could listen on the port right now."""
    with socket.socket() as probe:
        # As servers do: a connection that lingers in TIME_WAIT is no reason to call a port taken.
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((LOOPBACK, port))
        except OSError:
            return False
    return True


def answers(port: int) -> bool:
    """Whether something listens on the port."""
    with contextlib.suppress(OSError), socket.create_connection((LOOPBACK, port), timeout=1):
        return True
    return False


def free_internal_ports(count: int, offset: int = 0) -> list[int]:
    """Free ports nobody has to remember, at random: two starts at once seldom pick the same.

    The port `offset` above each of them is free, too.
    """
    candidates = random.sample(_INTERNAL_PORTS, len(_INTERNAL_PORTS))
    free = (port for port in candidates if is_free(port) and is_free(port + offset))
    return [next(free) for _ in range(count)]
