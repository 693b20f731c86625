"""List and look up runs and weights in the object store."""

import hashlib
import os
import tempfile
from collections.abc import Callable, Iterable
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import asdict, dataclass, replace
from datetime import timedelta
from pathlib import Path, PurePosixPath
from typing import TypeVar

import urllib3
from pydantic import TypeAdapter

from components.contract import Frozen
from components.dataset.manifest import parse_manifest
from components.disk import default_cache, writing
from components.errors import UserError, WorkFailed
from components.files import write_whole
from components.runs.key import find_key
from components.runs.record import RunRecord, read_record
from components.runs.result import read_result
from components.storage import keys
from components.storage.client import MissingObject, ObjectRef, Store, connect
from components.storage.lease import held_by

_Item = TypeVar("_Item")
_Found = TypeVar("_Found")
_THREADS = 8
_FEW = 32
"""Folders to look into, to tell whether a run with a similar name still exists."""


@dataclass(frozen=True)
class StoredRun:
    """A run in the store.

    `state` is finished, trained or started; interrupted or failed if it ended before it was finished; running while its
    lease is held; unreadable if this version cannot read it.
    """

    run_key: str
    state: str
    dataset: str
    labeled_ratio: str
    miou: float | None
    objects: int
    size: int
    """Bytes, including its weights."""
    created: str

    def as_dict(self) -> dict[str, str | int | float | None]:
        return asdict(self)


def stored_runs(store: Store) -> list[StoredRun]:
    """Return every run that has a run.json, newest first. Only the records of new and changed runs are read."""
    summaries = _Summaries(store)
    weights = by_second_part(store.list(keys.WEIGHTS))
    objects = [(key, [*refs, *weights.get(key, [])]) for key, refs in by_second_part(store.list(keys.RUNS)).items()]
    runs = at_once(lambda run: _describe(store, *run, summaries), objects)
    summaries.save()
    return sorted((run for run in runs if run), key=lambda run: run.created, reverse=True)


def find_run(store: Store, name: str) -> StoredRun:
    """Return the run with this key or unique prefix. Raises UserError."""
    key = find_run_key(store, name)
    refs = [*store.list(keys.run(key, "")), *store.list(f"{keys.WEIGHTS}{key}/")]
    found = _describe(store, key, refs)
    if found is None:
        raise UserError(f"run {key} has no run.json: another command is deleting it, or `cps gc` removes the rest")
    return found


def find_run_key(store: Store, name: str) -> str:
    """Return the key of the run with this key or unique prefix, without reading any other run. Raises UserError."""
    return _find_folder(store, keys.RUNS, name, "run", lambda key: store.stat(keys.run(key, "run.json")) is not None)


def last_run_key(store: Store) -> str:
    """Return the key of the run that was started or resumed last. Raises UserError if there is none."""
    for job in sorted(store.list(keys.JOBS), key=lambda ref: ref.modified, reverse=True):
        record = store.find_json(job.key)
        key = str(record.get("run_key", "")) if isinstance(record, dict) else ""
        if key and store.stat(keys.run(key, "run.json")) is not None:
            return key
    runs = stored_runs(store)  # without the record of a job
    if not runs:
        raise UserError(f"there is no run in {store.uri(keys.RUNS)} yet: start one with `cps run`")
    return runs[0].run_key


def best_run_key(store: Store) -> str:
    """Return the key of the run with the highest mIoU on the last run's dataset. Raises UserError if there is none."""
    dataset = read_record(store, last_run_key(store)).dataset.name
    scored = [(run.miou, run.run_key) for run in stored_runs(store) if run.dataset == dataset and run.miou is not None]
    if not scored:
        raise UserError(f"no run on dataset {dataset} has finished yet: see `cps runs list`, or name a run")
    return max(scored)[1]


def _find_folder(store: Store, prefix: str, name: str, what: str, exists: Callable[[str], bool]) -> str:
    """Return the folder below `prefix` that `name` stands for, ignoring those that a removed run has left."""
    known = store.folders(prefix)
    similar = [name] if name in known else [key for key in known if name in key]
    if len(similar) <= _FEW:  # otherwise the name is ambiguous anyway
        present = dict(zip(similar, at_once(exists, similar), strict=True))
        known = [key for key in known if present.get(key, True)]
    return find_key(name, known, f"{what} in {store.uri(prefix)}")


def at_once(work: Callable[[_Item], _Found], items: Iterable[_Item]) -> list[_Found]:
    """Apply `work`, which waits for the store, to the items with several threads, and return the results in order."""
    with ThreadPoolExecutor(_THREADS) as pool:
        return list(pool.map(work, items))


