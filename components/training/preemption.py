"""Being told to stop: a pod that is moved, or a person's Ctrl-C, gives a training some seconds to save its state."""

import signal
import time
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType

PREEMPTION_PATIENCE = 17.0
"""Seconds from SIGTERM to finish the step and get the state into the store; what is not there then stays on disk."""


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
