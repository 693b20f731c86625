"""Draw the events of a run: progress bars with the remaining time on terminals, plain lines elsewhere."""

import math
import sys
import time
from collections import defaultdict, deque
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import TextIO

from components import progress
from components.progress import Event
from components.units import seconds_text

_PLAIN_SECONDS = 15.0
"""Seconds between two progress lines of a step where there is no terminal."""


@contextmanager
def display(
    stream: TextIO | None = None,
    steps: Sequence[str] = (),
    earlier: Callable[[str], Mapping[str, float]] = lambda _run_key: {},
) -> Iterator[Callable[[Event], None]]:
    """Yield a function that draws each event on standard error, or nothing with `--quiet`.

    The caller prints failures, at the end.

    Args:
        steps: the names of the steps in their order, to show from the start which of them is running.
        earlier: returns how many seconds each step of an earlier run like the one with this key has taken.
    """
    stream = stream or sys.stderr
    if progress.is_quiet():
        yield lambda _event: None
    elif stream.isatty():
        with _without_echoed_signals(stream), _bars(stream, Course(steps, earlier)) as draw:
            yield draw
    else:
        yield _Lines(stream, Course(steps, earlier))


class Course:
    """Follows which of the steps is running. Without steps, `text` stays empty."""

    def __init__(
        self, steps: Sequence[str], earlier: Callable[[str], Mapping[str, float]] = lambda _run_key: {}
    ) -> None:
        self.steps = steps
        self.done = 0
        self._began = self._step_began = time.monotonic()
        self._earlier = earlier
        self._known: Mapping[str, float] = {}

    def note(self, event: Event) -> bool:
        """Note an event, and return whether another step is running now."""
        if event["step"] not in self.steps:
            return False
        if event["kind"] == "result" and "run_key" in event["values"]:
            self._known = self._known or self._earlier(str(event["values"]["run_key"]))
        ended = event["kind"] == "result" and "seconds" in event["values"]
        done = max(self.done, self.steps.index(event["step"]) + ended)
        changed, self.done = done > self.done, done
        if changed:
            self._step_began = time.monotonic()
        return changed and done < len(self.steps)

    @property
    def step(self) -> str:
        """The step that is running, or an empty string."""
        return self.steps[self.done] if self.done < len(self.steps) else ""

    @property
    def text(self) -> str:
        """Say which step is running, such as `step 3 of 7`."""
        return f"step {self.done + 1} of {len(self.steps)}" if self.step else ""

    def left(self, remaining: "TimeLeft | None", now: float | None = None) -> str:
        """Say how long the run still takes, such as `about 3 min left`, or nothing before that is known.

        It takes what is left of the running step, and as long as an earlier run took for the steps that follow. Without
        an earlier run, it takes `over` what is left of the running step.
        """
        now = time.monotonic() if now is None else now
        own = remaining.seconds(now) if remaining else None
        if own is None and self.step in self._known:
            own = max(0.0, self._known[self.step] - (now - self._step_began))
        if own is None or not self.step:
            return ""
        following = self.steps[self.done + 1 :]
        is_known = all(step in self._known for step in following)
        total = own + sum(self._known.get(step, 0.0) for step in following)
        if is_known:
            return f"about {_rough(total)} left"
        return f"over {_rough(total, math.floor)} left" if total >= _SHORT else ""

    @property
    def seconds(self) -> float:
        """Seconds since the start."""
        return time.monotonic() - self._began


_SHORT = 10
"""Seconds below which estimates are not distinguished."""


def _rough(seconds: float, rounded: Callable[[float], int] = round) -> str:
    """Format an estimate no more precisely than it is: 40 s, 3 min, 2 h 10 min. A lower bound is rounded down."""
    tens = _SHORT * max(1, rounded(seconds / _SHORT))
    if tens < 60:
        return f"{tens} s"
    minutes = max(1, rounded(seconds / 60))
    if minutes < 60:
        return f"{minutes} min"
    hours, rest = divmod(10 * rounded(seconds / 600), 60)
    return f"{hours} h {rest:02d} min" if rest else f"{hours} h"


