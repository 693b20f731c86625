"""Delete runs, and find and remove objects in the store that no run refers to any more.

Objects under a held lease are kept. A dataset's manifest is removed before its shards, and a run's run.json after all
its other objects, so that the next removal finds whatever an interrupted one left.
"""

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from functools import partial

from components.dataset.manifest import Manifest, parse_manifest
from components.errors import UserError, WorkFailed
from components.runs.checkpoints import finished_index
from components.runs.stored import by_second_part, names_of_run, objects_by_run, run_objects
from components.storage import keys
from components.storage.client import MissingObject, ObjectRef, Store
from components.storage.lease import Holder, Lease, LeaseHeld, held_by
from components.storage.minio_api import Unfinished


@dataclass(frozen=True)
class Garbage:
    """Objects that no run refers to, and why. `lease` must be free, and is held while they are removed."""

    why: str
    objects: tuple[ObjectRef, ...]
    lease: str = ""
    still: Callable[[], bool] = lambda: True
    """Return whether it is still garbage; checked again while the lease is held."""

    @property
    def size(self) -> int:
        return sum(ref.size for ref in self.objects)


@dataclass(frozen=True)
class Collection:
    """What `cps gc` removes, and what it keeps and why."""

    garbage: tuple[Garbage, ...]
    uploads: tuple[Unfinished, ...]
    kept: tuple[str, ...]

    @property
    def size(self) -> int:
        return sum(part.size for part in self.garbage)


def delete_run(store: Store, run_key: str) -> int:
    """Remove a run and its weights, and return the bytes freed. Raises UserError while the run is in use."""
    try:
        with Lease(store, keys.run(run_key, "lease.json"), Holder(run=run_key, doing="deleting")):
            refs = run_objects(store, run_key)
            _remove(store, refs)
    except LeaseHeld as error:
        raise UserError(f"run {run_key} is in use: {error}") from error
    return sum(ref.size for ref in refs)


def find_garbage(store: Store, grace: timedelta) -> Collection:
    """Return the objects that no run refers to and that are older than `grace`.

    The grace period protects a run that is being prepared, which has no run.json yet.

    Raises:
        WorkFailed: a run.json cannot be read, so what that run refers to is unknown.
    """
    now, kept = datetime.now(UTC), list[str]()
    runs = objects_by_run(store)
    garbage = [*_of_runs(store, runs), *_of_weights(store, runs), *_of_jobs(store, runs), *_of_datasets(store, runs)]
    chosen = []
    for part in garbage:
        holder = _holder(store, part.lease)
        if holder:
            kept.append(f"{_place(part)} ({part.why}): in use by {holder}")
        elif any(now - ref.modified < grace for ref in part.objects):
            kept.append(f"{_place(part)} ({part.why}): younger than the grace period")
        else:
            chosen.append(part)
    uploads = []
    for upload in store.unfinished_uploads():
        holder = _holder(store, keys.lease_of(upload.key))
        if holder:
            kept.append(f"{upload.key} (an unfinished upload): in use by {holder}")
        elif now - upload.begun >= grace:
            uploads.append(upload)
    return Collection(tuple(chosen), tuple(uploads), tuple(kept))


def collect(store: Store, collection: Collection) -> tuple[int, tuple[str, ...]]:
    """Remove the garbage. Return the bytes freed, and what was kept because it has come into use since."""
    removed, left = 0, list[str]()
    for part in collection.garbage:
        try:
            removed += _collect(store, part)
        except LeaseHeld as error:
            left.append(f"{_place(part)}: {error}")
    for upload in collection.uploads:
        if holder := _holder(store, keys.lease_of(upload.key)):
            left.append(f"{upload.key}: in use by {holder}")
        else:
            store.abort_upload(upload)
    return removed, tuple(left)


def _collect(store: Store, part: Garbage) -> int:
    if not part.lease:
        return _remove(store, part.objects) if part.still() else 0
    with Lease(store, part.lease, Holder(doing="gc")):
        return _remove(store, part.objects) if part.still() else 0


def _remove(store: Store, refs: Iterable[ObjectRef]) -> int:
    size = 0
    for ref in refs:
        store.remove(ref.key)
        size += ref.size
    return size


def _holder(store: Store, lease: str) -> str:
    """Return a description of the lease's holder; empty if it is free or does not exist."""
    holder = held_by(store, lease) if lease else None
    return str(holder or "")


