"""Upload in the background and in order, so that training steps never wait for the network or an unavailable store.

Memory use stays bounded even if the store is slow: a newer recovery replaces a waiting one, and waiting checkpoints are
written to local disk. If uploads remain when training ends, the error names their local folder, and the next process of
the run on this machine delivers them first.
"""

import threading
import time
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass
from itertools import count
from pathlib import Path

from components import progress
from components.errors import WorkFailed
from components.files import write_whole
from components.storage.client import ObjectRef, Store
from components.storage.failures import SourceFailed
from components.storage.transfer import BytesSource
from components.training.supervision.pending import pending_path
from components.training.supervision.watchdog import PREEMPTION_PATIENCE, Termination

PATIENCE = 600.0
"""Seconds to wait for pending uploads when training ends."""
RETRY_SECONDS = (1.0, 2.0, 5.0, 10.0)
LAST_SECONDS = 1.0
"""Seconds to wait for an upload in progress after giving up."""
POLL_SECONDS = 0.1

Make = Callable[[], bytes]
Place = Callable[[], str]
Done = Callable[[ObjectRef], None]


def _nothing(_reference: ObjectRef) -> None:
    return


class NotStored(WorkFailed):
    """Some uploads did not finish; the message says where their data is."""


@dataclass(eq=False)
class _Item:
    key: str
    make: Make
    done: Done
    place: Place
    replaceable: bool
    stored: bool = False

    def pack(self) -> bytes:
        """Return the bytes, and release the state they were made from, so that only one of the two is in memory."""
        data = self.make()
        self.make = lambda: data
        return data


class _Abandonable(BytesSource):
    """Bytes whose upload fails soon after `gave_up` is set, so that the process can exit."""

    def __init__(self, data: bytes, gave_up: threading.Event) -> None:
        super().__init__(data)
        self._gave_up = gave_up

    def read_at(self, offset: int, size: int) -> bytes:
        if self._gave_up.is_set():
            raise SourceFailed("the upload was given up")
        return super().read_at(offset, size)


