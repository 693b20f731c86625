"""Decoded images and labels of a dataset, which the processes of a node share in memory while there is room.

/dev/shm/cps-<uid>/<digest>/.lock        locked (flock, shared) by every process that uses the folder
/dev/shm/cps-<uid>/<digest>/.used        the total size of the files, in bytes, with those being written
/dev/shm/cps-<uid>/<digest>/<sha256>-i   an image's height, width and channels, and its pixels; -l for a label;
                                         -i-512 if it was reduced to 512 pixels

A file is renamed to its final name when it is complete. The name holds the verified sha256 of the encoded file.
The last process that uses the folder removes it. The next process removes the folders of killed ones.
"""

import mmap
import os
import shutil
import struct
import weakref
from collections import OrderedDict
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from threading import Lock

import numpy as np
from numpy.typing import NDArray

from components.dataset.stored.cache import size_setting
from components.dataset.stored.reader import DatasetReader
from components.files import holding, locked, replacing
from components.networks.image_size import reduced, reduced_label
from components.units import parse_size

LIMIT_VARIABLE = "CPS_DECODED_BYTES"
MEMORY = Path("/dev/shm")
PRIVATE_BYTES = 1 << 30
"""Bytes of images that one process keeps in its own memory if they do not fit into the shared memory."""
FREE_SHARE = 0.5
"""Share of the free shared memory to use if CPS_DECODED_BYTES is not set."""
_SHAPE = struct.Struct("=3I")

Pixels = NDArray[np.uint8]


def limit_shared_images(shm: str) -> None:
    """Make this process and its children use as much as if /dev/shm had this size, such as 16Gi.

    CPS_DECODED_BYTES takes precedence.
    """
    size = parse_size(shm)
    assert size, "the parameters are checked before anything starts"
    os.environ.setdefault(LIMIT_VARIABLE, str(int(FREE_SHARE * size)))


class SharedImages:
    """Images and labels by name. Processes share what they have decoded. Safe to use from several threads."""

    def __init__(
        self, reader: DatasetReader, longest_side: int = 0, *, memory: Path = MEMORY, private: int = PRIVATE_BYTES
    ) -> None:
        """
        Args:
            longest_side: reduce larger images and labels to this many pixels; 0 keeps their size.
            memory: a folder in memory. Nothing is shared if it cannot be used or CPS_DECODED_BYTES is 0.
            private: bytes that this process keeps in addition; the least recently used images are dropped.
        """
        self._reader, self._longest_side = reader, longest_side
        limit = size_setting(LIMIT_VARIABLE)
        self._shared = None if limit == 0 else _open_shared(memory, reader.manifest.digest, limit)
        self._private = _Private(private)

    def image(self, name: str) -> Pixels:
        """Return (H, W, 3) uint8, RGB. Do not modify it."""
        return self._get(name, "i", lambda name: reduced(self._reader.image(name), self._longest_side))

    def label(self, name: str) -> Pixels:
        """Return (H, W) uint8 class ids. Do not modify them."""
        return self._get(name, "l", lambda name: reduced_label(self._reader.label(name), self._longest_side))

    def _get(self, name: str, kind: str, decode: Callable[[str], Pixels]) -> Pixels:
        entry = self._reader.manifest.files.get(name)
        if entry is None:
            return decode(name)  # which raises the error
        key = f"{entry.sha256}-{kind}" + (f"-{self._longest_side}" if self._longest_side else "")
        found = self._private.get(key)
        if found is None and self._shared is not None:
            found = self._shared.get(key)
        if found is None:
            found = decode(name)
            if self._shared is None or not self._shared.put(key, found):
                self._private.put(key, found)
        return found