def run_objects(store: Store, run_key: str) -> list[ObjectRef]:
    """Return a run's objects and weights without its lease, run.json last: the order to remove them in."""
    own = keys.run(run_key, "")
    refs = [*store.list(f"{keys.WEIGHTS}{run_key}/"), *store.list(own)]
    refs = [ref for ref in refs if ref.key != keys.run(run_key, "lease.json")]
    return sorted(refs, key=lambda ref: ref.key == keys.run(run_key, "run.json"))


def objects_by_run(store: Store) -> dict[str, list[ObjectRef]]:
    """Return the objects of each run by run key, without leases."""
    return {
        key: [ref for ref in refs if not ref.key.endswith("/lease.json")]
        for key, refs in by_second_part(store.list(keys.RUNS)).items()
    }


def by_second_part(refs: Iterable[ObjectRef]) -> dict[str, list[ObjectRef]]:
    """Group objects by the second part of their keys."""
    found: dict[str, list[ObjectRef]] = {}
    for ref in refs:
        parts = ref.key.split("/")
        if len(parts) > 2:
            found.setdefault(parts[1], []).append(ref)
    return found


def names_of_run(run_key: str, refs: Iterable[ObjectRef]) -> set[str]:
    """Return the objects' names below the run's prefix, such as run.json."""
    return {ref.key.removeprefix(keys.run(run_key, "")) for ref in refs}


def _describe(
    store: Store, run_key: str, refs: list[ObjectRef], summaries: "_Summaries | None" = None
) -> StoredRun | None:
    """Describe a run with these objects, which may include its lease. Returns None without a run.json."""
    names, lease = names_of_run(run_key, refs), keys.run(run_key, "lease.json")
    written = next((ref for ref in refs if ref.key == keys.run(run_key, "run.json")), None)
    if written is None:
        return None
    state, miou, known = "started", None, None
    try:
        known = summaries.of(written, run_key) if summaries else _summary(store, run_key)
        if "result.json" in names:
            # run.json has the outcome, unless version 0.1 wrote it; result.json is much larger.
            state, miou = "finished", known.miou if known.miou is not None else read_result(store, run_key).best.mIoU
        elif "checkpoints/index.json" in names:
            state = "trained"
    except MissingObject:
        return None  # deleted since it was listed
    except WorkFailed:
        state = "unreadable"  # written by another version
    if state in ("started", "trained"):
        state = _ending(store, run_key, names) or state
    if "lease.json" in names and held_by(store, lease) is not None:
        state = "running"
    own = [ref for ref in refs if ref.key != lease]
    return StoredRun(
        run_key=run_key,
        state=state,
        dataset=known.dataset if known else "",
        labeled_ratio=known.labeled_ratio if known else "",
        miou=miou,
        objects=len(own),
        size=sum(ref.size for ref in own),
        created=known.created if known else "",
    )


class _Summary(Frozen):
    """What a list shows of a run.json, which was written at `modified` and has `size` bytes."""

    dataset: str
    labeled_ratio: str
    created: str
    miou: float | None
    modified: str = ""
    size: int = 0


def _summary(store: Store, run_key: str) -> _Summary:
    record = read_record(store, run_key)
    miou = record.outcome.mean_iou if record.outcome else None
    return _Summary(dataset=record.dataset.name, labeled_ratio=record.labeled_ratio, created=record.created, miou=miou)


class _Summaries:
    """The summaries of a store's runs, kept in this machine's cache. Safe to share between threads."""

    def __init__(self, store: Store) -> None:
        place = hashlib.sha256(f"{store.settings.endpoint}/{store.settings.bucket}".encode()).hexdigest()
        self._store, self._name = store, f"runs/{place[:32]}.json"
        self._current: dict[str, _Summary] = {}
        try:
            self._known = _SUMMARIES.validate_json((default_cache() / self._name).read_bytes())
        except (OSError, ValueError, UserError):  # none yet, another version's, or this user has no home folder
            self._known = {}

    def of(self, written: ObjectRef, run_key: str) -> _Summary:
        """Return the summary of the listed run.json, which is read if it is not known. Raises like `read_record`."""
        known, modified = self._known.get(run_key), written.modified.isoformat()
        if known is None or (known.modified, known.size) != (modified, written.size):
            known = _summary(self._store, run_key).model_copy(update={"modified": modified, "size": written.size})
        self._current[run_key] = known
        return known

    def save(self) -> None:
        if self._current != self._known:
            with suppress(OSError, UserError):  # the next list reads the records again
                write_whole(default_cache() / self._name, _SUMMARIES.dump_json(self._current))


