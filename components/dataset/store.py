"""A checked dataset into the object store: uncompressed tar shards, and last the manifest."""

import hashlib
import io
import tarfile
from collections.abc import Iterator, Mapping
from concurrent.futures import Future, ThreadPoolExecutor
from typing import TYPE_CHECKING

from components import progress
from components.dataset.check import STEP, check_files, hash_files
from components.dataset.layouts import Layout
from components.dataset.manifest import FileEntry, Manifest, ShardEntry, content_digest, parse_manifest
from components.errors import WorkFailed
from components.storage import keys

if TYPE_CHECKING:
    from components.storage.client import Store

SHARD_BYTES = 64_000_000
"""Two shards are in memory at a time: one is filled while the one before is uploaded."""
_BLOCK = 512


def store_dataset(layout: Layout, store: "Store") -> Manifest:
    """Check the dataset, store it, and return its manifest; at once where the same files are stored already.

    Raises:
        UserError: a file is not what it should be; nothing is stored then.
    """
    hashes = hash_files(layout)
    digest = content_digest(hashes, layout.lists)
    manifest = stored_manifest(store, digest)
    if manifest is not None:
        progress.say(STEP, f"{layout.name}: already stored as {store.uri(keys.dataset_manifest(digest))}")
        return manifest
    label_classes = check_files(layout)
    files, shards = _store_shards(layout, hashes, digest, store)
    manifest = Manifest(
        **dict(layout.lists), digest=digest, name=layout.name, layout=layout.kind, files=files, shards=shards
    )
    store.put_json(keys.dataset_label_classes(digest), label_classes)
    store.put_json(keys.dataset_manifest(digest), manifest.model_dump(mode="json"))
    size = sum(shard.size for shard in shards)
    progress.say(STEP, f"{layout.name}: {len(files)} files, {size / 1e6:.0f} MB in {len(shards)} shards stored")
    return manifest


def stored_manifest(store: "Store", digest: str) -> Manifest | None:
    """The manifest of a dataset that is in the store with all its shards; else None."""
    key = keys.dataset_manifest(digest)
    if store.stat(key) is None:
        return None
    manifest = parse_manifest(store.get_json(key), store.uri(key))
    present = {ref.key: ref.size for ref in store.list(key.removesuffix("manifest.json"))}
    whole = all(present.get(shard.key) == shard.size for shard in manifest.shards)
    return manifest if whole else None


def _store_shards(
    layout: Layout, hashes: Mapping[str, str], digest: str, store: "Store"
) -> tuple[dict[str, FileEntry], tuple[ShardEntry, ...]]:
    files: dict[str, FileEntry] = {}
    shards: list[ShardEntry] = []
    uploading: Future[None] | None = None
    with ThreadPoolExecutor(max_workers=1) as pool:
        for number, (data, entries) in enumerate(_pack(layout, hashes)):
            files.update(entries)
            key = keys.dataset_shard(digest, number)
            shard = ShardEntry(key=key, sha256=hashlib.sha256(data).hexdigest(), size=len(data))
            shards.append(shard)
            if uploading is not None:
                uploading.result()
            uploading = pool.submit(_upload, store, shard, data)
            progress.advance(STEP, len(files), len(hashes), f"files stored, shard {number + 1}")
        if uploading is not None:
            uploading.result()
    return files, tuple(shards)


def _upload(store: "Store", shard: ShardEntry, data: bytes) -> None:
    present = store.stat(shard.key)
    if present is None or (present.sha256, present.size) != (shard.sha256, shard.size):
        store.put_bytes(shard.key, data, "application/x-tar")


def _pack(layout: Layout, hashes: Mapping[str, str]) -> Iterator[tuple[bytes, dict[str, FileEntry]]]:
    """Shards with the entries of their files. Equal files give equal shards, so none is uploaded twice."""
    buffer, entries, number = io.BytesIO(), dict[str, FileEntry](), 0
    for name in sorted(hashes):
        data = (layout.folder / name).read_bytes()
        if hashlib.sha256(data).hexdigest() != hashes[name]:
            raise WorkFailed(f"{layout.folder / name} changed while the dataset was being stored: run again")
        if entries and buffer.tell() + len(data) + 2 * _BLOCK > SHARD_BYTES:
            yield _closed(buffer), entries
            buffer, entries, number = io.BytesIO(), {}, number + 1
        header = tarfile.TarInfo(name)
        header.size = len(data)
        buffer.write(header.tobuf(tarfile.GNU_FORMAT, "utf-8", "surrogateescape"))
        entries[name] = FileEntry(sha256=hashes[name], size=len(data), shard=number, offset=buffer.tell())
        buffer.write(data)
        buffer.write(bytes(-len(data) % _BLOCK))
    if entries:
        yield _closed(buffer), entries


def _closed(buffer: io.BytesIO) -> bytes:
    buffer.write(bytes(2 * _BLOCK))  # how a tar ends
    return buffer.getvalue()
