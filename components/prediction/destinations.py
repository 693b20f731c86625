"""Destinations for predictions: a local folder, or a prefix in the object store.

An image is skipped if all its outputs exist and come from the same image, weights and settings, so an interrupted
prediction resumes.
"""

import errno
import json
import os
import threading
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Protocol

from components import progress
from components.disk import writing
from components.errors import UserError
from components.files import is_stream, locked, write_whole
from components.prediction.photographs import Photograph
from components.reading import read_bytes, shown

if TYPE_CHECKING:
    from components.storage.client import Store

LEDGER = "predictions.jsonl"
GALLERY = "gallery.html"
FOLDERS = ("color", "overlays", "triptychs", "confidence", "masks")
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


def is_earlier_output(root: Path) -> Callable[[Path], bool]:
    """Return a function that tells whether a file is an output of an earlier prediction to the folder `root`."""
    place, names = root.resolve(), _read_ledger(root / LEDGER).keys()

    def is_one(path: Path) -> bool:
        real = Path(os.path.realpath(path))
        folders = [place / folder for folder in FOLDERS if real.is_relative_to(place / folder)]
        return any(str(real.relative_to(folder).with_suffix("")) in names for folder in folders)

    return is_one if names else lambda _path: False


def check_targets(root: Path, photographs: Sequence[Photograph], names: Callable[[str], Sequence[str]]) -> None:
    """Check that a prediction to the folder `root` overwrites nothing but earlier predictions.

    Args:
        names: returns the names of an image's outputs.

    Raises:
        UserError: an output would replace an image to predict, or a file that is no earlier output.
    """
    inputs = {item.file: item.shown for item in photographs if item.file}
    place, ours = root.resolve(), _read_ledger(root / LEDGER).keys()
    if not ours and os.path.lexists(root / GALLERY):
        raise _not_ours(root / GALLERY)
    for item in photographs:
        for name in names(item.name):
            if (place / name) in inputs:
                raise UserError(
                    f"{inputs[place / name]} would be overwritten by the prediction of {item.shown}: "
                    "set --output to another folder"
                )
            if item.name not in ours and os.path.lexists(root / name):
                raise _not_ours(root / name)


def _not_ours(path: Path) -> UserError:
    return UserError(
        f"{shown(str(path))} would be overwritten, but is not from an earlier prediction: set --output to another "
        "folder, or move the file"
    )


class LocalFolder:
    """A local folder. Its predictions.jsonl gets two lines for each image: its name before any file is written, which
    marks the files as predictions, and all about it when they are complete.

    One process at a time writes to the folder; another waits until it is closed.
    """

    def __init__(self, root: Path, stamp: str) -> None:
        """Create the folder. `stamp` identifies the weights and settings that the outputs depend on.

        Raises:
            Unwritable: the folder cannot be written.
        """
        self._root, self._stamp = root, stamp
        self._lock = threading.Lock()
        with writing(root):
            root.mkdir(parents=True, exist_ok=True)
            if is_stream(root / LEDGER):
                raise FileExistsError(errno.EEXIST, "it is not a file", str(root / LEDGER))
            with (root / LEDGER).open("ab+") as ledger:
                end = ledger.seek(0, os.SEEK_END)
                ledger.seek(max(0, end - 1))
                if ledger.read(1) not in (b"", b"\n"):
                    ledger.write(b"\n")  # after a line that an interrupted run has left incomplete
        self._held = self._wait_for_others()
        self._finished = _read_ledger(root / LEDGER)

    def __enter__(self) -> "LocalFolder":
        return self

    def __exit__(self, *_: object) -> None:
        if self._held is not None:
            os.close(self._held)
            self._held = None

    def holds(self, photograph: Photograph, names: Sequence[str]) -> bool:
        entry = self._finished.get(photograph.name)
        if entry is None or entry.get("stamp") != self._stamp or entry.get("version") != photograph.version():
            return False
        return all((self._root / name).is_file() for name in names)

    def put(self, photograph: Photograph, files: Mapping[str, bytes]) -> None:
        version = photograph.version()
        with writing(self._root, needed=sum(map(len, files.values()))):
            self._note(name=photograph.name)
            for name, data in files.items():
                write_whole(self._root / name, data)
            self._note(name=photograph.name, image=photograph.shown, version=version, stamp=self._stamp)

    def read(self, name: str) -> bytes:
        return (self._root / name).read_bytes()

    def put_page(self, name: str, data: bytes) -> None:
        with writing(self._root, needed=len(data)):
            write_whole(self._root / name, data)

    def _wait_for_others(self) -> int | None:
        """Lock the folder. Returns None where the file system has no locks."""
        try:
            return locked(self._root, os.O_RDONLY, wait=False)
        except BlockingIOError:
            progress.warn("predict", f"another command is writing to {self._root}; waiting until it ends")
            return locked(self._root, os.O_RDONLY)
        except OSError:
            return None

    def _note(self, **entry: str) -> None:
        with self._lock, (self._root / LEDGER).open("ab") as ledger:
            ledger.write((json.dumps(entry) + "\n").encode())


def _read_ledger(path: Path) -> dict[str, dict[str, str]]:
    """Return the last entry of each image. Incomplete lines, which an interrupted run can leave, are ignored."""
    found: dict[str, dict[str, str]] = {}
    try:
        text = read_bytes(path).decode(errors="replace")
    except OSError:
        return found
    for line in text.splitlines():
        try:
            entry = json.loads(line)
            found[entry["name"]] = entry
        except (ValueError, KeyError, TypeError):
            continue
    return found


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