class _Shared:
    """One dataset's folder in shared memory."""

    def __init__(self, folder: Path, lock: int, limit: int | None) -> None:
        self._folder = folder
        free = shutil.disk_usage(folder).free
        self._limit = int((free + _used(folder)) * FREE_SHARE) if limit is None else limit
        weakref.finalize(self, _leave, folder, lock)

    def get(self, key: str) -> Pixels | None:
        try:
            handle = os.open(self._folder / key, os.O_RDONLY | os.O_CLOEXEC)
        except OSError:
            return None
        try:
            mapped = mmap.mmap(handle, 0, access=mmap.ACCESS_READ)
        except (OSError, ValueError):
            return None
        finally:
            os.close(handle)
        height, width, channels = _SHAPE.unpack_from(mapped)
        pixels = np.frombuffer(mapped, dtype=np.uint8, offset=_SHAPE.size)
        return pixels.reshape((height, width, channels) if channels else (height, width))

    def put(self, key: str, pixels: Pixels) -> bool:
        """Share the pixels. Returns False if there is no room for them."""
        if not self._reserve(_SHAPE.size + pixels.nbytes):
            return False
        try:
            with replacing(self._folder / key) as partial, partial.open("wb") as file:
                file.write(_SHAPE.pack(*pixels.shape[:2], pixels.shape[2] if pixels.ndim == 3 else 0))
                file.write(np.ascontiguousarray(pixels).data)
        except OSError:
            return False
        return True

    def _reserve(self, size: int) -> bool:
        """Count the bytes before they are written, so that a killed process only leaves room unused."""
        try:
            with holding(self._folder / ".used") as file:
                used = int.from_bytes(os.pread(file, 8, 0), "little")
                if used + size > self._limit or size > shutil.disk_usage(self._folder).free:
                    return False
                os.pwrite(file, (used + size).to_bytes(8, "little"), 0)
                return True
        except OSError:
            return False


class _Private:
    """Arrays of this process. The least recently used ones are dropped when they exceed `limit` bytes."""

    def __init__(self, limit: int) -> None:
        self._limit, self._held = limit, 0
        self._items: OrderedDict[str, Pixels] = OrderedDict()
        self._lock = Lock()

    def get(self, key: str) -> Pixels | None:
        with self._lock:
            if key in self._items:
                self._items.move_to_end(key)
            return self._items.get(key)

    def put(self, key: str, pixels: Pixels) -> None:
        with self._lock:
            if key not in self._items:
                self._items[key] = pixels
                self._held += pixels.nbytes
            while self._held > self._limit:
                self._held -= self._items.popitem(last=False)[1].nbytes


def _open_shared(memory: Path, digest: str, limit: int | None = None) -> _Shared | None:
    """Open the shared folder. Returns None if there is no such memory, or the folder belongs to another user."""
    root = memory / f"cps-{os.getuid()}"
    try:
        if not memory.is_dir():
            return None
        root.mkdir(mode=0o700, exist_ok=True)
        if root.is_symlink() or root.stat().st_uid != os.getuid():
            return None
        for folder in root.iterdir():
            if folder.name != digest:
                _remove_unused(folder)
        lock = _enter(root / digest)
    except OSError:
        return None
    return _Shared(root / digest, lock, limit)


def _enter(folder: Path) -> int:
    """Return a handle on the folder's lock, which prevents the removal of the folder."""
    while True:
        folder.mkdir(mode=0o700, exist_ok=True)
        with suppress(FileNotFoundError):  # another process removed the folder in between
            return locked(folder / ".lock", os.O_RDWR | os.O_CREAT, shared=True)


def _leave(folder: Path, lock: int) -> None:
    os.close(lock)
    _remove_unused(folder)


def _remove_unused(folder: Path) -> None:
    """Remove the folder unless a process uses it."""
    with suppress(OSError), holding(folder / ".lock", os.O_RDWR, wait=False):
        shutil.rmtree(folder, ignore_errors=True)


def _used(folder: Path) -> int:
    with holding(folder / ".used") as file:
        return int.from_bytes(os.pread(file, 8, 0), "little")
