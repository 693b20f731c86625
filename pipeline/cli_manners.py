"""What commands that take a while have in common: `--quiet`, and what is said when Ctrl-C stops them."""

import functools
from collections.abc import Callable
from typing import Any, TypeVar

import click

from components import progress

_Command = TypeVar("_Command", bound=Callable[..., Any])

GOES_ON = "the same command goes on where this one was"
BEGINS_AGAIN = "nothing was written, and the same command begins again"


def _be_quiet(_context: click.Context, _parameter: click.Parameter, value: bool) -> None:
    progress.be_quiet(value)


quiet_option = click.option(
    "-q", "--quiet", is_flag=True, expose_value=False, callback=_be_quiet, help="No progress: only results and errors."
)


def when_stopped(text: str) -> Callable[[_Command], _Command]:
    """Have a command that Ctrl-C stops say `text`: how to go on, and what became of the work."""

    def decorate(command: _Command) -> _Command:
        @functools.wraps(command)
        def wrapped(*arguments: Any, **options: Any) -> Any:
            try:
                return command(*arguments, **options)
            except KeyboardInterrupt:
                click.echo(f"\ncps: stopped; {text}", err=True)
                # A KeyboardInterrupt would have click add an empty line.
                raise click.Abort from None

        return wrapped  # type: ignore[return-value]

    return decorate
