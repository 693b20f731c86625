"""A run on a server as a terminal shows it."""

import io
from dataclasses import replace

from pipeline.cluster.display import run_lines, step_lines, watching
from pipeline.cluster.status import RunStatus, StepStatus


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


def run(state: str, *steps: StepStatus) -> RunStatus:
    return RunStatus("1b2c", "photos 1/8", state, "e", "2026-01-02T03:04:05+00:00", "", "", {}, steps)


def test_a_terminal_has_a_table_that_ends_as_the_run_does() -> None:
    terminal = Terminal()
    with watching(terminal) as draw:
        draw(run("RUNNING", StepStatus("evaluate", "RUNNING", 65.0, 1, 2)))
        draw(run("FAILED", StepStatus("evaluate", "FAILED", 70.0, 1, 2)))
    shown = terminal.getvalue()
    assert "photos 1/8: failed" in shown
    last = shown.rpartition("photos 1/8")[2]
    assert "failed" in last
    assert "1/2" in last
    assert "1 min 10 s" in last


def test_what_keeps_pods_waiting_is_shown_while_it_does() -> None:
    waiting = replace(run("RUNNING"), waiting=("pod train is waiting: 0/1 nodes are available",))
    terminal, stream = Terminal(), io.StringIO()
    with watching(terminal) as draw:
        draw(waiting)
    assert "pod train is waiting: 0/1 nodes" in terminal.getvalue()
    with watching(stream) as draw:
        for status in (waiting, waiting, run("RUNNING"), waiting):
            draw(status)
    assert stream.getvalue().count("[run] pod train is waiting: 0/1 nodes") == 2


def test_names_with_brackets_are_no_markup() -> None:
    terminal = Terminal()
    with watching(terminal) as draw:
        draw(RunStatus("1", "[red]night[/]", "SUCCEEDED", "e", "", "", "", {}, ()))
    assert "[red]night[/]: done" in terminal.getvalue()


def test_elsewhere_each_change_is_a_line() -> None:
    stream = io.StringIO()
    with watching(stream) as draw:
        for _ in range(2):
            draw(run("RUNNING", StepStatus("train", "RUNNING", 1.0, 0, 1)))
        draw(run("CANCELED", StepStatus("train", "FAILED", 61.0, 0, 1)))
    assert stream.getvalue().splitlines() == [
        "[run] running",
        "[train] running",
        "[train] failed in 1 min 01 s",
        "[run] terminated",
    ]


def test_lists_have_a_line_each() -> None:
    status = run("RUNNING", StepStatus("train", "RUNNING", 1.0, 0, 1), StepStatus("predict", "", 0.0, 0, 0))
    assert run_lines([status])[1].split() == ["1b2c", "running", "2026-01-02T03:04:05+00:00", "photos", "1/8"]
    assert step_lines(status) == ["train            running", "predict"]
