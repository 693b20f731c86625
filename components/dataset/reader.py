"""Read a stored dataset's files out of its shards, by offset, from a cache that processes share.

reader = DatasetReader(store, digest)
image = reader.image("images/train/0001.png")   # (H, W, 3) uint8, RGB
label = reader.label("labels/train/0001.png")   # (H, W) uint8, class ids
"""

import fcntl
import io
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from components import progress
from components.dataset.manifest import Manifest, parse_manifest
from components.errors import WorkFailed
from components.storage import keys

if TYPE_CHECKING:
    from components.storage.client import Store


class DatasetReader:
    """Files of one dataset. Threads and forked processes may share it: every read carries its own offset.

    A shard is downloaded and verified once per cache; under its final name it is whole.
    """

    manifest: Manifest

    def __init__(self, store: "Store", digest: str, cache_dir: Path | None = None) -> None:
        """
        Args:
            cache_dir: holds datasets/<digest>/; CPS_CACHE or ~/.cache/cps when not given.

        Raises:
            MissingObject: the dataset, or a shard of it, is not in the store.
        """
        self.folder = (cache_dir or default_cache()) / "datasets" / digest
        manifest = _cached_manifest(self.folder)
        if manifest is None:
            manifest = _fill_cache(store, digest, self.folder)
        self.manifest = manifest
        self._handles = [
            os.open(self.folder / shard_name(number), os.O_RDONLY | os.O_CLOEXEC)
            for number in range(len(manifest.shards))
        ]

    def read(self, name: str) -> bytes:
        """The file's bytes as they were in the dataset."""
        entry = self.manifest.files.get(name)
        if entry is None:
            raise WorkFailed(f"dataset {self.manifest.name} ({self.manifest.digest[:12]}) has no file {name!r}")
        data = os.pread(self._handles[entry.shard], entry.size, entry.offset)
        if len(data) != entry.size:
            where = self.folder / shard_name(entry.shard)
            raise WorkFailed(f"{where} ends within {name!r}: delete {self.folder} to have it downloaded again")
        return data

    def image(self, name: str) -> NDArray[np.uint8]:
        """(H, W, 3) uint8, RGB, as stored: no EXIF rotation, for labels have none."""
        with Image.open(io.BytesIO(self.read(name))) as picture:
            return np.array(picture.convert("RGB"))

    def label(self, name: str) -> NDArray[np.uint8]:
        """(H, W) uint8 class ids; the manifest's ignore_index is void."""
        with Image.open(io.BytesIO(self.read(name))) as picture:
            return np.array(picture, dtype=np.uint8)

    def close(self) -> None:
        for handle in self._handles:
            os.close(handle)
        self._handles = []

    def __enter__(self) -> "DatasetReader":
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def __del__(self) -> None:
        if hasattr(self, "_handles"):
            self.close()


def default_cache() -> Path:
    """Where downloaded data is kept between runs: CPS_CACHE, else ~/.cache/cps."""
    return Path(os.environ.get("CPS_CACHE") or Path.home() / ".cache" / "cps")


def shard_name(number: int) -> str:
    return f"shard-{number:05d}.tar"


def _fill_cache(store: "Store", digest: str, folder: Path) -> Manifest:
    folder.mkdir(parents=True, exist_ok=True)
    with _locked(folder / ".lock"):
        manifest = _cached_manifest(folder)  # another process may have filled it while we waited
        if manifest is not None:
            return manifest
        key = keys.dataset_manifest(digest)
        manifest = parse_manifest(store.get_json(key), store.uri(key))
        total = sum(shard.size for shard in manifest.shards)
        done = 0
        for number, shard in enumerate(manifest.shards):
            path = folder / shard_name(number)
            if not _has_size(path, shard.size):
                store.get_file(shard.key, path, sha256=shard.sha256)
            done += shard.size
            progress.advance("dataset", done, total, f"{manifest.name}: {done / 1e6:.0f} MB in the local cache")
        # Written last: its presence says that every shard is there.
        temporary = folder / f".manifest.{os.getpid()}"
        temporary.write_text(manifest.model_dump_json())
        temporary.replace(folder / "manifest.json")
        return manifest


def _cached_manifest(folder: Path) -> Manifest | None:
    try:
        manifest = Manifest.model_validate_json((folder / "manifest.json").read_bytes())
    except (FileNotFoundError, ValueError):
        return None
    whole = (_has_size(folder / shard_name(n), shard.size) for n, shard in enumerate(manifest.shards))
    return manifest if all(whole) else None


def _has_size(path: Path, size: int) -> bool:
    try:
        return path.stat().st_size == size
    except FileNotFoundError:
        return False


@contextmanager
def _locked(path: Path) -> Iterator[None]:
    handle = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    try:
        fcntl.flock(handle, fcntl.LOCK_EX)
        yield
    finally:
        os.close(handle)
