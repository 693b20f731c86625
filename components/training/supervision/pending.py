"""Files that could not be uploaded to the object store: keep them on local disk, and deliver them on resume."""

from pathlib import Path
from urllib.parse import quote, unquote

from components import progress
from components.disk import default_cache
from components.errors import WorkFailed
from components.storage.client import Store
from components.training.recovery import newest_recovery, parse_recovery, recovery_key, unplaced_key


def pending_folder(run_key: str) -> Path:
    """Return the local folder for a run's files that are not in the object store yet."""
    return default_cache() / "waiting" / run_key


def pending_path(folder: Path, key: str) -> Path:
    return folder / quote(key, safe="")


def deliver_pending(store: Store, folder: Path, run_key: str) -> None:
    """Upload the files that an earlier process of this run kept on local disk.

    The recovery comes last, since it lists the checkpoints. Each file is removed once it is stored, so an interrupted
    delivery resumes with the remaining files.
    """
    if not folder.is_dir():
        return
    recovery = pending_path(folder, unplaced_key(run_key))
    for path in sorted(folder.iterdir(), key=lambda item: item.stat().st_mtime):
        if path.suffix == ".part":  # left by a process that was killed while writing
            path.unlink()
        elif path != recovery:
            _deliver(store, path, unquote(path.name))
    if recovery.exists():
        _deliver_recovery(store, recovery, run_key)


def _deliver_recovery(store: Store, path: Path, run_key: str) -> None:
    """Upload the recovery, unless the store has one that is as new; keep the slot of the newest stored one."""
    try:
        step = parse_recovery(path.read_bytes(), run_key, str(path)).step
    except WorkFailed as error:
        progress.say("train", f"ignoring a damaged recovery: {error}")
        path.unlink()
        return
    newest = newest_recovery(store, run_key)
    if newest is not None and newest.step >= step:
        progress.say("train", f"{path} is not needed: the store has the recovery of step {newest.step}")
        path.unlink()
        return
    _deliver(store, path, recovery_key(run_key, 1 - newest.slot if newest else 0))


def _deliver(store: Store, path: Path, key: str) -> None:
    reference = store.put_file(key, path)
    path.unlink()
    progress.say("train", f"uploaded from disk: {reference.uri}")
