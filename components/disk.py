"""The folders that this program writes to, and what to tell the user if one of them cannot be written."""

import errno
import os
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from components.errors import UserError, is_disk_full, one_line
from components.units import size_text

CACHE_VARIABLE = "CPS_CACHE"
HOME_VARIABLE = "CPS_HOME"
WORK_VARIABLE = "CPS_WORK"
_TEMPORARY = "TMPDIR"
_ALMOST_FULL = 1 << 20
"""Bytes below which a disk is named when a write fails without telling where."""
_MACHINE = frozenset(
    {errno.EACCES, errno.EPERM, errno.EROFS, errno.ENOTDIR, errno.EISDIR, errno.EEXIST, errno.ENAMETOOLONG}
) | {errno.ELOOP, errno.EIO, errno.ESTALE, errno.EMFILE, errno.ENFILE}
"""Errors whose cause is the machine or a path that the user gave, and not this program."""


def default_cache() -> Path:
    """Return CPS_CACHE, or ~/.cache/cps if it is not set. Raises UserError if there is no home folder."""
    if given := os.environ.get(CACHE_VARIABLE):
        return Path(os.path.expanduser(given))
    try:
        return Path.home() / ".cache" / "cps"
    except RuntimeError:
        raise UserError(f"this user has no home folder: set {CACHE_VARIABLE} to a folder for cached files") from None


def state_home() -> Path:
    """Return the folder of the embedded services: CPS_HOME, or .cps in the current directory."""
    return Path(os.path.expanduser(os.environ.get(HOME_VARIABLE) or ".cps")).absolute()


def work_folder() -> Path:
    """Return the folder for scratch data: CPS_WORK, or the system's temporary folder. Raises UserError without any."""
    if given := os.environ.get(WORK_VARIABLE):
        return Path(os.path.expanduser(given))
    try:
        return Path(tempfile.gettempdir())
    except OSError as error:
        raise _no_temporary_folder(error) from None


@contextmanager
def scratch_folder(work: Path, prefix: str = "dataset-") -> Iterator[Path]:
    """Yield a new folder in `work`, and remove it afterwards. Raises UserError if it cannot be created."""
    with writing(work, WORK_VARIABLE):
        work.mkdir(parents=True, exist_ok=True)
        folder = tempfile.TemporaryDirectory(prefix=prefix, dir=work, ignore_cleanup_errors=True)
    with folder as name:
        yield Path(name)


def scratch_of(cache: Path) -> Path:
    """Return the cache's folder for temporary files, or the folder for scratch data if that one cannot be used."""
    folder = cache / "scratch"
    try:
        folder.mkdir(parents=True, exist_ok=True)
        tempfile.TemporaryFile(dir=folder).close()
    except OSError:
        return work_folder()
    return folder


class Unwritable(UserError):
    """A path cannot be written: why, how much room there is, and which setting to change."""

    def __init__(self, path: Path, error: OSError, setting: str, needed: int = 0, room: str = "") -> None:
        self.path, self.error, self.setting, self.needed = path, error, setting, needed
        # Free space does not explain a quota or a limit. Keep the value from before any file was removed.
        self.room = room or (_room(path) if error.errno == errno.ENOSPC else "")
        reason, advice = error.strerror or one_line(error), "choose a path that you may write to"
        if is_disk_full(error):
            found = ", ".join(filter(None, (self.room, f"{size_text(needed)} needed" if needed else "")))
            reason += f" ({found})" if found else ""
            advice = "make room, or choose a path on a larger disk"
        if setting:
            advice = advice.replace("choose a path", f"set {setting} to a {'path' if setting[0] == '-' else 'folder'}")
        super().__init__(f"{path} cannot be written: {reason}; {advice}")

    def restated(self, setting: str, needed: int) -> "Unwritable":
        """Return the same error with what an outer block knows better."""
        return Unwritable(self.path, self.error, setting or self.setting, needed or self.needed, self.room)


@contextmanager
def writing(path: Path, setting: str = "", needed: int = 0) -> Iterator[None]:
    """Turn an OSError of the block, which writes to `path` or below it, into one line. Errors elsewhere pass unchanged.

    Args:
        setting: the variable or option that determines the path, such as --output. By default, the variable whose
            folder contains the path.
        needed: bytes that the block writes, if known.

    Raises:
        Unwritable: the path cannot be written.
    """
    try:
        yield
    except OSError as error:
        named = _path_of(error) or path
        if not (_is_machines(error) or isinstance(error, FileNotFoundError)):
            raise  # not of a file: a lost connection, for example
        if not (_is_below(named, path) or _is_below(path, named)):
            raise
        place = named if _is_below(named, path) else path
        raise Unwritable(place, error, setting or setting_of(path), needed) from error
    except Unwritable as error:
        if not (_is_below(error.path, path) or _is_below(path, error.path)):
            raise
        raise error.restated(setting, needed) from error.error


