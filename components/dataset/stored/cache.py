"""A node's cache of dataset shards: shared by all processes, bounded in bytes, and intact after any crash.

A shard is renamed to its final name after its sha256 has been verified. Its modification time is then set to a value
derived from the sha256. A shard with a different time was modified or never verified, and is hashed again. Opening a
shard sets its access time, which shows the least recently used one. An open shard is locked (flock, shared), and no
process removes a shard that another has locked.
"""

import contextlib
import hashlib
import os
import shutil
import time
from collections.abc import Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

from components import progress
from components.dataset.manifest import ShardEntry
from components.disk import CACHE_VARIABLE, writing
from components.errors import UserError
from components.files import holding, is_at, locked
from components.units import parse_size

if TYPE_CHECKING:
    from components.storage.client import Store

LIMIT_VARIABLE = "CPS_CACHE_BYTES"
DOWNLOADS = 4
_FREE_SHARE = 0.8
"""Share of the free disk space that the cache may use if CPS_CACHE_BYTES is not set."""
_EPOCH = 946_684_800  # 2000-01-01, which no write sets as the modification time


def cache_limit(environ: Mapping[str, str] = os.environ) -> int | None:
    """Return CPS_CACHE_BYTES in bytes, or None if it is not set. Raises UserError."""
    return size_setting(LIMIT_VARIABLE, environ)


def size_setting(variable: str, environ: Mapping[str, str] = os.environ) -> int | None:
    """Return a variable such as 50GB in bytes, or None if it is not set. Raises UserError."""
    text = environ.get(variable, "").strip()
    if not text:
        return None
    size = parse_size(text)
    if size is None:
        raise UserError(f"{variable}={text!r} is not a size: write it as 50GB or 50000000000")
    return size


def shard_name(number: int) -> str:
    return f"shard-{number:05d}.tar"


class ShardCache:
    """The shards of all datasets, below one folder. Safe to use from several processes and threads at once."""

    def __init__(self, root: Path, limit: int | None = None) -> None:
        """`limit` is in bytes. The default is CPS_CACHE_BYTES, or else most of the free disk space."""
        self.folder = root / "datasets"
        self._limit = cache_limit() if limit is None else limit

    def open(self, path: Path, shard: ShardEntry) -> int | None:
        """Return a handle on the verified shard, which prevents its removal, or None if it is not in the cache."""
        try:
            handle = locked(path, os.O_RDONLY, shared=True)
        except OSError:
            return None
        if not _verified(handle, shard):
            os.close(handle)
            return None
        _touch(handle, _mark(shard.sha256))
        return handle

    def fill(self, store: "Store", folder: Path, shards: Mapping[int, ShardEntry], name: str) -> list[int]:
        """Download missing shards in parallel, and return the numbers of those that the cache has no room for.

        Raises:
            DigestMismatch: a shard is damaged in the store. It is not kept.
            Unwritable: the cache cannot be written, or the disk is full.
        """
        with self._exclusive():
            _clear_partial(folder)
            missing = {number: shard for number, shard in shards.items() if not self._has(folder, number, shard)}
            for number in missing:
                (folder / shard_name(number)).unlink(missing_ok=True)  # if it exists, it is damaged
            wanted = sum(shard.size for shard in missing.values())
            room = self._make_room(wanted, keep={folder / shard_name(number) for number in shards}) if wanted else 0
            todo, left_out = {}, []
            for number, shard in missing.items():
                if shard.size <= room:
                    todo[number], room = shard, room - shard.size
                else:
                    left_out.append(number)
            _download_all(store, folder, todo, name)
            return left_out

    def replace(self, store: "Store", path: Path, shard: ShardEntry, bad: int) -> None:
        """Download a damaged shard again, unless another process has done so. `bad` is our handle on it."""
        with self._exclusive():
            if path.exists() and not is_at(bad, path):
                return
            _download(store, path, shard)

    def _has(self, folder: Path, number: int, shard: ShardEntry) -> bool:
        handle = self.open(folder / shard_name(number), shard)
        if handle is None:
            return False
        os.close(handle)
        return True

    def _make_room(self, wanted: int, keep: set[Path]) -> int:
        """Remove the least recently used shards until `wanted` bytes fit. Returns how many bytes may be written."""
        held = sorted(_shards(self.folder), key=lambda item: item[1].st_atime_ns)
        used = sum(stat.st_size for _, stat in held)
        free = shutil.disk_usage(self.folder).free
        limit = self._limit if self._limit is not None else used + int(free * _FREE_SHARE)
        room = limit - used
        for path, stat in held:
            if room >= wanted:
                break
            if path not in keep and _remove_unused(path):
                room += stat.st_size
        return max(0, min(room, shutil.disk_usage(self.folder).free))

    @contextmanager
    def _exclusive(self) -> Iterator[None]:
        """Lock the cache, so that only one process writes and the free space it has counted stays available."""
        with writing(self.folder, CACHE_VARIABLE):
            self.folder.mkdir(parents=True, exist_ok=True)
            with holding(self.folder / ".lock"):
                yield


def _download_all(store: "Store", folder: Path, todo: Mapping[int, ShardEntry], name: str) -> None:
    if not todo:
        return
    total, done = sum(shard.size for shard in todo.values()), 0
    pool = ThreadPoolExecutor(DOWNLOADS, "shard")
    try:
        futures = {
            number: pool.submit(_download, store, folder / shard_name(number), shard) for number, shard in todo.items()
        }
        for number, future in futures.items():
            future.result()
            done += todo[number].size
            progress.advance("dataset", done, total, f"{name}: {done / 1e6:.0f} MB in the local cache")
    finally:
        pool.shutdown(wait=True, cancel_futures=True)


def _download(store: "Store", path: Path, shard: ShardEntry) -> None:
    with writing(path, CACHE_VARIABLE, shard.size):
        store.get_file(shard.key, path, sha256=shard.sha256)
    handle = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    try:
        os.fsync(handle)  # otherwise a power cut could keep the time and lose the bytes
        _touch(handle, _mark(shard.sha256))
    finally:
        os.close(handle)


def _verified(handle: int, shard: ShardEntry) -> bool:
    """Return whether the file is the shard, by its size and time, or else by its sha256."""
    stat = os.fstat(handle)
    if stat.st_size != shard.size:
        return False
    if stat.st_mtime_ns == _mark(shard.sha256):
        return True
    with os.fdopen(os.dup(handle), "rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest() == shard.sha256


def _mark(sha256: str) -> int:
    """Return the modification time, in nanoseconds, that marks a shard as verified to have this sha256."""
    return (_EPOCH + int(sha256[:7], 16)) * 10**9


def _touch(handle: int, modified: int) -> None:
    # If the file belongs to another user or the disk is read-only, its times stay, and it is hashed more often.
    with contextlib.suppress(OSError):
        os.utime(handle, ns=(time.time_ns(), modified))


def _shards(folder: Path) -> list[tuple[Path, os.stat_result]]:
    found = []
    for path in folder.glob("*/shard-*.tar"):
        with contextlib.suppress(FileNotFoundError):
            found.append((path, path.stat()))
    return found


def _remove_unused(path: Path) -> bool:
    try:
        with holding(path, os.O_RDONLY, wait=False):
            path.unlink()
    except OSError:
        return False
    return True


def _clear_partial(folder: Path) -> None:
    """Remove the shards that killed processes left half downloaded: only the holder of the lock downloads any."""
    folder.mkdir(parents=True, exist_ok=True)
    for path in folder.parent.glob("*/.shard-*.part"):
        path.unlink(missing_ok=True)