_SUMMARIES = TypeAdapter(dict[str, _Summary])


def _ending(store: Store, run_key: str, names: set[str]) -> str:
    """Return how an unfinished run has ended, or an empty string if that is unknown."""
    if "lease.json" in names:
        return "interrupted"  # a process that can still clean up removes its lease
    closed = store.find_json(keys.run(run_key, "closed.json")) if "closed.json" in names else None
    status = closed.get("status") if isinstance(closed, dict) else None
    return {"KILLED": "interrupted", "FAILED": "failed"}.get(str(status), "")


@dataclass(frozen=True)
class StoredWeights:
    """A run's best network, or both if their ensemble is best. `size` is in bytes."""

    run_key: str
    key: str
    uri: str
    size: int
    sha256: str
    modified: str
    dataset: str = ""
    miou: float | None = None
    classes: int | None = None
    """`dataset`, `miou` and `classes` are only set in a list, and only if the run's record still exists."""

    def as_dict(self) -> dict[str, str | int | float | None]:
        return {("mIoU" if name == "miou" else name): value for name, value in asdict(self).items()}


def stored_weights(store: Store) -> list[StoredWeights]:
    """Return the stored weights of all runs with their dataset and mIoU, newest first."""
    found = _weights_below(store, keys.WEIGHTS)
    run_keys = list(dict.fromkeys(entry.run_key for entry in found))
    records = dict(zip(run_keys, at_once(lambda key: find_record(store, key), run_keys), strict=True))
    digests = list(dict.fromkeys(record.dataset.digest for record in records.values() if record))
    classes = dict(zip(digests, at_once(lambda digest: _classes(store, digest), digests), strict=True))

    def describe(entry: StoredWeights) -> StoredWeights:
        record = records[entry.run_key]
        if record is None:
            return entry
        miou = record.outcome.mean_iou if record.outcome else None
        return replace(entry, dataset=record.dataset.name, miou=miou, classes=classes[record.dataset.digest])

    return [describe(entry) for entry in found]


def find_record(store: Store, run_key: str) -> RunRecord | None:
    """Return a run's record; None if the run is gone or another version has written it."""
    try:
        return read_record(store, run_key)
    except WorkFailed:
        return None


def _classes(store: Store, digest: str) -> int | None:
    key = keys.dataset_manifest(digest)
    try:
        return len(parse_manifest(store.get_json(key), store.uri(key)).classes)
    except WorkFailed:
        return None  # the dataset is gone


def find_weights(store: Store, run: str) -> StoredWeights:
    """Return the weights of the run with this key or unique prefix, the newest of them. Raises UserError."""
    key = _find_folder(
        store, keys.WEIGHTS, run, "run with weights", lambda key: bool(_weights_below(store, f"{keys.WEIGHTS}{key}/"))
    )
    return _weights_below(store, f"{keys.WEIGHTS}{key}/")[0]


def _weights_below(store: Store, prefix: str) -> list[StoredWeights]:
    paths = [PurePosixPath(listed.key) for listed in store.list(prefix)]
    files = [str(path) for path in paths if path.suffix == ".safetensors" and len(path.parts) == 3]
    refs = [ref for ref in at_once(store.stat, files) if ref is not None]
    found = [
        StoredWeights(
            ref.key.split("/")[1], ref.key, ref.uri, ref.size, ref.sha256, ref.modified.isoformat(timespec="seconds")
        )
        for ref in refs
    ]
    return sorted(found, key=lambda entry: entry.modified, reverse=True)


def pull_converted(store: Store, weights: StoredWeights, form: str, target: Path, *, branch: str) -> None:
    """Download and verify weights and convert them to `form`. Raises the same errors as `conversion.convert`."""
    from components.inference.conversion import convert

    with tempfile.TemporaryDirectory(prefix="weights-", dir=os.environ.get("CPS_WORK")) as folder:
        stored = Path(folder, PurePosixPath(weights.key).name)
        with writing(stored, needed=weights.size):
            store.get_file(weights.key, stored, weights.sha256 or None)
        convert(stored, form, target, branch=branch)


def presigned_link(store: Store, weights: StoredWeights, expires: timedelta) -> str:
    """Return a URL that needs no credentials until it expires."""
    client = connect(store.settings, urllib3.PoolManager())
    return str(client.presigned_get_object(store.settings.bucket, weights.key, expires=expires))
