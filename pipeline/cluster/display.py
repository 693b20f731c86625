"""Display runs on a KFP server: a live table on a terminal, elsewhere one line for each change."""

import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any, TextIO

from components.units import seconds_text
from pipeline.cluster.status import RunStatus, StepStatus

WORDS = {
    "": "",
    "PENDING": "waiting",
    "RUNNING": "running",
    "PAUSED": "paused",
    "CANCELING": "stopping",
    "CANCELED": "terminated",
    "SUCCEEDED": "done",
    "SKIPPED": "skipped",
    "FAILED": "failed",
}
_COLORS = {"SUCCEEDED": "green", "FAILED": "red", "CANCELED": "red", "RUNNING": "cyan", "CANCELING": "yellow"}


@contextmanager
def watching(stream: TextIO | None = None) -> Iterator[Callable[[RunStatus], None]]:
    """Yield a function that displays each new status of a run on standard error."""
    stream = stream or sys.stderr
    if not stream.isatty():
        yield _Lines(stream)
        return
    from rich.console import Console
    from rich.live import Live

    with Live(console=Console(file=stream), refresh_per_second=4) as live:
        yield lambda status: live.update(_table(status))


class _Lines:
    def __init__(self, stream: TextIO) -> None:
        self._stream = stream
        self._said: dict[str, tuple[str, int]] = {}
        self._waiting: tuple[str, ...] = ()

    def __call__(self, status: RunStatus) -> None:
        lines = [(step.name, (step.state, step.done), _words(step)) for step in status.steps if step.state]
        run = ("run", (status.state, 0), WORDS.get(status.state, status.state.lower()))
        for line in status.waiting:
            if line not in self._waiting:
                print(f"[run] {line}", file=self._stream, flush=True)
        self._waiting = status.waiting
        for name, state, words in [*lines, run] if status.ended else [run, *lines]:
            if self._said.get(name) != state:
                self._said[name] = state
                print(f"[{name}] {words}", file=self._stream, flush=True)


def _words(step: StepStatus) -> str:
    text = WORDS.get(step.state, step.state.lower())
    if step.total > 1:
        text += f", {step.done} of {step.total} tasks done"
    return f"{text} in {seconds_text(step.seconds)}" if step.state in ("SUCCEEDED", "FAILED") else text


def _table(status: RunStatus) -> Any:
    from rich.console import Group
    from rich.table import Table
    from rich.text import Text

    table = Table(title=Text(f"{status.name}: {WORDS.get(status.state, status.state.lower())}"), box=None)
    table.title_justify = "left"
    for column in ("step", "state", "time"):
        table.add_column(column, justify="right" if column == "time" else "left")
    for step in status.steps:
        state = WORDS.get(step.state, step.state.lower())
        of = f" {step.done}/{step.total}" if step.total > 1 else ""
        time = seconds_text(step.seconds) if step.seconds else ""
        table.add_row(step.name, Text(state + of, style=_COLORS.get(step.state, "dim")), time)
    return Group(table, *(Text(line, style="yellow") for line in status.waiting))


def run_lines(runs: Sequence[RunStatus]) -> list[str]:
    """Return a table of runs as plain lines."""
    width = max(len(run.name) for run in runs)
    lines = [f"{'id':<38}{'state':<12}{'created':<27}{'name':<{width}}"]
    for run in runs:
        state = WORDS.get(run.state, run.state.lower())
        lines.append(f"{run.run_id:<38}{state:<12}{run.created:<27}{run.name:<{width}}".rstrip())
    return lines


def step_lines(run: RunStatus) -> list[str]:
    """Return the steps of a run as plain lines."""
    return [f"{step.name:<17}{_words(step)}".rstrip() for step in run.steps]
