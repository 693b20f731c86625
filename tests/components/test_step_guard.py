"""How a step ends, seen from outside: exit code, one line, and what ran on the way out."""

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from components.contract import Frozen
from components.step_guard import raise_on_sigterm

ROOT = Path(__file__).parents[2]

PROGRAM = """
import sys, time
from pathlib import Path
from components.errors import UserError, WorkFailed
from components.step_guard import step_guard
how, folder = sys.argv[1], Path(sys.argv[2])
with step_guard("train", even_when_stopping=how == "always") as step:
    if how == "mistake":
        raise UserError("ratio '3/2' is\\nno ratio")
    if how == "failure":
        raise WorkFailed("the disk is full")
    if how == "fault":
        {}["key"]
    if how == "interrupted":
        raise KeyboardInterrupt
    if how == "wait":
        try:
            (folder / "ready").touch()
            time.sleep(30)
        finally:
            (folder / "left").touch()
    step.result(epochs=3)
"""


def run(how: str, folder: Path, **environment: str) -> "subprocess.CompletedProcess[str]":
    return subprocess.run(
        [sys.executable, "-c", PROGRAM, how, str(folder)],
        env={**os.environ, "PYTHONPATH": str(ROOT), **environment},
        capture_output=True,
        text=True,
        timeout=60,
    )


def events(path: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in path.read_text().splitlines()]


@pytest.mark.parametrize(
    ("how", "code", "last_line"),
    [
        ("mistake", 2, "[train] error: ratio '3/2' is no ratio"),
        ("failure", 1, "[train] error: the disk is full"),
        ("fault", 1, "[train] error: internal error: KeyError: 'key'; the traceback is in the log"),
    ],
)
def test_an_error_is_one_line_and_an_exit_code(tmp_path: Path, how: str, code: int, last_line: str) -> None:
    ended = run(how, tmp_path)
    assert ended.returncode == code
    lines = ended.stderr.splitlines()
    assert lines[-1] == last_line
    assert ("Traceback" in ended.stderr) == (how == "fault")
    assert how == "fault" or len(lines) == 1


def test_with_an_events_file_the_line_is_in_it_and_in_the_log(tmp_path: Path) -> None:
    ended = run("mistake", tmp_path, CPS_EVENTS=str(tmp_path / "events"))
    assert ended.stderr == "[train] error: ratio '3/2' is no ratio\n"
    [event] = events(tmp_path / "events")
    assert (event["kind"], event["step"], event["exit_code"]) == ("failure", "train", 2)
    assert event["text"] == "ratio '3/2' is no ratio"


def test_a_result_says_how_long_it_took(tmp_path: Path) -> None:
    ended = run("fine", tmp_path, CPS_EVENTS=str(tmp_path / "events"))
    assert (ended.returncode, ended.stderr) == (0, "")
    [event] = events(tmp_path / "events")
    assert event["values"]["epochs"] == 3
    assert 0 <= event["values"]["seconds"] < 30


def test_an_interrupt_is_130(tmp_path: Path) -> None:
    assert run("interrupted", tmp_path).returncode == 130


def test_a_step_of_a_job_that_is_stopping_does_not_begin_unless_it_must(tmp_path: Path) -> None:
    assert run("mistake", tmp_path, CPS_STOPPING="1").returncode == 143
    assert run("always", tmp_path, CPS_STOPPING="1").returncode == 0


def test_sigterm_runs_what_must_run_on_the_way_out(tmp_path: Path) -> None:
    process = subprocess.Popen(
        [sys.executable, "-c", PROGRAM, "wait", str(tmp_path)], env={**os.environ, "PYTHONPATH": str(ROOT)}
    )
    deadline = time.monotonic() + 20
    while not (tmp_path / "ready").exists():
        assert time.monotonic() < deadline
        time.sleep(0.02)
    process.send_signal(signal.SIGTERM)
    assert process.wait(10) == 143
    assert (tmp_path / "left").exists()


@pytest.mark.filterwarnings("error::pytest.PytestUnraisableExceptionWarning")
def test_sigterm_during_a_destructor_is_not_lost() -> None:
    class Closing:
        def __del__(self) -> None:
            os.kill(os.getpid(), signal.SIGTERM)
            closed.append(True)

    closed: list[bool] = []
    end = raise_on_sigterm(SystemExit(143))
    try:
        with pytest.raises(SystemExit) as stopped:
            wait_after(Closing)
    finally:
        end()
    assert stopped.value.code == 143
    assert not closed  # the first exception was raised in the destructor
    assert signal.getsignal(signal.SIGTERM) is signal.SIG_DFL


def wait_after(work: Callable[[], object]) -> None:
    work()
    time.sleep(30)


def test_an_artifact_is_a_small_file_that_names_objects(tmp_path: Path) -> None:
    from components.step_guard import StepRun

    class Artifact:
        path = str(tmp_path / "new folder" / "weights")
        metadata: dict[str, Any] = {}  # noqa: RUF012

    class Weights(Frozen):
        uri: str
        size: int
        classes: tuple[str, ...]

    StepRun("select").describe(Artifact(), Weights(uri="s3://cps/a", size=3, classes=("road",)), seed=1)
    flat = {"uri": "s3://cps/a", "size": 3, "seed": 1}
    assert json.loads(Path(Artifact.path).read_text()) == {**flat, "classes": ["road"]}
    assert Artifact.metadata == flat
