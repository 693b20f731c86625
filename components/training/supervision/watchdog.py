"""A training that makes no step for long is ended, with the stacks of all its threads on record."""

import faulthandler
import math
import os
import signal
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from types import FrameType, TracebackType
from typing import Self, TextIO

from components.errors import UserError

VARIABLE = "CPS_STEP_TIMEOUT"
DEFAULT_SECONDS = 1800.0
PREEMPTION_PATIENCE = 17.0
"""Seconds from SIGTERM to finish the step and get the state into the store; what is not there then stays on disk."""


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


class Termination:
    """Whether, and since when, the process is told to stop."""

    def __init__(self) -> None:
        self._since: float | None = None

    def note(self, _number: int, _frame: FrameType | None) -> None:
        """The handler of the signal."""
        self.set()

    def set(self) -> None:
        """Stop, as another process of the training was told; the first call counts."""
        self._since = self._since or time.monotonic()

    def is_set(self) -> bool:
        return self._since is not None

    def left(self, seconds: float) -> float:
        """What is left of `seconds` since the process was told, 0 at least; all of them where it was not."""
        return max(0.0, seconds - (time.monotonic() - self._since)) if self._since is not None else seconds


@contextmanager
def noticed_termination() -> Iterator[Termination]:
    """Within, SIGTERM is noted instead of ending the process in the middle of a step.

    To be entered after paddle is imported: it puts a handler of its own in place, which ends the process at once.
    """
    told = Termination()
    before = signal.signal(signal.SIGTERM, told.note)
    try:
        yield told
    finally:
        signal.signal(signal.SIGTERM, before)
