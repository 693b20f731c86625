"""What a run looks like where there is no terminal, and where there is one."""

import io
import math
import os
import pty
import re
import time

import pytest

from components import progress
from components.progress import Event
from components.units import percent, seconds_text
from pipeline.cli.progress import Course, TimeLeft, _rough, display

EVENTS: list[Event] = [
    {"kind": "say", "step": "prepare-dataset", "text": "40 files [stored]"},
    {"kind": "advance", "step": "train", "done": 1, "total": 20, "note": "loss 0.9"},
    {"kind": "advance", "step": "train", "done": 2, "total": 20, "note": "loss 0.8"},
    {"kind": "advance", "step": "train", "done": 20, "total": 20, "note": "loss 0.1"},
    {"kind": "result", "step": "split-labels", "values": {"run_key": "demo"}},
    {"kind": "result", "step": "train", "values": {"seconds": 61.2}},
    {"kind": "failure", "step": "select", "text": "no", "exit_code": 1},
]


def test_plain_lines_are_few_and_whole() -> None:
    stream = io.StringIO()
    with display(stream) as draw:
        for event in EVENTS:
            draw(event)
    assert stream.getvalue().splitlines() == [
        "[prepare-dataset] 40 files [stored]",
        "[train]   5% loss 0.9",
        "[train] 100% loss 0.1",
        "[train] done in 1 min 01 s",
    ]


