"""Draw the events of a run: progress bars with the remaining time on terminals, plain lines elsewhere."""

import sys
import time
from collections import defaultdict, deque
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import TextIO

from components import progress
from components.progress import Event
from components.units import seconds_text

_PLAIN_SECONDS = 15.0
"""Seconds between two progress lines of a step where there is no terminal."""


@contextmanager
def display(stream: TextIO | None = None) -> Iterator[Callable[[Event], None]]:
    """Yield a function that draws each event on standard error, or nothing with `--quiet`.

    The caller prints failures, at the end.
    """
    stream = stream or sys.stderr
    if progress.is_quiet():
        yield lambda _event: None
    elif stream.isatty():
        with _bars(stream) as draw:
            yield draw
    else:
        yield _Lines(stream)


class _Lines:
    def __init__(self, stream: TextIO) -> None:
        self._stream = stream
        self._last: dict[str, float] = {}
        self._remaining: defaultdict[str, TimeLeft] = defaultdict(TimeLeft)

    def __call__(self, event: Event) -> None:
        step = event["step"]
        if event["kind"] == "say":
            self._print(step, event["text"])
        elif event["kind"] == "result" and "seconds" in event["values"]:
            self._print(step, f"done in {seconds_text(event['values']['seconds'])}")
        elif event["kind"] == "advance":
            now, complete = time.monotonic(), event["done"] >= event["total"]
            self._remaining[step].report(event["done"], event["total"], now)
            if complete or now - self._last.get(step, now - _PLAIN_SECONDS) >= _PLAIN_SECONDS:
                self._last[step] = now
                percent = 100 * event["done"] / event["total"] if event["total"] else 100
                left = None if complete else self._remaining[step].seconds(now)
                about = "" if left is None else f" about {seconds_text(left)} left"
                self._print(step, f"{percent:3.0f}%{about} {event['note']}".rstrip())

    def _print(self, step: str, text: str) -> None:
        print(f"[{step}] {text}", file=self._stream, flush=True)


@contextmanager
def _bars(stream: TextIO) -> Iterator[Callable[[Event], None]]:
    from rich.console import Console
    from rich.markup import escape
    from rich.progress import BarColumn, Progress, ProgressColumn, Task, TaskID, TextColumn
    from rich.text import Text

    class Left(ProgressColumn):
        """The remaining time of a step."""

        def render(self, task: Task) -> Text:
            left = task.fields["remaining"].seconds()
            return Text("" if left is None or task.finished else f"{seconds_text(left)} left", "cyan")

    console = Console(file=stream)
    bar = Progress(
        TextColumn("[bold]{task.description:<15}"),
        BarColumn(bar_width=16),
        TextColumn("{task.percentage:>3.0f}%"),
        Left(),
        TextColumn("[dim]{task.fields[note]}"),
        console=console,
        transient=True,
    )
    bars: dict[str, tuple[TaskID, TimeLeft]] = {}

    def draw(event: Event) -> None:
        step = event["step"]
        if event["kind"] == "advance":
            if step not in bars:
                remaining = TimeLeft()
                bars[step] = bar.add_task(escape(step), total=event["total"], note="", remaining=remaining), remaining
            task, remaining = bars[step]
            remaining.report(event["done"], event["total"])
            bar.update(task, completed=event["done"], total=event["total"], note=escape(event["note"]))
        elif event["kind"] == "say":
            console.print(f"[cyan]{escape(step)}[/cyan] {escape(event['text'])}", highlight=False)
        elif event["kind"] == "result" and "seconds" in event["values"]:
            if step in bars:
                bar.remove_task(bars.pop(step)[0])
            took = seconds_text(event["values"]["seconds"])
            console.print(f"[green]{escape(step)}[/green] done in {took}", highlight=False)

    with bar:
        yield draw


_LATELY = 30.0
"""Time window of the estimate, in seconds; short enough to forget a slow first step or skipped work soon."""


_LEAST = 3
"""Minimum number of reports for an estimate; this many are kept regardless of their age."""


class TimeLeft:
    """Estimates the remaining time of a step, in seconds, from its progress reports.

    Work done before the first report does not count towards the speed, so the estimate of a resumed step is not too
    short. The estimate starts over if the step changes its units or its progress decreases. While the step reports
    nothing, the estimate grows.
    """

    def __init__(self) -> None:
        self._reports: deque[tuple[float, float]] = deque()
        self._total = 0.0

    def report(self, done: float, total: float, now: float | None = None) -> None:
        """Note that `done` of `total` units are complete; `now` is in seconds of a monotonic clock."""
        now = time.monotonic() if now is None else now
        if total != self._total or (self._reports and done < self._reports[-1][1]):
            self._reports.clear()
            self._total = total
        self._reports.append((now, done))
        while len(self._reports) > _LEAST and now - self._reports[1][0] > _LATELY:
            self._reports.popleft()

    def seconds(self, now: float | None = None) -> float | None:
        """Return the remaining seconds, or None if there are too few reports."""
        if len(self._reports) < _LEAST:
            return None
        now = time.monotonic() if now is None else now
        (began, before), (last, done) = self._reports[0], self._reports[-1]
        usual = (last - began) / (len(self._reports) - 1)
        silent = now - last
        took = last - began + max(0.0, silent - usual)
        if done <= before or took <= 0:
            return None
        left = (self._total - done) * took / (done - before)
        return max(0.0, left - min(silent, usual))