class Uploads:
    """A queue of uploads and the thread that runs them. `folder` holds waiting uploads if the store is unavailable."""

    def __init__(self, store: Store, folder: Path) -> None:
        self._store, self._folder = store, folder
        self._items: deque[_Item] = deque()  # the first one is being uploaded
        self._changed = threading.Condition()
        self._closed = False
        self._finished = False  # `finish` has returned or raised NotStored
        self._failed: Exception | None = None
        self._away = threading.Event()
        self._gave_up = threading.Event()
        self._packing = threading.Lock()  # held to pack an item, or to write or remove its file: both threads do
        self._on_disk: dict[str, _Item] = {}  # the item whose bytes are in the file of each key
        self._thread = threading.Thread(target=self._work, name="upload", daemon=True)
        self._thread.start()

    def add(
        self,
        key: str,
        make: Make,
        done: Done = _nothing,
        *,
        replaceable: bool = False,
        place: Place | None = None,
    ) -> None:
        """Queue an upload: the thread stores `make()` at `key`, then calls `done` with the stored object.

        An upload that is not `replaceable` is written to disk immediately if the store is unavailable or another such
        upload is waiting, so that memory use stays bounded. Raises the permanent error of an earlier upload, such as
        denied access.

        Args:
            replaceable: a later upload with the same `key` replaces this one while it waits.
            place: returns the key to store at, and is called when the upload starts; `key` only names it until then.
        """
        self._raise_failed()
        item = _Item(key, make, done, place or (lambda: key), replaceable)
        if not replaceable and (self._away.is_set() or any(not other.replaceable for other in self._waiting())):
            self._keep_or_say(item)
        with self._changed:
            if replaceable:
                # Append the new one: a recovery may only be stored after every checkpoint that it lists.
                kept = [other for number, other in enumerate(self._items) if number == 0 or other.key != key]
                self._items = deque(kept)
            self._items.append(item)
            self._changed.notify()

    def settled(self, seconds: float) -> bool:
        """Wait up to `seconds` until the queue is empty, and return whether it is."""
        with self._changed:
            return self._changed.wait_for(lambda: not self._items, seconds)

    def finish(self, patience: float = PATIENCE, stop: Termination | None = None) -> None:
        """Wait up to about `patience` seconds until everything is in the store. Raises NotStored.

        When `stop` is set, the process may be killed at any moment, so the remaining uploads are first written to disk,
        and then get the rest of PREEMPTION_PATIENCE to finish.
        """
        stop = stop or Termination()
        with self._changed:
            self._closed = True
            self._changed.notify()
        self._join(patience, stop)
        if stop.is_set() and self._thread.is_alive():
            self._keep_all()
            self._thread.join(stop.left(PREEMPTION_PATIENCE))
        self._gave_up.set()
        self._thread.join(LAST_SECONDS)  # a request in progress may take long to fail
        self._raise_failed()
        self._keep_all()
        with self._packing:
            self._finished = True
            lacking = self._unstored()
        if lacking:
            raise NotStored(self._where(lacking))

    def _join(self, patience: float, stop: Termination) -> None:
        deadline = time.monotonic() + patience
        while self._thread.is_alive() and time.monotonic() < deadline and not stop.is_set():
            self._thread.join(POLL_SECONDS)

    def _waiting(self) -> list[_Item]:
        """Return the queued items except the first, whose upload has started."""
        with self._changed:
            return list(self._items)[1:]

    def _unstored(self) -> list[_Item]:
        """Return the newest unstored item of each key.

        They are in the queue's order: a recovery contains digests that are computed when its checkpoints are packed.
        """
        with self._changed:
            items = [item for item in self._items if not item.stored]
        newest = {item.key: item for item in items}
        return [item for item in items if newest[item.key] is item]

    def _keep_all(self) -> None:
        for item in self._unstored():
            try:
                self._keep(item)
            except OSError:
                continue  # `finish` reports it if the upload fails, too

    def _where(self, lacking: list[_Item]) -> str:
        kept = [item.key for item in lacking if self._on_disk.get(item.key) is item]
        without_room = [item.key for item in lacking if item.key not in kept]
        parts = []
        if kept:
            saved = f"{kept[0]} is saved" if len(kept) == 1 else f"{kept[0]} and {len(kept) - 1} more are saved"
            parts.append(f"{saved} in {self._folder}: rerun the same command on this machine to upload them")
        if without_room:
            parts.append(
                f"{', '.join(without_room)} did not fit on this machine's disk: the work since the newest stored "
                "recovery is lost, and the same command redoes it"
            )
        return f"the object store did not accept everything in time: {'; '.join(parts)}"

    def _work(self) -> None:
        while (item := self._next()) is not None:
            try:
                if self._failed is None and not self._insist(item):
                    return
            except Exception as error:  # the training's thread raises it
                self._failed = self._failed or error
            with self._changed:
                self._items.popleft()
                self._changed.notify_all()

    def _next(self) -> _Item | None:
        """Wait for an item and return it without removing it; None if the queue is closed and empty, or given up."""
        with self._changed:
            self._changed.wait_for(lambda: self._items or self._closed)
            return self._items[0] if self._items and not self._gave_up.is_set() else None

    def _insist(self, item: _Item) -> bool:
        """Upload the item, retrying until it is stored. Return False if the upload is given up first."""
        with self._packing:
            data = item.pack()
        key, source = item.place(), _Abandonable(data, self._gave_up)
        for attempt in count():
            try:
                reference = self._store.put_source(key, source, len(data))
            except WorkFailed as error:
                if attempt == 0 and not self._gave_up.is_set():
                    self._away.set()
                    self._keep_or_say(item)
                    progress.say(
                        "train", f"{error}; training continues, and saves to {self._folder} until the store is back"
                    )
                if self._gave_up.wait(RETRY_SECONDS[min(attempt, len(RETRY_SECONDS) - 1)]):
                    return False
            else:
                self._stored(item, reference)
                if attempt > 0:
                    self._away.clear()
                    progress.say("train", f"the object store is back: {reference.uri} is stored")
                return True
        raise AssertionError("the loop has no end of its own")

    def _stored(self, item: _Item, reference: ObjectRef) -> None:
        item.done(reference)
        with self._packing:
            if self._finished:
                return  # `finish` has named the file: the next process may be reading it, and removes it
            item.stored = True
            if self._on_disk.get(item.key) is item:  # not a newer item, written when the training was stopped
                pending_path(self._folder, item.key).unlink(missing_ok=True)

    def _keep_or_say(self, item: _Item) -> None:
        """Write a waiting item to disk; if that fails, report it and keep the item in memory."""
        try:
            self._keep(item)
        except OSError as error:
            path = pending_path(self._folder, item.key)
            progress.say("train", f"{item.key} stays in memory, because {path} cannot be written: {error.strerror}")

    def _keep(self, item: _Item) -> None:
        path = pending_path(self._folder, item.key)
        with self._packing:
            if item.stored or self._on_disk.get(item.key) is item:
                return
            write_whole(path, item.pack())
            self._on_disk[item.key] = item
            item.make = path.read_bytes

    def _raise_failed(self) -> None:
        if self._failed is not None:
            raise self._failed
