"""Uploads in the background and in order, so that a step waits neither for the network nor for a store that is away.

What the store does not take is kept on local disk, and offered again until it does. What it has not taken when the
training ends is named with its local path, and delivered first when the run goes on.
"""

import threading
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass
from itertools import count
from pathlib import Path
from urllib.parse import quote, unquote

from components import progress
from components.errors import WorkFailed
from components.local_cache import default_cache
from components.storage.client import ObjectRef, Store

PATIENCE = 600.0
"""Seconds that the end of a training waits for a store that is away."""
RETRY_SECONDS = (1.0, 2.0, 5.0, 10.0)
LAST_SECONDS = 1.0
"""For an upload that is under way when it is given up."""
PARTIAL = ".part"

Make = Callable[[], bytes]
Done = Callable[[ObjectRef], None]


def _nothing(_reference: ObjectRef) -> None:
    return


@dataclass(frozen=True)
class _Item:
    key: str
    make: Make
    done: Done


class Uploads:
    """One thread, first in first out; `folder` takes what the store cannot take now."""

    def __init__(self, store: Store, folder: Path) -> None:
        self._store, self._folder = store, folder
        self._items: deque[_Item] = deque()  # the first is the one that is being stored
        self._changed = threading.Condition()
        self._closed = False
        self._failed: Exception | None = None
        self._away = threading.Event()
        self._gave_up = threading.Event()
        self._writing = threading.Lock()
        self._thread = threading.Thread(target=self._work, name="upload", daemon=True)
        self._thread.start()

    def add(self, key: str, make: Make, done: Done = _nothing, *, replaceable: bool = False) -> None:
        """Have `make()` stored at `key`, then call `done` with what was stored; both in the thread, in order.

        While the store is away, what is `replaceable` by a later upload is left out, and the rest goes to disk at once,
        so that memory does not fill. Raises what an earlier upload failed with for good, such as refused credentials.
        """
        self._raise_failed()
        if self._away.is_set():
            if replaceable:
                return
            make = self._on_disk(key, make())
        with self._changed:
            self._items.append(_Item(key, make, done))
            self._changed.notify()

    def finish(self, patience: float = PATIENCE) -> None:
        """Wait until everything is in the store, for about `patience` seconds at most.

        Raises WorkFailed that names where on this machine the rest lies.
        """
        with self._changed:
            self._closed = True
            self._changed.notify()
        self._thread.join(patience)
        if self._thread.is_alive():
            self._gave_up.set()
            self._thread.join(LAST_SECONDS)  # it may be in the middle of a request that takes long to fail
        self._raise_failed()
        with self._changed:
            left = list(self._items)
        if left:
            raise WorkFailed(self._leave(left))

    def _leave(self, items: list[_Item]) -> str:
        """Write to disk what was not stored; says where it is."""
        kept, without_room = [], []
        for item in items:
            try:
                self._write(item.key, item.make())
                kept.append(item.key)
            except OSError:
                without_room.append(item.key)
        parts = []
        if kept:
            names = kept[0] if len(kept) == 1 else f"{kept[0]} and {len(kept) - 1} more"
            parts.append(f"{names} wait in {self._folder}, and the same command on this machine delivers them")
        if without_room:
            names = ", ".join(without_room)
            parts.append(f"{names} found no room on this machine's disk, and the same command makes them again")
        return f"the object store stayed away: {'; '.join(parts)}"

    def _work(self) -> None:
        while (item := self._next()) is not None:
            try:
                if self._failed is None:
                    reference = self._insist(item.key, item.make())
                    if reference is None:
                        return
                    item.done(reference)
            except Exception as error:  # it is raised in the training's thread
                self._failed = self._failed or error
            with self._changed:
                self._items.popleft()

    def _next(self) -> _Item | None:
        """The first item, which stays where it is; None when there is and will be none."""
        with self._changed:
            self._changed.wait_for(lambda: self._items or self._closed)
            return self._items[0] if self._items and not self._gave_up.is_set() else None

    def _insist(self, key: str, data: bytes) -> ObjectRef | None:
        """What was stored; None where the store stayed away until it was given up."""
        for attempt in count():
            try:
                reference = self._store.put_bytes(key, data)
            except WorkFailed as error:
                if attempt == 0:
                    self._away.set()
                    self._on_disk(key, data)
                    progress.say("train", f"{error}; training goes on, and what it saves waits in {self._folder}")
                if self._gave_up.wait(RETRY_SECONDS[min(attempt, len(RETRY_SECONDS) - 1)]):
                    return None
            else:
                self._path(key).unlink(missing_ok=True)
                if attempt > 0:
                    self._away.clear()
                    progress.say("train", f"the object store is back: {reference.uri} is stored")
                return reference
        raise AssertionError("the loop has no end of its own")

    def _on_disk(self, key: str, data: bytes) -> Make:
        """What gives the bytes back: from disk, or from memory where the disk has no room."""
        path = self._path(key)
        try:
            self._write(key, data)
        except OSError as error:
            progress.say("train", f"{key} waits in memory, since {path} cannot be written: {error.strerror}")
            return lambda: data
        return path.read_bytes

    def _write(self, key: str, data: bytes) -> None:
        with self._writing:
            write_whole(self._path(key), data)

    def _path(self, key: str) -> Path:
        return self._folder / quote(key, safe="")

    def _raise_failed(self) -> None:
        if self._failed is not None:
            raise self._failed


def kept_folder(run_key: str) -> Path:
    """Where a training leaves what the object store could not take."""
    return default_cache() / "waiting" / run_key


def deliver_kept(store: Store, folder: Path) -> None:
    """Store what an earlier training of the run had to leave on this machine's disk."""
    if not folder.is_dir():
        return
    for path in sorted(folder.iterdir(), key=lambda item: item.stat().st_mtime):
        if path.suffix == PARTIAL:
            path.unlink()
            continue
        reference = store.put_bytes(unquote(path.name), path.read_bytes())
        path.unlink()
        progress.say("train", f"delivered what waited on disk: {reference.uri}")


def write_whole(path: Path, data: bytes) -> None:
    """The file appears whole or not at all."""
    path.parent.mkdir(parents=True, exist_ok=True)
    partial = path.with_name(path.name + PARTIAL)
    try:
        partial.write_bytes(data)
        partial.replace(path)
    finally:
        partial.unlink(missing_ok=True)
