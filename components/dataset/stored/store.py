"""Store a checked dataset in the object store: uncompressed tar shards first, the manifest last."""

import contextlib
import time
from collections.abc import Iterator, Mapping
from concurrent.futures import Future, ThreadPoolExecutor
from typing import TYPE_CHECKING

from components import progress
from components.dataset.check.inspect import STEP, check_files, hash_files
from components.dataset.layouts import Layout
from components.dataset.manifest import FileEntry, Manifest, ShardEntry, content_digest, parse_manifest
from components.dataset.stored.pack import SHARD_BYTES, Shard, plan
from components.storage import keys

if TYPE_CHECKING:
    from components.storage.client import Store

UPLOADS = 2
"""Concurrent uploads. Each holds a shard in memory, and two copies of it while the shard is built."""
LEASE_SECONDS = 60.0
_LOOK_AGAIN = 1.0  # seconds


def store_dataset(layout: Layout, store: "Store", hashes: Mapping[str, str] | None = None) -> Manifest:
    """Check the dataset, store it, and return its manifest. A dataset that is already stored is not checked again.

    If several runs store the same files at once, one of them does and the others wait for it.

    Args:
        hashes: sha256 of its files by name, if they are known.

    Raises:
        UserError: a file is invalid. Nothing is stored then.
    """
    hashes = hashes or hash_files(layout)
    digest = content_digest(hashes, layout.lists)
    manifest = stored_manifest(store, digest)
    if manifest is None:
        label_classes = check_files(layout)
        with _locked(store, digest):
            manifest = stored_manifest(store, digest)
            if manifest is None:
                return _store(layout, hashes, label_classes, digest, store)
    progress.say(STEP, f"{layout.name}: already stored as {store.uri(keys.dataset_manifest(digest))}")
    return manifest


def stored_manifest(store: "Store", digest: str) -> Manifest | None:
    """Return the manifest of a dataset that is in the store with all its shards, or else None."""
    key = keys.dataset_manifest(digest)
    if store.stat(key) is None:
        return None
    manifest = parse_manifest(store.get_json(key), store.uri(key))
    present = {ref.key: ref.size for ref in store.list(key.removesuffix("manifest.json"))}
    whole = all(present.get(shard.key) == shard.size for shard in manifest.shards)
    return manifest if whole else None


@contextlib.contextmanager
def _locked(store: "Store", digest: str) -> Iterator[None]:
    """Hold the dataset's lease, which also keeps `cps gc` away, and wait while another run holds it."""
    from components.storage.lease import Holder, Lease, LeaseHeld

    reported = False
    with contextlib.ExitStack() as stack:
        while True:
            try:
                stack.enter_context(Lease(store, keys.dataset_lease(digest), Holder(doing=STEP), LEASE_SECONDS))
                break
            except LeaseHeld as error:
                if not reported:
                    progress.say(STEP, f"another run is storing the same dataset; waiting for it ({error.since})")
                reported = True
                time.sleep(_LOOK_AGAIN)
        yield


def _store(
    layout: Layout, hashes: Mapping[str, str], label_classes: Mapping[str, list[int]], digest: str, store: "Store"
) -> Manifest:
    files, shards = _store_shards(layout, hashes, digest, store)
    manifest = Manifest(
        **dict(layout.lists), digest=digest, name=layout.name, layout=layout.kind, files=files, shards=shards
    )
    store.put_json(keys.dataset_label_classes(digest), label_classes)
    store.put_json(keys.dataset_manifest(digest), manifest.model_dump(mode="json"))
    size = sum(shard.size for shard in shards)
    progress.say(STEP, f"{layout.name}: {len(files)} files, {size / 1e6:.0f} MB in {len(shards)} shards stored")
    return manifest


def _store_shards(
    layout: Layout, hashes: Mapping[str, str], digest: str, store: "Store"
) -> tuple[dict[str, FileEntry], tuple[ShardEntry, ...]]:
    """Upload the shards, a few at a time, except those that an interrupted run has already uploaded."""
    files: dict[str, FileEntry] = {}
    shards: list[ShardEntry] = []
    present = {ref.key for ref in store.list(keys.dataset_manifest(digest).removesuffix("manifest.json"))}
    pending: list[Future[ShardEntry]] = []

    def collect() -> None:
        shards.append(pending.pop(0).result())
        done = sum(entry.shard < len(shards) for entry in files.values())
        progress.advance(STEP, done, len(hashes), f"files stored, shard {len(shards)}")

    pool = ThreadPoolExecutor(UPLOADS, "shard")
    try:
        for shard in plan(layout.folder, hashes, SHARD_BYTES):
            files.update(shard.entries())
            pending.append(pool.submit(_upload, store, digest, shard, present))
            if len(pending) > 2 * UPLOADS:
                collect()
        while pending:
            collect()
    finally:
        pool.shutdown(wait=True, cancel_futures=True)
    return files, tuple(shards)


def _upload(store: "Store", digest: str, shard: Shard, present: set[str]) -> ShardEntry:
    source, sha256 = shard.load()
    key = keys.dataset_shard(digest, shard.number, sha256)
    there = store.stat(key) if key in present else None
    if there is None or (there.sha256, there.size) != (sha256, shard.size):
        store.put_source(key, source, shard.size, sha256, "application/x-tar")
    return ShardEntry(key=key, sha256=sha256, size=shard.size)
