"""Downloads on this machine: an address has a folder, which is one process's until its dataset is stored."""

import fcntl
import hashlib
import os
import shutil
import time
from collections.abc import Iterable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

from components import progress
from components.dataset.check import STEP

_ABANDONED = 30 * 24 * 3600.0
"""Seconds after which a download that nobody has gone on with is given up."""


def folders_for(urls: Iterable[str], downloads: Path, stack: ExitStack) -> dict[str, Path]:
    """A folder for each address, this process's own while the stack lasts; those that were given up long ago go."""
    _prune(downloads)
    return {
        url: stack.enter_context(_exclusive(downloads / hashlib.sha256(url.encode()).hexdigest()[:16]))
        # In one order, so that no two processes wait for each other.
        for url in sorted(set(urls))
    }


def empty(folder: Path) -> None:
    shutil.rmtree(folder)
    folder.mkdir()


@contextmanager
def _exclusive(folder: Path) -> Iterator[Path]:
    """The folder, for this process alone: the lock lasts until the dataset is stored, then the folder goes."""
    path = folder.with_name(f"{folder.name}.lock")
    handle = _locked(path)
    try:
        folder.mkdir(exist_ok=True)
        yield folder
    finally:
        _tidy(folder, path)
        os.close(handle)


def _locked(path: Path) -> int:
    """A handle that holds the lock on the file of that name, until it is closed."""
    while True:
        path.parent.mkdir(parents=True, exist_ok=True)
        try:
            handle = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        except FileNotFoundError:
            continue  # the folder was tidied away in between
        try:
            fcntl.flock(handle, fcntl.LOCK_EX)
            if os.path.samestat(os.fstat(handle), path.stat()):
                return handle
        except FileNotFoundError:
            pass  # whoever held it has removed it
        except BaseException:
            os.close(handle)
            raise
        os.close(handle)


def _tidy(folder: Path, lock: Path) -> None:
    """Leave nothing where there is nothing to go on from."""
    try:
        folder.rmdir()
        lock.unlink()
        folder.parent.rmdir()
    except OSError:
        return


def _prune(downloads: Path) -> None:
    """Remove what was begun long ago and is nobody's now; whoever downloads holds its lock, and touches its files."""
    for lock in downloads.glob("*.lock"):
        folder, handle = lock.with_suffix(""), -1
        try:
            newest = max(path.stat().st_mtime for path in (lock, *folder.glob("*")))
            if time.time() - newest < _ABANDONED:
                continue
            handle = os.open(lock, os.O_RDWR | os.O_CLOEXEC)
            fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
            shutil.rmtree(folder, ignore_errors=True)
            lock.unlink()
            progress.say(STEP, f"removed a download that was begun {(time.time() - newest) / 86400:.0f} days ago")
        except OSError:
            continue  # it is in use, or gone
        finally:
            if handle >= 0:
                os.close(handle)