@contextmanager
def _without_echoed_signals(stream: TextIO) -> Iterator[None]:
    """Keep the terminal from writing ^C into the bars."""
    import termios

    try:
        before = termios.tcgetattr(stream)
    except (termios.error, OSError):
        yield
        return
    quiet = [*before]
    quiet[3] &= ~termios.ECHOCTL
    termios.tcsetattr(stream, termios.TCSADRAIN, quiet)
    try:
        yield
    finally:
        termios.tcsetattr(stream, termios.TCSADRAIN, before)


class _Lines:
    def __init__(self, stream: TextIO, course: Course) -> None:
        self._stream = stream
        self._course = course
        if course.step:
            self._print(course.step, course.text)
        self._last: dict[str, float] = {}
        self._remaining: defaultdict[str, TimeLeft] = defaultdict(TimeLeft)

    def __call__(self, event: Event) -> None:
        step = event["step"]
        is_next = self._course.note(event)
        if is_next and event["kind"] != "result":
            self._print(self._course.step, self._course.text)
        if event["kind"] == "say":
            self._print(step, event["text"])
        elif event["kind"] == "result" and "seconds" in event["values"]:
            self._print(step, f"done in {seconds_text(event['values']['seconds'])}")
            if is_next:
                self._print(self._course.step, self._course.text)
        elif event["kind"] == "advance":
            now, complete = time.monotonic(), event["done"] >= event["total"]
            self._remaining[step].report(event["done"], event["total"], now)
            if complete or now - self._last.get(step, now - _PLAIN_SECONDS) >= _PLAIN_SECONDS:
                self._last[step] = now
                percent = 100 * event["done"] / event["total"] if event["total"] else 100
                left = None if complete else self._remaining[step].seconds(now)
                about = "" if left is None else f" about {seconds_text(left)} left"
                whole = self._course.left(self._remaining[step], now) if step == self._course.step and about else ""
                about += f" (run: {whole})" if whole else ""
                self._print(step, f"{percent:3.0f}%{about} {event['note']}".rstrip())

    def _print(self, step: str, text: str) -> None:
        print(f"[{step}] {text}", file=self._stream, flush=True)


@contextmanager
def _bars(stream: TextIO, course: Course) -> Iterator[Callable[[Event], None]]:
    from rich.console import Console
    from rich.markup import escape
    from rich.progress import BarColumn, Progress, ProgressColumn, Task, TaskID, TextColumn
    from rich.table import Column
    from rich.text import Text

    bars: dict[str, tuple[TaskID, TimeLeft]] = {}

    class Left(ProgressColumn):
        """The remaining time of a step, or of the run."""

        def render(self, task: Task) -> Text:
            remaining = task.fields["remaining"]
            if remaining is None:
                return Text(course.left(bars[course.step][1] if course.step in bars else None), "cyan")
            left = None if task.finished else remaining.seconds()
            return Text("" if left is None else f"{seconds_text(left)} left", "cyan")

    class Note(ProgressColumn):
        """The note of a step; for the run, its step and time so far."""

        def render(self, task: Task) -> Text:
            text = task.fields["note"]
            if not task.fields["remaining"]:
                text = f"{course.step}, {seconds_text(course.seconds)}"
            return Text(text, "dim", no_wrap=True, overflow="ellipsis")

    console = Console(file=stream)
    bar = Progress(
        TextColumn("[bold]{task.description:<15}"),
        BarColumn(bar_width=12),
        TextColumn("{task.percentage:>3.0f}%"),
        Left(table_column=Column(no_wrap=True)),
        Note(),  # its text is cut, and only columns that may wrap make room for others
        console=console,
        transient=True,
    )
    whole = bar.add_task(course.text, total=len(course.steps), note="", remaining=None) if course.steps else None

    def draw(event: Event) -> None:
        step = event["step"]
        if course.note(event) and whole is not None:
            bar.update(whole, description=course.text, completed=course.done)
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
