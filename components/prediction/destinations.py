"""Where predictions go, and what is there already: a folder, or a prefix of the object store.

An image whose outputs are all there, made by the same weights in the same way from the same picture, is not done
again; so a killed prediction goes on where it was.
"""

import json
import threading
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Protocol

from components.files import replacing
from components.prediction.photographs import Photograph

if TYPE_CHECKING:
    from components.storage.client import Store

LEDGER = "predictions.jsonl"
CONTENT_TYPES = {
    ".png": "image/png",
    ".jpg": "image/jpeg",
    ".html": "text/html; charset=utf-8",
    ".json": "application/json",
}


class Destination(Protocol):
    def holds(self, photograph: Photograph, names: Sequence[str]) -> bool:
        """Whether the outputs `names` of this very image are there. May raise Unreadable."""

    def put(self, photograph: Photograph, files: Mapping[str, bytes]) -> None:
        """Store an image's outputs, all of them or none."""

    def read(self, name: str) -> bytes:
        """An output that is there."""

    def put_page(self, name: str, data: bytes) -> None:
        """Store what belongs to no one image."""


class LocalFolder:
    """Files below a folder. predictions.jsonl in it has a line for each finished image, written after its files."""

    def __init__(self, root: Path, stamp: str) -> None:
        """`stamp` says which weights and settings make the outputs."""
        self._root, self._stamp = root, stamp
        self._lock = threading.Lock()
        self._finished = self._read_ledger()

    def holds(self, photograph: Photograph, names: Sequence[str]) -> bool:
        entry = self._finished.get(photograph.name)
        if entry is None or entry.get("stamp") != self._stamp or entry.get("version") != photograph.version():
            return False
        return all((self._root / name).is_file() for name in names)

    def put(self, photograph: Photograph, files: Mapping[str, bytes]) -> None:
        for name, data in files.items():
            _write(self._root / name, data)
        entry = {
            "name": photograph.name,
            "image": photograph.shown,
            "version": photograph.version(),
            "stamp": self._stamp,
        }
        line = (json.dumps(entry) + "\n").encode()
        with self._lock, (self._root / LEDGER).open("ab") as ledger:
            ledger.write(line)

    def read(self, name: str) -> bytes:
        return (self._root / name).read_bytes()

    def put_page(self, name: str, data: bytes) -> None:
        _write(self._root / name, data)

    def _read_ledger(self) -> dict[str, dict[str, str]]:
        """The newest entry of each name. A line that a killed run left unfinished counts for nothing."""
        finished: dict[str, dict[str, str]] = {}
        path = self._root / LEDGER
        try:
            text = path.read_text(encoding="utf-8", errors="replace")
        except OSError:
            return finished
        if text and not text.endswith("\n"):
            with path.open("ab") as ledger:
                ledger.write(b"\n")
        for line in text.splitlines():
            try:
                entry = json.loads(line)
                finished[entry["name"]] = entry
            except (ValueError, KeyError, TypeError):
                continue
        return finished


class StoreFolder:
    """Objects below a prefix that is for these weights, settings and images only."""

    def __init__(self, store: "Store", prefix: str) -> None:
        """`prefix` ends with a slash."""
        self._store, self._prefix = store, prefix
        self._there = {item.key for item in store.list(prefix)}

    def holds(self, photograph: Photograph, names: Sequence[str]) -> bool:  # noqa: ARG002 - the prefix is for them
        return all(self._prefix + name in self._there for name in names)

    def put(self, photograph: Photograph, files: Mapping[str, bytes]) -> None:  # noqa: ARG002
        for name, data in files.items():
            self.put_page(name, data)

    def read(self, name: str) -> bytes:
        return self._store.get_bytes(self._prefix + name)

    def put_page(self, name: str, data: bytes) -> None:
        self._store.put_bytes(self._prefix + name, data, CONTENT_TYPES[Path(name).suffix])


def _write(path: Path, data: bytes) -> None:
    """All of it or nothing: a killed run leaves no half picture."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with replacing(path) as partial:
        partial.write_bytes(data)
