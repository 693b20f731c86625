"""The trained networks that the object store holds, found by run."""

import os
import tempfile
from dataclasses import asdict, dataclass
from datetime import timedelta
from pathlib import Path, PurePosixPath
from typing import Any

import urllib3

from components.errors import UserError
from components.storage import keys
from components.storage.client import Store, connect


@dataclass(frozen=True)
class StoredWeights:
    """A run's best network, or both networks where their average won. `size` in bytes."""

    run_key: str
    key: str
    uri: str
    size: int
    sha256: str
    modified: str

    def as_dict(self) -> dict[str, Any]:
        return asdict(self)


def stored_weights(store: Store) -> list[StoredWeights]:
    """All of them, the newest first."""
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
    """The weights of a run, by its key or an unambiguous beginning of it. Raises UserError."""
    found = stored_weights(store)
    exact = [entry for entry in found if entry.run_key == run]
    matching = exact or [entry for entry in found if entry.run_key.startswith(run)]
    if len(matching) == 1:
        return matching[0]
    if matching:
        names = ", ".join(entry.run_key for entry in matching[:5])
        raise UserError(f"{run!r} may be any of {names}: write more of the run key")
    known = ", ".join(entry.run_key for entry in found[:5]) or "none"
    raise UserError(f"no weights of a run {run!r} in {store.uri(keys.WEIGHTS)}; there are: {known}")


def pull_converted(store: Store, weights: StoredWeights, form: str, target: Path, *, branch: str) -> None:
    """Download and verify, and write as `form` of components.inference.conversion, which says what it raises."""
    from components.inference.conversion import convert

    with tempfile.TemporaryDirectory(prefix="weights-", dir=os.environ.get("CPS_WORK")) as folder:
        stored = Path(folder, PurePosixPath(weights.key).name)
        convert(store.get_file(weights.key, stored, weights.sha256 or None), form, target, branch=branch)


def presigned_link(store: Store, weights: StoredWeights, expires: timedelta) -> str:
    """An address that needs no keys, until it expires."""
    client = connect(store.settings, urllib3.PoolManager())
    return str(client.presigned_get_object(store.settings.bucket, weights.key, expires=expires))