def check_writable(folder: Path, setting: str) -> None:
    """Check before long work that the folder exists or can be created, and written. Raises Unwritable."""
    above, number = _existing(folder), 0
    if not above.is_dir():
        number = errno.ENOTDIR
    elif os.statvfs(above).f_flag & os.ST_RDONLY:
        number = errno.EROFS
    elif not os.access(above, os.W_OK | os.X_OK, effective_ids=True):
        number = errno.EACCES
    elif not free(above):
        number = errno.ENOSPC
    if number:
        raise Unwritable(folder, OSError(number, os.strerror(number)), setting)


def check_home() -> None:
    """Check before long work that Paddle can be imported, which creates a folder in ~/.cache. Raises Unwritable."""
    folder = Path(os.path.expanduser("~/.cache/paddle/dataset"))
    if not folder.is_dir():
        check_writable(folder, "HOME")


def machine_error(error: BaseException) -> UserError | None:
    """Return the one-line error for an OSError whose cause is the machine or a path, or None for any other error."""
    if not isinstance(error, OSError):
        return None
    if "No usable temporary directory" in str(error):
        return _no_temporary_folder(error)
    path = _path_of(error)
    if is_disk_full(error):
        return Unwritable(path, error, setting_of(path)) if path else _full_somewhere(error)
    if not _is_machines(error) or path is None:
        return None
    above = _existing(path.parent)
    setting = "" if above.is_dir() and os.access(above, os.W_OK, effective_ids=True) else setting_of(path)
    advice = f"set {setting} to a folder that you may write to" if setting else "check the path and its permissions"
    return UserError(f"{path}: {error.strerror}; {advice}")


def _is_machines(error: OSError) -> bool:
    return error.errno in _MACHINE or is_disk_full(error)


def _path_of(error: OSError) -> Path | None:
    named = error.filename2 or error.filename
    return Path(os.fsdecode(named)) if isinstance(named, (str, bytes)) else None


def _settings() -> dict[str, Path]:
    """Return the variables that determine where this program writes, and their folders."""
    found = {}
    for variable, folder in (
        (CACHE_VARIABLE, default_cache),
        (HOME_VARIABLE, state_home),
        (WORK_VARIABLE if os.environ.get(WORK_VARIABLE) else _TEMPORARY, work_folder),
        (_TEMPORARY, lambda: Path(tempfile.gettempdir())),
        ("HOME", lambda: Path.home() / ".cache"),  # Paddle's
    ):
        with suppress(UserError, OSError, RuntimeError):
            found[variable] = folder().absolute()
    return found


def setting_of(path: Path) -> str:
    """Return the variable whose folder contains the path, the innermost if several do, or an empty string."""
    containing = {name: len(folder.parts) for name, folder in _settings().items() if _is_below(path, folder)}
    return max(containing, key=containing.__getitem__, default="")


def _is_below(path: Path, folder: Path) -> bool:
    return path.absolute().is_relative_to(folder.absolute())


def _full_somewhere(error: OSError) -> UserError:
    full = [
        f"{name} ({folder}: {_room(folder)})" for name, folder in _settings().items() if free(folder) < _ALMOST_FULL
    ]
    if not full:
        return UserError(f"{error.strerror}: make room on the disk that the command writes to")
    advice = "make room, or set the variable to a folder on a larger disk"
    return UserError(f"{error.strerror}: {', '.join(full)}; {advice}")


def _no_temporary_folder(error: OSError) -> UserError:
    return UserError(f"{error.strerror or one_line(error)}: set {_TEMPORARY} to a folder that you may write to")


def _existing(path: Path) -> Path:
    """Return the path, or the nearest folder above it that exists."""
    return next(place for place in (path.absolute(), *path.absolute().parents) if os.path.exists(place))


def free(path: Path) -> int:
    """Return the free bytes on the disk of a path that may not exist yet; unlimited where the system does not tell."""
    found = os.statvfs(_existing(path))
    return found.f_bavail * found.f_frsize if found.f_blocks else sys.maxsize


def _room(path: Path) -> str:
    found = os.statvfs(_existing(path))
    inodes = " but no inodes" if found.f_files and not found.f_favail else ""
    return f"{size_text(free(path))}{inodes} free"
