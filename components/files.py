"""Files on this machine: the cache between runs, scratch folders, and digests."""

import hashlib
import os
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from components.errors import UserError, WorkFailed

WORK_VARIABLE = "CPS_WORK"
ADVICE = f"make room, or set {WORK_VARIABLE} to a folder on a larger disk"


def default_cache() -> Path:
    """CPS_CACHE, else ~/.cache/cps."""
    return Path(os.environ.get("CPS_CACHE") or Path.home() / ".cache" / "cps")


def work_folder() -> Path:
    """Where scratch folders are made: CPS_WORK, or the system's folder for temporary files."""
    return Path(os.environ.get(WORK_VARIABLE) or tempfile.gettempdir())


@contextmanager
def scratch_folder(work: Path) -> Iterator[Path]:
    """A new folder in `work`, for as long as this lasts. Raises UserError where none can be made."""
    try:
        work.mkdir(parents=True, exist_ok=True)
        folder = tempfile.TemporaryDirectory(prefix="dataset-", dir=work)
    except OSError as error:
        raise UserError(f"{work} cannot be written: {error.strerror}; {ADVICE}") from None
    with folder as name:
        yield Path(name)


@contextmanager
def writing(folder: Path) -> Iterator[None]:
    """For a block that writes to `folder` and handles what it reads: raises WorkFailed where the disk is full."""
    try:
        yield
    except OSError as error:
        raise WorkFailed(f"{folder} cannot be written: {error.strerror or error}; {ADVICE}") from None


def file_sha256(path: Path) -> str:
    """Return a file's sha256 in hex. Raises UserError where it cannot be opened."""
    try:
        with path.open("rb") as file:
            return hashlib.file_digest(file, "sha256").hexdigest()
    except OSError as error:
        raise UserError(f"{path} cannot be opened: {error.strerror}") from None


def check_digest(path: Path, sha256: str) -> None:
    """Raises UserError where the file's sha256 is another one."""
    found = file_sha256(path)
    if found != sha256.lower():
        raise UserError(f"weights {path} have sha256 {found}, not {sha256}: pull them again")