def test_a_terminal_gets_bars_and_keeps_brackets(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COLUMNS", "80")
    monkeypatch.setenv("TERM", "xterm")
    controller, terminal = pty.openpty()
    with os.fdopen(terminal, "w") as stream, display(stream) as draw:
        for event in EVENTS:
            draw(event)
            time.sleep(0.15)  # the bars are drawn ten times a second
    text = os.read(controller, 1 << 20).decode()
    os.close(controller)
    assert "40 files [stored]" in text
    assert "loss 0.8" in text
    assert "10%" in text
    assert "done in 1 min 01 s" in text


def test_plain_lines_say_how_long_still(monkeypatch: pytest.MonkeyPatch) -> None:
    clock = iter(range(0, 1000, 20))
    monkeypatch.setattr("pipeline.cli.progress.time.monotonic", lambda: next(clock))
    stream = io.StringIO()
    with display(stream) as draw:
        for done in (1, 2, 3, 4):
            draw({"kind": "advance", "step": "train", "done": done, "total": 10, "note": "loss 0.9"})
    assert stream.getvalue().splitlines() == [
        "[train]  10% loss 0.9",
        "[train]  20% loss 0.9",
        "[train]  30% about 2 min 20 s left loss 0.9",
        "[train]  40% about 2 min 00 s left loss 0.9",
    ]


@pytest.mark.parametrize(("variables", "colored"), [({}, True), ({"NO_COLOR": "1"}, False)])
def test_no_color_takes_the_colors_and_leaves_the_bars(
    variables: dict[str, str], colored: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("NO_COLOR", "FORCE_COLOR"):
        monkeypatch.delenv(name, raising=False)
    for name, value in {"TERM": "xterm-256color", "COLUMNS": "80", **variables}.items():
        monkeypatch.setenv(name, value)
    controller, terminal = pty.openpty()
    with os.fdopen(terminal, "w") as stream, display(stream) as draw:
        draw(EVENTS[0])
        draw(EVENTS[1])
        time.sleep(0.15)
    text = os.read(controller, 1 << 20).decode()
    os.close(controller)
    assert "5%" in text
    assert (re.search(r"\x1b\[(\d+;)*(3\d|38;[\d;]+)m", text) is not None) is colored


def test_quiet_is_silent_but_for_warnings(capsys: pytest.CaptureFixture[str]) -> None:
    stream = io.StringIO()
    progress.be_quiet(True)
    try:
        with display(stream) as draw:
            for event in EVENTS:
                draw(event)
        progress.say("predict", "2 images")
        progress.advance("predict", 1, 2)
        progress.warn("predict", "1 of 2 images could not be read")
    finally:
        progress.be_quiet(False)
    assert stream.getvalue() == ""
    assert capsys.readouterr().err == "[predict] 1 of 2 images could not be read\n"


@pytest.mark.parametrize(
    ("seconds", "text"),
    [
        (0.44, "0.4 s"),
        (9.96, "10.0 s"),
        (59.4, "59 s"),
        (59.6, "1 min 00 s"),
        (185, "3 min 05 s"),
        (7380, "2 h 03 min"),
    ],
)
def test_durations_are_read_at_a_glance(seconds: float, text: str) -> None:
    assert seconds_text(seconds) == text


def test_shares_are_percent_and_nothing_is_a_dash() -> None:
    assert percent(0.4567) == "45.7 %"
    assert percent(None) == "–"


STEPS = ("prepare-dataset", "split-labels", "train", "evaluate")


def test_the_running_step_is_shown_from_the_start() -> None:
    stream = io.StringIO()
    with display(stream, STEPS) as draw:
        assert stream.getvalue() == "[prepare-dataset] step 1 of 4\n"
        draw({"kind": "result", "step": "prepare-dataset", "values": {"seconds": 1.0}})
        draw({"kind": "result", "step": "split-labels", "values": {"run_key": "demo"}})
        draw({"kind": "say", "step": "train", "text": "resuming"})
    assert stream.getvalue().splitlines()[1:] == [
        "[prepare-dataset] done in 1.0 s",
        "[split-labels] step 2 of 4",
        "[train] step 3 of 4",
        "[train] resuming",
    ]


def test_a_terminal_of_80_columns_shows_the_run_in_whole_words(monkeypatch: pytest.MonkeyPatch) -> None:
    for name, value in {"TERM": "xterm", "COLUMNS": "80", "NO_COLOR": "1"}.items():
        monkeypatch.setenv(name, value)
    controller, terminal = pty.openpty()
    note = "epoch 12, loss 0.123, of which 0.456 pseudo labels, 1.23 s per step and learning rate 0.0123"
    with os.fdopen(terminal, "w") as stream, display(stream, STEPS) as draw:
        time.sleep(0.15)
        first = os.read(controller, 1 << 20).decode()
        for done in (1, 2, 3, 4):
            draw({"kind": "advance", "step": "train", "done": done, "total": 2000, "note": note})
            time.sleep(0.15)
    text = os.read(controller, 1 << 20).decode()
    os.close(controller)
    assert "step 1 of 4" in first
    assert "prepare-dataset, " in first
    assert "step 3 of 4" in text
    assert "train, " in text
    lines = [re.sub(r"\x1b\[[\d;?]*[A-Za-z]", "", line).rstrip("\r") for line in text.split("\n")]
    assert max(len(line.split("\r")[-1]) for line in lines) <= 80
    assert not any(line.strip().startswith("rate 0.0123") for line in lines), "the note is cut, not wrapped"


def test_the_run_takes_what_is_left_of_the_step_and_what_the_others_took_before() -> None:
    asked = list[str]()

    def earlier(run_key: str) -> dict[str, float]:
        asked.append(run_key)
        return {"train": 100, "evaluate": 60, "select": 30} if run_key == "demo" else {"train": 100}

    remaining = TimeLeft()
    for second in range(5):
        remaining.report(second, 100, second)  # a unit per second
    for key, said in (("demo", "about 3 min left"), ("new", "over 1 min left")):
        course = Course(("split-labels", "train", "evaluate", "select"), earlier)
        assert course.left(remaining, 4) == "over 1 min left", "nothing is known of other steps"
        course.note({"kind": "result", "step": "split-labels", "values": {"run_key": key, "seconds": 1.0}})
        assert course.left(remaining, 4) == said
    assert asked == ["demo", "new"]


def test_a_long_note_leaves_room_for_the_time_left(monkeypatch: pytest.MonkeyPatch) -> None:
    for name, value in {"TERM": "xterm", "COLUMNS": "80", "NO_COLOR": "1"}.items():
        monkeypatch.setenv(name, value)
    monkeypatch.setattr(TimeLeft, "seconds", lambda *_: 3700.0)
    controller, terminal = pty.openpty()
    with os.fdopen(terminal, "w") as stream, display(stream, ("train",)) as draw:
        draw({"kind": "advance", "step": "train", "done": 1, "total": 2000, "note": "epoch 12/20, loss 0.123, " * 4})
        time.sleep(0.15)
    text = re.sub(r"\x1b\[[\d;?]*[A-Za-z]", "", os.read(controller, 1 << 20).decode())
    os.close(controller)
    assert re.search(r"about 1 h left +train, ", text)
    assert "1 h 01 min left epoch 12/20" in text


def test_a_step_that_has_not_reported_yet_takes_as_long_as_before() -> None:
    course = Course(("train", "select"), lambda _run_key: {"train": 100.0, "select": 25.0})
    assert course.left(TimeLeft()) == ""
    course.note({"kind": "result", "step": "train", "values": {"run_key": "demo"}})
    assert course.left(None, course._step_began + 40) == "about 1 min left"  # 60 s and 25 s
    assert course.left(None, course._step_began + 500) == "about 20 s left"
    course.note({"kind": "result", "step": "select", "values": {"seconds": 1.0}})
    assert course.left(None) == ""


@pytest.mark.parametrize(
    ("seconds", "text"), [(3, "10 s"), (44, "40 s"), (58, "1 min"), (200, "3 min"), (3600, "1 h"), (7700, "2 h 10 min")]
)
def test_an_estimate_is_no_more_precise_than_it_is(seconds: float, text: str) -> None:
    assert _rough(seconds) == text


def test_a_lower_bound_is_rounded_down_and_left_out_if_it_says_nothing() -> None:
    assert [_rough(seconds, math.floor) for seconds in (19, 59, 119, 7199)] == ["10 s", "50 s", "1 min", "1 h 50 min"]
    remaining = TimeLeft()
    for second in range(3):
        remaining.report(second, 8, second)
    course = Course(("train", "select"))
    assert course.left(remaining, 2) == ""  # 6 s


def test_plain_lines_say_how_long_the_run_still_takes(monkeypatch: pytest.MonkeyPatch) -> None:
    clock = iter(range(0, 2000, 20))
    monkeypatch.setattr("pipeline.cli.progress.time.monotonic", lambda: next(clock))
    stream = io.StringIO()
    with display(stream, ("train", "select"), lambda _run_key: {"select": 300.0}) as draw:
        draw({"kind": "result", "step": "train", "values": {"run_key": "demo"}})
        for done in (1, 2, 3, 4):
            draw({"kind": "advance", "step": "train", "done": done, "total": 10, "note": "loss 0.9"})
    assert stream.getvalue().splitlines()[-1] == "[train]  40% about 2 min 00 s left (run: about 7 min left) loss 0.9"
