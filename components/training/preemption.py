"""Being told to stop: a pod that is moved, or a person's Ctrl-C, gives a training some seconds to save its state."""

import signal
from collections.abc import Iterator
from contextlib import contextmanager
from threading import Event
from types import FrameType


@contextmanager
def noticed_termination() -> Iterator[Event]:
    """Within, SIGTERM sets the event instead of ending the process in the middle of a step.

    To be entered after paddle is imported: it puts a handler of its own in place, which ends the process at once.
    """
    stop = Event()

    def note(_number: int, _frame: FrameType | None) -> None:
        stop.set()

    before = signal.signal(signal.SIGTERM, note)
    try:
        yield stop
    finally:
        signal.signal(signal.SIGTERM, before)
