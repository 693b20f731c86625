"""Watchdog and SIGTERM handling: end a training that hangs, with the stacks of all threads; stop it between steps."""

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
"""Seconds after SIGTERM to finish the step and upload the state; the rest of the uploads stays on disk."""


class Watchdog:
    """Exits the process with code 1 if its `with` block does not call `alive` every `seconds`.

    The timer runs in a C thread without the GIL, so it also catches code that hangs while holding the GIL.
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
        """Restart the timer; called after each step."""
        if self.seconds > 0 and self._file is not None:
            faulthandler.dump_traceback_later(self.seconds, exit=True, file=self._file)


def step_timeout() -> float:
    """Return the time limit for a step in seconds, from CPS_STEP_TIMEOUT; 0 means no limit. Raises UserError."""
    text = os.environ.get(VARIABLE) or str(DEFAULT_SECONDS)
    try:
        seconds = float(text)
    except ValueError:
        seconds = math.nan
    if not 0 <= seconds < 1e6:
        raise UserError(f"{VARIABLE} is {text!r}: set it to the time limit of a step in seconds, or 0 for no limit")
    return seconds


class Termination:
    """Whether the process was asked to stop, and when."""

    def __init__(self) -> None:
        self._since: float | None = None

    def note(self, _number: int, _frame: FrameType | None) -> None:
        """Handle the signal."""
        self.set()

    def set(self) -> None:
        """Record a request to stop, here or in another process of the training; only the first call counts."""
        self._since = self._since or time.monotonic()

    def is_set(self) -> bool:
        return self._since is not None

    def left(self, seconds: float) -> float:
        """Return how many of `seconds` are left since the request, at least 0, or all of them without a request."""
        return max(0.0, seconds - (time.monotonic() - self._since)) if self._since is not None else seconds


@contextmanager
def deferred_sigterm() -> Iterator[Termination]:
    """Record SIGTERM instead of ending the process in the middle of a step.

    Enter it after importing paddle, which installs its own handler that ends the process immediately.
    """
    termination = Termination()
    before = signal.signal(signal.SIGTERM, termination.note)
    try:
        yield termination
    finally:
        signal.signal(signal.SIGTERM, before)
