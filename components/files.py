"""Files on this machine: atomic replacement, locks, and digests."""

import errno
import fcntl
import hashlib
import os
import secrets
import shutil
import stat
import tempfile
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path

from components.errors import UserError
from components.reading import open_file


def is_stream(path: Path) -> bool:
    """Return whether writing to the path goes to a device, a pipe or a process, such as /dev/stdout, not to a file."""
    try:
        mode = path.stat().st_mode
    except OSError:
        return False
    opened = path.is_symlink() and os.readlink(path).startswith("/proc/")
    return opened or not (stat.S_ISREG(mode) or stat.S_ISDIR(mode))


@contextmanager
def replacing(path: Path, *, private: bool = False, durable: bool = False, keep_suffix: bool = False) -> Iterator[Path]:
    """Yield a partial path beside `path` to write to, and rename it to `path` at the end. An error removes it.

    A reader of `path` sees the old file or the complete new one. A killed process leaves `.{name}.{hex}.part` behind.
    An OSError names `path`. Raises OSError also if a folder, a device or a pipe is there, which must not be replaced.

    Args:
        private: only the owner may read the file, also while it is being written.
        durable: flush the file to disk before the rename, so that a power cut cannot leave half of it at `path`.
        keep_suffix: the partial path ends in the suffix of `path`, for writers that choose the format by it.
    """
    if is_stream(path):
        raise OSError(errno.EEXIST, "it is a device or a pipe, not a file", str(path))
    if path.is_dir():
        raise IsADirectoryError(errno.EISDIR, os.strerror(errno.EISDIR), str(path))
    suffix = path.suffix if keep_suffix else ""
    # File names are limited to 255 bytes, which 60 characters and the rest of this name never exceed.
    partial = path.with_name(f".{path.name[:60]}.{secrets.token_hex(4)}.part{suffix}")
    try:
        if private:
            os.close(os.open(partial, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600))
        yield partial
        if durable:
            with partial.open("rb") as file:
                os.fsync(file.fileno())
        partial.replace(path)
    except BaseException as error:
        with suppress(OSError):
            partial.unlink()
        if isinstance(error, OSError) and error.filename in (None, str(partial)):
            error.filename = str(path)
        raise


def write_together(texts: dict[Path, str]) -> None:
    """Write text files, all of them or, if that fails, none: those that were already replaced get their old content.

    The files are replaced in the given order. Only a killed process can leave some of them unwritten.
    """
    before = {path: path.read_bytes() if path.exists() else None for path in texts}
    try:
        with ExitStack() as stack:  # which leaves in reverse order
            for path in reversed(texts):
                stack.enter_context(replacing(path, durable=True)).write_text(texts[path], encoding="utf-8")
    except BaseException:
        for path, content in before.items():
            _restore(path, content)
        raise


def _restore(path: Path, content: bytes | None) -> None:
    if content is None:
        path.unlink(missing_ok=True)
    elif path.read_bytes() != content:
        with replacing(path) as partial:
            partial.write_bytes(content)


def write_whole(path: Path, content: str | bytes) -> None:
    """Write a file atomically, text as UTF-8, and create its folder. Raises OSError, which names `path`."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with replacing(path) as partial:
        partial.write_bytes(content.encode() if isinstance(content, str) else content)


@contextmanager
def holding(path: Path, flags: int = os.O_RDWR | os.O_CREAT, *, wait: bool = True) -> Iterator[int]:
    """Hold the exclusive lock on `path` for the duration of the block, and yield the handle. Raises like `locked`."""
    handle = locked(path, flags, wait=wait)
    try:
        yield handle
    finally:
        os.close(handle)


@contextmanager
def marked_folder(prefix: str, place: str | None = None) -> Iterator[tuple[Path, int]]:
    """Yield a temporary folder in `place`, and the handle of the lock that marks it as in use.

    The lock lasts as long as this process, and as a child that inherits the handle: see `abandoned_folders`.
    """
    with tempfile.TemporaryDirectory(prefix=prefix, dir=place, ignore_cleanup_errors=True) as name:
        fresh = Path(name) / f"{_MARK}.new"
        with holding(fresh) as handle:
            fresh.rename(fresh.with_suffix(""))  # so that no unlocked mark is ever seen
            yield Path(name), handle


def abandoned_folders(prefix: str, place: str | None = None) -> Iterator[Path]:
    """Yield each folder of `marked_folder` whose processes were killed, and remove it afterwards."""
    for mark in Path(place or tempfile.gettempdir()).glob(f"{prefix}*/{_MARK}"):
        # If the mark is locked, the folder is in use; if it cannot be opened, it is another user's.
        with suppress(OSError), holding(mark, os.O_RDWR, wait=False):
            yield mark.parent
            shutil.rmtree(mark.parent)


_MARK = "in-use"


def locked(path: Path, flags: int, *, shared: bool = False, wait: bool = True) -> int:
    """Open `path` with `flags`, lock it (flock), and return the handle. Closing the handle releases the lock.

    The lock counts only if the file is still at `path`, since its previous holder may have removed or replaced it.

    Raises:
        FileNotFoundError: the file does not exist, or its folder if `flags` create it.
        BlockingIOError: another process holds the lock, and `wait` is false.
    """
    operation = (fcntl.LOCK_SH if shared else fcntl.LOCK_EX) | (0 if wait else fcntl.LOCK_NB)
    while True:
        handle = os.open(path, flags | os.O_CLOEXEC, 0o600)
        try:
            fcntl.flock(handle, operation)
            if is_at(handle, path):
                return handle
        except BaseException:
            os.close(handle)
            raise
        os.close(handle)


def is_at(handle: int, path: Path) -> bool:
    """Return whether the open file is the one at `path`."""
    try:
        return os.path.samestat(os.fstat(handle), path.stat())
    except FileNotFoundError:
        return False


def file_sha256(path: Path) -> str:
    """Return a file's sha256 in hex. Raises UserError if the file cannot be opened."""
    try:
        with open_file(path) as file:
            return hashlib.file_digest(file, "sha256").hexdigest()
    except OSError as error:
        raise UserError(f"{path} cannot be opened: {error.strerror}") from None


def check_digest(path: Path, sha256: str) -> None:
    """Compare a weights file with its expected sha256. Raises UserError if they differ."""
    found = file_sha256(path)
    if found != sha256.lower():
        raise UserError(f"weights {path} have sha256 {found}, not {sha256}: pull them again")