def _of_runs(store: Store, runs: dict[str, list[ObjectRef]]) -> list[Garbage]:
    found = []
    for run_key, refs in runs.items():
        names, lease = names_of_run(run_key, refs), keys.run(run_key, "lease.json")
        if refs and "run.json" not in names:
            still = _absent(store, keys.run(run_key, "run.json"))
            found.append(Garbage("its run is gone", tuple(refs), lease, still))
        elif "checkpoints/index.json" in names:
            recoveries = tuple(ref for ref in refs if ref.key.startswith(keys.run(run_key, "recovery.")))
            # If a checkpoint that the index lists is missing, the run trains again and needs its recovery.
            if recoveries and _is_trained(store, run_key):
                still = partial(_is_trained, store, run_key)
                found.append(Garbage("its training is complete", recoveries, lease, still))
    return found


def _of_weights(store: Store, runs: dict[str, list[ObjectRef]]) -> list[Garbage]:
    return [
        Garbage(
            "its run is gone",
            tuple(refs),
            keys.run(run_key, "lease.json"),
            _absent(store, keys.run(run_key, "run.json")),
        )
        for run_key, refs in by_second_part(store.list(keys.WEIGHTS)).items()
        if "run.json" not in names_of_run(run_key, runs.get(run_key, []))
    ]


def _of_jobs(store: Store, runs: dict[str, list[ObjectRef]]) -> list[Garbage]:
    found = []
    for ref in store.list(keys.JOBS):
        run_key = _named(store, ref.key, "run_key")
        if "run.json" not in names_of_run(run_key, runs.get(run_key, [])):
            found.append(Garbage("its run is gone", (ref,), keys.run(run_key, "lease.json") if run_key else ""))
    return found


def _of_datasets(store: Store, runs: dict[str, list[ObjectRef]]) -> list[Garbage]:
    used, found, gone = _datasets_in_use(store, runs), list[Garbage](), set[str]()
    stored = by_second_part(ref for ref in store.list(keys.DATASETS) if not ref.key.startswith(keys.SOURCES))
    for digest, all_refs in stored.items():
        lease, manifest_key = keys.dataset_lease(digest), keys.dataset_manifest(digest)
        refs = sorted((ref for ref in all_refs if ref.key != lease), key=lambda ref: ref.key != manifest_key)
        if refs and digest not in used:
            found.append(Garbage("no run uses this dataset", tuple(refs), lease, _unused(store, digest)))
            gone.add(digest)
        elif shards := _unlisted_shards(store, digest, refs):
            found.append(Garbage("not in the dataset's manifest", shards, lease))
    for ref in store.list(keys.SOURCES):
        digest = _named(store, ref.key, "digest")
        if digest in gone or digest not in stored:
            found.append(Garbage("its dataset is gone", (ref,), still=_absent(store, keys.dataset_manifest(digest))))
    return found


def _unlisted_shards(store: Store, digest: str, refs: Iterable[ObjectRef]) -> tuple[ObjectRef, ...]:
    """Return the shards of a dataset in use that its manifest does not list, such as those of an interrupted upload.

    Other unlisted objects are ignored: a newer version may have written them.
    """
    key = keys.dataset_manifest(digest)
    try:
        manifest: Manifest = parse_manifest(store.get_json(key), store.uri(key))
    except MissingObject:
        return ()  # still being stored, or interrupted: storing it again reuses the shards
    listed = {shard.key for shard in manifest.shards}
    return tuple(ref for ref in refs if keys.is_dataset_shard(ref.key) and ref.key not in listed)


def _datasets_in_use(store: Store, runs: dict[str, list[ObjectRef]]) -> set[str]:
    used = set()
    for run_key, refs in runs.items():
        if "run.json" not in names_of_run(run_key, refs):
            continue
        key = keys.run(run_key, "run.json")
        try:
            used.add(str(store.get_json(key)["dataset"]["digest"]))
        except MissingObject:
            continue
        except (KeyError, TypeError) as error:
            raise WorkFailed(
                f"{store.uri(key)} does not say which dataset it uses, so nothing was removed: "
                "repair it or delete the run"
            ) from error
    return used


def _is_trained(store: Store, run_key: str) -> bool:
    return finished_index(store, run_key) is not None


def _unused(store: Store, digest: str) -> Callable[[], bool]:
    return lambda: digest not in _datasets_in_use(store, objects_by_run(store))


def _absent(store: Store, key: str) -> Callable[[], bool]:
    return lambda: store.stat(key) is None


def _named(store: Store, key: str, field: str) -> str:
    """Return a field of a JSON object that any version may have written; "" if it is missing."""
    value = store.find_json(key)
    return str(value.get(field, "")) if isinstance(value, dict) else ""


def _place(part: Garbage) -> str:
    return part.objects[0].key.rsplit("/", 1)[0] + "/" if len(part.objects) > 1 else part.objects[0].key
