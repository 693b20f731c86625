"""Destinations for predictions: a local folder, or a prefix in the object store.

An image is skipped if all its outputs exist and come from the same image, weights and settings, so an interrupted
prediction resumes.
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
        """Return whether the outputs `names` of this image exist and are current. May raise Unreadable."""

    def put(self, photograph: Photograph, files: Mapping[str, bytes]) -> None:
        """Store all outputs of an image; until then, `holds` returns False."""

    def read(self, name: str) -> bytes:
        """Return an existing output."""

    def put_page(self, name: str, data: bytes) -> None:
        """Store a file that belongs to no single image."""


class LocalFolder:
    """A local folder. Its predictions.jsonl gets a line for each finished image, written after the image's files."""

    def __init__(self, root: Path, stamp: str) -> None:
        """`stamp` identifies the weights and settings that the outputs depend on."""
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
        """Return the last entry of each image. Incomplete lines, which an interrupted run can leave, are ignored."""
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
    """A prefix in the store that is specific to these weights, settings and images."""

    def __init__(self, store: "Store", prefix: str) -> None:
        """`prefix` ends with a slash."""
        self._store, self._prefix = store, prefix
        self._stored = {item.key for item in store.list(prefix)}

    def holds(self, photograph: Photograph, names: Sequence[str]) -> bool:  # noqa: ARG002 - the prefix identifies them
        return all(self._prefix + name in self._stored for name in names)

    def put(self, photograph: Photograph, files: Mapping[str, bytes]) -> None:  # noqa: ARG002
        for name, data in files.items():
            self.put_page(name, data)

    def read(self, name: str) -> bytes:
        return self._store.get_bytes(self._prefix + name)

    def put_page(self, name: str, data: bytes) -> None:
        self._store.put_bytes(self._prefix + name, data, CONTENT_TYPES[Path(name).suffix])


def _write(path: Path, data: bytes) -> None:
    """Write a file atomically, so that an interrupted run leaves no truncated image."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with replacing(path) as partial:
        partial.write_bytes(data)
