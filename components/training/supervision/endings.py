"""Files in which training processes tell their supervisor why they ended; an exit code carries too little."""

import json
import sys
import traceback
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import asdict, dataclass
from pathlib import Path

from components.disk import machine_error
from components.errors import UserError, WorkFailed, is_disk_full, one_line
from components.files import replacing
from components.step_guard import FAILED, USERS_MISTAKE

MISTAKE, FAILURE, FAULT = "mistake", "failure", "fault"
"""The user's mistake or a fault of the machine; a failure that a restart cannot fix; a fault of the process, such as a
lost peer."""


@dataclass(frozen=True)
class Ending:
    """The cause of an ending: `kind` is MISTAKE, FAILURE or FAULT; `text` is one line."""

    kind: str
    text: str


@contextmanager
def explained(folder: Path, rank: int) -> Iterator[None]:
    """Run a process's work. An error is written to `folder` as the process's ending, and exits the process."""
    try:
        yield
    except UserError as error:
        _leave(folder, rank, Ending(MISTAKE, one_line(error)), USERS_MISTAKE)
    except WorkFailed as error:
        _leave(folder, rank, Ending(FAILURE, one_line(error)), FAILED)
    except Exception as error:
        if text := machine_fault(error):
            _leave(folder, rank, Ending(MISTAKE, text), USERS_MISTAKE)
        traceback.print_exc(file=sys.stderr)
        _leave(folder, rank, Ending(FAULT, f"{type(error).__name__}: {one_line(error)}"), FAILED)


def machine_fault(error: BaseException) -> str:
    """Return the line for an error that is the machine's, such as a full disk; "" for any other error."""
    found = machine_error(error)
    if found and is_disk_full(error):
        return f"{found}. Then rerun the same command to resume from the newest recovery"
    return one_line(found) if found else ""


def endings(folder: Path) -> list[Ending]:
    """Return the endings that processes wrote, by rank. A killed process writes none."""
    return [Ending(**json.loads(path.read_text())) for path in sorted(folder.glob("ending.*.json"))]


def stacks_path(folder: Path, rank: int) -> Path:
    """Return the file to which a process's watchdog writes the stacks of all threads."""
    return folder / f"stacks.{rank}.txt"


def _leave(folder: Path, rank: int, ending: Ending, code: int) -> None:
    # If the disk is too full even for this, the next attempt reports it.
    with suppress(OSError), replacing(folder / f"ending.{rank}.json") as partial:
        partial.write_text(json.dumps(asdict(ending)))
    sys.exit(code)
