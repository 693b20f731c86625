"""Room for what is unpacked, drawn or mapped on its way into the store; it is removed again."""

import os
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from components.errors import UserError, WorkFailed

WORK_VARIABLE = "CPS_WORK"
ADVICE = f"make room, or set {WORK_VARIABLE} to a folder on a larger disk"


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
