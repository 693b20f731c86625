"""Why a training process ended, left in a file for the one that watches it: an exit code says too little."""

import json
import sys
import traceback
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import asdict, dataclass
from pathlib import Path

from components.errors import UserError, WorkFailed, is_disk_full, one_line
from components.files import replacing
from components.step_guard import FAILED, USERS_MISTAKE

MISTAKE, FAILURE, FAULT = "mistake", "failure", "fault"
"""The user's; of the work, which trying again does not mend; of the process, as when its peers went away."""


@dataclass(frozen=True)
class Ending:
    """`kind` is MISTAKE, FAILURE or FAULT; `text` is one line."""

    kind: str
    text: str


@contextmanager
def explained(folder: Path, rank: int) -> Iterator[None]:
    """Run a process's work; an error ends the process, and is left in `folder` as its ending."""
    try:
        yield
    except UserError as error:
        _leave(folder, rank, Ending(MISTAKE, one_line(error)), USERS_MISTAKE)
    except WorkFailed as error:
        _leave(folder, rank, Ending(FAILURE, one_line(error)), FAILED)
    except Exception as error:
        if isinstance(error, OSError) and is_disk_full(error):
            _leave(folder, rank, Ending(FAILURE, disk_full(error)), FAILED)
        traceback.print_exc(file=sys.stderr)
        _leave(folder, rank, Ending(FAULT, f"{type(error).__name__}: {one_line(error)}"), FAILED)


def disk_full(error: OSError) -> str:
    """What a person is told when there is no room to write."""
    where = f" for {error.filename}" if error.filename else ""
    return f"{error.strerror}{where}: make room, and the same command goes on from the newest recovery"


def endings(folder: Path) -> list[Ending]:
    """What the processes of a training left, by rank. One that was killed leaves nothing."""
    return [Ending(**json.loads(path.read_text())) for path in sorted(folder.glob("ending.*.json"))]


def stacks_path(folder: Path, rank: int) -> Path:
    """Where the watchdog of a process writes the stacks of its threads."""
    return folder / f"stacks.{rank}.txt"


def _leave(folder: Path, rank: int, ending: Ending, code: int) -> None:
    # Where there is no room even for this, the next attempt will find none, and say so.
    with suppress(OSError), replacing(folder / f"ending.{rank}.json") as partial:
        partial.write_text(json.dumps(asdict(ending)))
    sys.exit(code)
