"""Read the files of a stored dataset from its shards, by offset, through a cache that processes share.

reader = DatasetReader(store, digest)
image = reader.image("images/train/0001.png")   # (H, W, 3) uint8, RGB
label = reader.label("labels/train/0001.png")   # (H, W) uint8, class ids
"""

import hashlib
import os
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from threading import Lock
from typing import TYPE_CHECKING, TypeVar

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from components import progress
from components.dataset.heic import open_image
from components.dataset.manifest import FileEntry, Manifest, content_digest, parse_manifest
from components.dataset.stored.cache import ShardCache, shard_name
from components.dataset.stored.upright import upright_rgb
from components.disk import Unwritable, default_cache
from components.errors import WorkFailed
from components.files import replacing
from components.storage import keys

if TYPE_CHECKING:
    from components.storage.client import Store

__all__ = ["DatasetReader", "shard_name"]

T = TypeVar("T")


class DatasetReader:
    """Files of one dataset. Safe to share between threads and forked processes, since every read has its own offset.

    A shard is downloaded and verified once per cache. Shards that do not fit into the cache are read from the store,
    file by file. So are all of them if the cache cannot be written.
    """

    manifest: Manifest

    def __init__(self, store: "Store", digest: str, cache_dir: Path | None = None, limit: int | None = None) -> None:
        """
        Args:
            cache_dir: holds datasets/<digest>/. Default: CPS_CACHE or ~/.cache/cps.
            limit: size of the whole cache, in bytes. Default: CPS_CACHE_BYTES.

        Raises:
            MissingObject: the dataset or one of its shards is not in the store.
            DigestMismatch: a shard is damaged in the store.
        """
        root = cache_dir or default_cache()
        self._store, self._cache, self._lock = store, ShardCache(root, limit), Lock()
        self.folder = root / "datasets" / digest
        self._handles: dict[int, int] = {}
        self._replaced: list[int] = []
        self.manifest = _manifest(store, digest, self.folder)
        self._open_shards()

    def read(self, name: str) -> bytes:
        """Return a file. Its shard was verified when the cache was filled; `image` and `label` verify it again."""
        entry = self._entry(name)
        handle = self._handles.get(entry.shard)
        if handle is None:
            return self._read_from_store(name, entry)
        data = os.pread(handle, entry.size, entry.offset)
        return data if len(data) == entry.size else self._read_again(name, entry, handle)

    def image(self, name: str) -> NDArray[np.uint8]:
        """Return (H, W, 3) uint8, RGB, turned upright by its EXIF data, like its label. Do not modify it."""
        return self._decoded(name, upright_rgb)

    def label(self, name: str) -> NDArray[np.uint8]:
        """Return (H, W) uint8 class ids. The manifest's ignore_index is void."""
        return self._decoded(name, lambda picture: np.array(picture, dtype=np.uint8))

    def close(self) -> None:
        for handle in (*self._handles.values(), *self._replaced):
            os.close(handle)
        self._handles, self._replaced = {}, []

    def __enter__(self) -> "DatasetReader":
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def __del__(self) -> None:
        if hasattr(self, "_handles"):
            self.close()

    def _entry(self, name: str) -> FileEntry:
        entry = self.manifest.files.get(name)
        if entry is None:
            raise WorkFailed(f"dataset {self.manifest.name} ({self.manifest.digest[:12]}) has no file {name!r}")
        return entry

    def _decoded(self, name: str, convert: Callable[[Image.Image], T]) -> T:
        with open_image(self._verified(name)) as picture:
            return convert(picture)

    def _verified(self, name: str) -> bytes:
        """Read and verify a file. Hashing is cheap next to decoding, and a decoder may not notice a flipped bit."""
        data, entry = self.read(name), self._entry(name)
        if hashlib.sha256(data).hexdigest() == entry.sha256:
            return data
        return self._read_again(name, entry, self._handles[entry.shard])

    def _open_shards(self) -> None:
        shards = dict(enumerate(self.manifest.shards))
        while missing := {number: shards[number] for number in shards if not self._open(number)}:
            try:
                left_out = self._cache.fill(self._store, self.folder, shards, self.manifest.name)
            except Unwritable as error:
                progress.warn("dataset", f"{error}. {self.manifest.name} is read from the object store, more slowly")
            else:
                if not left_out:
                    continue
                size = sum(shards[number].size for number in left_out)
                progress.say(
                    "dataset",
                    f"{self.manifest.name}: no room in the cache for {size / 1e6:.0f} MB, which stay in the store",
                )
            for number in missing:
                self._open(number)
            return

    def _open(self, number: int) -> bool:
        if number not in self._handles:
            handle = self._cache.open(self.folder / shard_name(number), self.manifest.shards[number])
            if handle is not None:
                self._handles[number] = handle
        return number in self._handles

    def _read_from_store(self, name: str, entry: FileEntry) -> bytes:
        shard = self.manifest.shards[entry.shard]
        data = self._store.get_range(shard.key, entry.offset, entry.size) if entry.size else b""
        if hashlib.sha256(data).hexdigest() != entry.sha256:
            raise WorkFailed(f"{self._store.uri(shard.key)} is damaged: {name!r} in it differs from the stored file")
        return data

    def _read_again(self, name: str, entry: FileEntry, bad: int) -> bytes:
        """Return a file whose cached shard is damaged, after downloading the shard again."""
        shard, path = self.manifest.shards[entry.shard], self.folder / shard_name(entry.shard)
        with self._lock:
            if self._handles[entry.shard] == bad:
                progress.say("dataset", f"{path} is damaged: downloading it again")
                self._cache.replace(self._store, path, shard, bad)
                handle = self._cache.open(path, shard)
                if handle is None:
                    raise WorkFailed(f"{path} is damaged again: check the disk, or set CPS_CACHE to another one")
                # Another thread may be reading from the old handle, which is closed with the rest.
                self._replaced.append(bad)
                self._handles[entry.shard] = handle
            data = os.pread(self._handles[entry.shard], entry.size, entry.offset)
        if hashlib.sha256(data).hexdigest() != entry.sha256:
            raise WorkFailed(f"{self._store.uri(shard.key)} is damaged: {name!r} in it differs from the stored file")
        return data


def _manifest(store: "Store", digest: str, folder: Path) -> Manifest:
    cached = _cached_manifest(digest, folder)
    if cached is not None:
        return cached
    key = keys.dataset_manifest(digest)
    manifest = parse_manifest(store.get_json(key), store.uri(key))
    if not _is_of(manifest, digest):
        raise WorkFailed(f"{store.uri(key)} is damaged: the digest of its files and lists is not the one in its name")
    with suppress(OSError):  # a cache that cannot be written is reported when its shards are missing
        folder.mkdir(parents=True, exist_ok=True)
        with replacing(folder / "manifest.json") as partial:
            partial.write_text(manifest.model_dump_json())
    return manifest


def _cached_manifest(digest: str, folder: Path) -> Manifest | None:
    try:
        manifest = Manifest.model_validate_json((folder / "manifest.json").read_bytes())
    except (OSError, ValueError):
        return None
    return manifest if _is_of(manifest, digest) else None


def _is_of(manifest: Manifest, digest: str) -> bool:
    hashes = {name: entry.sha256 for name, entry in manifest.files.items()}
    return manifest.digest == digest == content_digest(hashes, manifest)
