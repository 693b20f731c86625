"""A training that makes no step for long is ended, with the stacks of all its threads on record."""

import faulthandler
import math
import os
from pathlib import Path
from types import TracebackType
from typing import Self, TextIO

from components.errors import UserError

VARIABLE = "CPS_STEP_TIMEOUT"
DEFAULT_SECONDS = 1800.0


class Watchdog:
    """Inside its `with` block `alive` must be called every `seconds`, or the process ends with code 1.

    The clock runs in a thread of C, which needs no Python lock: code that hangs while it holds the lock is found too.
    """

    def __init__(self, seconds: float, stacks: Path) -> None:
        self.seconds = seconds
        self._path = stacks
        self._file: TextIO | None = None

    def __enter__(self) -> Self:
        self._file = self._path.open("w")
        self.alive()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        faulthandler.cancel_dump_traceback_later()
        if self._file is not None:
            self._file.close()

    def alive(self) -> None:
        """A step was made: the clock begins anew."""
        if self.seconds > 0 and self._file is not None:
            faulthandler.dump_traceback_later(self.seconds, exit=True, file=self._file)


def step_timeout() -> float:
    """Seconds a step may take, from CPS_STEP_TIMEOUT; 0 is no limit. Raises UserError."""
    text = os.environ.get(VARIABLE) or str(DEFAULT_SECONDS)
    try:
        seconds = float(text)
    except ValueError:
        seconds = math.nan
    if not 0 <= seconds < 1e6:
        raise UserError(f"{VARIABLE} is {text!r}: give the seconds a training step may take, or 0 for no limit")
    return seconds
