"""Let long commands clean up and print how to resume when Ctrl-C or SIGTERM stops them."""

import functools
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any, TypeVar

import click

from components.step_guard import TERMINATED, raise_on_sigterm

_Command = TypeVar("_Command", bound=Callable[..., Any])

RESUMES = "run the same command again to resume"
RESTARTS = "nothing was written; run the same command again to start over"


def on_interrupt(text: str) -> Callable[[_Command], _Command]:
    """Return a decorator: on Ctrl-C or SIGTERM, the command cleans up and prints `text`, which tells how to resume."""

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
                # For a KeyboardInterrupt, click would print an empty line.
                raise click.Abort from None

        return wrapped  # type: ignore[return-value]

    return decorate


class _Terminated(BaseException):
    """SIGTERM arrived. Like KeyboardInterrupt, it is not an Exception, so error handlers do not catch it."""


@contextmanager
def _raising_on_sigterm() -> Iterator[None]:
    """Raise _Terminated on SIGTERM, whose default action would leave temporary folders and child processes behind."""
    end = raise_on_sigterm(_Terminated())
    try:
        yield
    finally:
        end()
