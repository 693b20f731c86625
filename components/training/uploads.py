"""Uploads in the background and in order, so that a step never waits for the network."""

from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Any


class Uploads:
    """One thread, first in first out. `finish` waits for all and raises the first error there was."""

    def __init__(self) -> None:
        self._pool = ThreadPoolExecutor(1, "upload")
        self._pending: list[Future[Any]] = []

    def add(self, work: Callable[[], Any]) -> None:
        self._raise_failed()
        self._pending.append(self._pool.submit(work))

    def finish(self) -> None:
        for future in self._pending:
            future.result()
        self._pending.clear()
        self._pool.shutdown()

    def _raise_failed(self) -> None:
        done = [future for future in self._pending if future.done()]
        self._pending = [future for future in self._pending if not future.done()]
        for future in done:
            future.result()
