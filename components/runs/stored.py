"""List and look up runs and weights in the object store."""

import os
import tempfile
from collections.abc import Iterable
from dataclasses import asdict, dataclass
from datetime import timedelta
from pathlib import Path, PurePosixPath

import urllib3

from components.disk import writing
from components.errors import WorkFailed
from components.runs.key import find_key
from components.runs.record import read_record
from components.runs.result import find_result
from components.storage import keys
from components.storage.client import ObjectRef, Store, connect
from components.storage.lease import held_by


@dataclass(frozen=True)
class StoredRun:
    """A run in the store.

    `state` is finished, trained or started; running while its lease is held; unreadable if this version cannot read it.
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
    """Return every run that has a run.json, newest first."""
    weights = by_second_part(store.list(keys.WEIGHTS))
    runs = [_describe(store, key, [*refs, *weights.get(key, [])]) for key, refs in objects_by_run(store).items()]
    return sorted((run for run in runs if run), key=lambda run: run.created, reverse=True)


def find_run(store: Store, name: str) -> StoredRun:
    """Return the run with this key or unique prefix. Raises UserError."""
    found = {run.run_key: run for run in stored_runs(store)}
    return found[find_key(name, found, f"run in {store.uri(keys.RUNS)}")]


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


def _describe(store: Store, run_key: str, refs: list[ObjectRef]) -> StoredRun | None:
    names = names_of_run(run_key, refs)
    if "run.json" not in names:
        return None
    state, record, result = "started", None, None
    try:
        record = read_record(store, run_key)
        result = find_result(store, run_key) if "result.json" in names else None
    except WorkFailed:
        state = "unreadable"  # written by another version
    if result is not None:
        state = "finished"
    elif state == "started" and "checkpoints/index.json" in names:
        state = "trained"
    if held_by(store, keys.run(run_key, "lease.json")) is not None:
        state = "running"
    return StoredRun(
        run_key=run_key,
        state=state,
        dataset=record.dataset.name if record else "",
        labeled_ratio=record.labeled_ratio if record else "",
        miou=result.best.mIoU if result else None,
        objects=len(refs),
        size=sum(ref.size for ref in refs),
        created=record.created if record else "",
    )


@dataclass(frozen=True)
class StoredWeights:
    """A run's best network, or both if their ensemble is best. `size` is in bytes."""

    run_key: str
    key: str
    uri: str
    size: int
    sha256: str
    modified: str

    def as_dict(self) -> dict[str, str | int | float | None]:
        return asdict(self)


def stored_weights(store: Store) -> list[StoredWeights]:
    """Return the stored weights of all runs, newest first."""
    found = []
    for listed in store.list(keys.WEIGHTS):
        path = PurePosixPath(listed.key)
        if path.suffix != ".safetensors" or len(path.parts) != 3:
            continue
        ref = store.stat(listed.key)
        if ref is not None:
            modified = ref.modified.isoformat(timespec="seconds")
            found.append(StoredWeights(path.parts[1], ref.key, ref.uri, ref.size, ref.sha256, modified))
    return sorted(found, key=lambda entry: entry.modified, reverse=True)


def find_weights(store: Store, run: str) -> StoredWeights:
    """Return the weights of the run with this key or unique prefix. Raises UserError."""
    found: dict[str, StoredWeights] = {}
    for entry in stored_weights(store):
        found.setdefault(entry.run_key, entry)
    return found[find_key(run, found, f"run with weights in {store.uri(keys.WEIGHTS)}")]


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
