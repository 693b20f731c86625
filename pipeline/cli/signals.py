"""What a long command does when Ctrl-C or SIGTERM stops it."""

import functools
import signal
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import FrameType
from typing import Any, TypeVar

import click

from components.step_guard import TERMINATED

_Command = TypeVar("_Command", bound=Callable[..., Any])

RESUMES = "run the same command again to resume"
RESTARTS = "nothing was written, and the same command begins again"


def on_interrupt(text: str) -> Callable[[_Command], _Command]:
    """Have a command that Ctrl-C or SIGTERM stops put away what it has open, and say `text`: how to go on, and what
    became of the work.
    """

    def decorate(command: _Command) -> _Command:
        @functools.wraps(command)
        def wrapped(*arguments: Any, **options: Any) -> Any:
            try:
                with _raising_on_sigterm():
                    return command(*arguments, **options)
            except (KeyboardInterrupt, _Terminated) as told:
                click.echo(f"\ncps: stopped; {text}", err=True)
                if isinstance(told, _Terminated):
                    raise SystemExit(TERMINATED) from None
                # A KeyboardInterrupt would have click add an empty line.
                raise click.Abort from None

        return wrapped  # type: ignore[return-value]

    return decorate


class _Terminated(BaseException):
    """SIGTERM came. Like KeyboardInterrupt, nothing that handles errors handles it."""


@contextmanager
def _raising_on_sigterm() -> Iterator[None]:
    """The system's own way with SIGTERM would leave temporary folders and child processes behind."""
    if threading.current_thread() is not threading.main_thread():
        yield  # only there can signals be handled
        return
    before = signal.signal(signal.SIGTERM, _raise)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)


def _raise(_number: int, _frame: FrameType | None) -> None:
    raise _Terminated
