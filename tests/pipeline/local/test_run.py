"""Local runs: every way to end reaches the caller as one line and the right exit code, and nothing stays behind."""

import contextlib
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import psutil
import pytest
from kfp import compiler

from components.disk import Unwritable, check_home
from components.files import abandoned_folders
from pipeline.local.run import JobOutcome, run_locally
from tests.pipeline.local.local_pipelines import acting

RUN = """
import json, sys
from pathlib import Path
from pipeline.local.run import run_locally
compiled, folder, how = sys.argv[1:]
outcome = run_locally(
    {"how": how, "folder": folder}, home=Path(folder, "home"), environment={},
    on_event=lambda event: print(json.dumps(event), flush=True), compiled=Path(compiled),
)
sys.exit(outcome.exit_code)
"""


@pytest.fixture(scope="module")
def compiled(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("compiled") / "acting.yaml"
    compiler.Compiler().compile(acting, str(path))
    return path


def run(compiled: Path, folder: Path, how: str) -> tuple[JobOutcome, list[Any]]:
    events: list[Any] = []
    outcome = run_locally(
        {"how": how, "folder": str(folder)},
        home=folder / "home",
        environment={},
        on_event=events.append,
        compiled=compiled,
    )
    return outcome, events


def test_results_and_messages_arrive_and_paths_are_left_as_they_are(compiled: Path, tmp_path: Path) -> None:
    folder = tmp_path / "python3 with 'quotes'"
    folder.mkdir()
    outcome, events = run(compiled, folder, "python3.11")
    assert outcome.exit_code == 0
    assert outcome.failure == ""
    assert outcome.results["act"]["how"] == "python3.11"
    assert Path(str(outcome.results["act"]["interpreter"])).samefile(sys.executable)
    assert [event["text"] for event in events if event["kind"] == "say"] == ["working on python3.11"]
    assert (folder / "followed").read_text() == "python3.11"
    assert (folder / "finished").read_text() == "SUCCEEDED False"
    assert not Path(str(outcome.results["act"]["temporary"])).exists()
    assert "python3.11" in outcome.log.read_text()


@pytest.mark.parametrize(
    ("how", "code", "failure"),
    [
        ("mistake", 2, "[act] label id 77 is none of the classes in a.png"),
        pytest.param("failure", 1, "[act] the store went away", marks=pytest.mark.slow),
        pytest.param(
            "fault",
            1,
            "[act] internal error: ZeroDivisionError: division by zero; the traceback is in the log",
            marks=pytest.mark.slow,
        ),
        pytest.param(
            "killed",
            1,
            "[pipeline] step 'act' was killed before it could report an error (out of memory?)",
            marks=pytest.mark.slow,
        ),
    ],
)
def test_failures_are_one_line_are_not_repeated_and_end_in_the_exit_handler(
    compiled: Path, tmp_path: Path, how: str, code: int, failure: str
) -> None:
    outcome, events = run(compiled, tmp_path, how)
    assert (outcome.exit_code, outcome.failure) == (code, failure)
    assert [f"[{event['step']}] {event['text']}" for event in events if event["kind"] == "failure"] == [failure]
    assert (tmp_path / "attempts").read_text().splitlines() == [how]
    assert not (tmp_path / "followed").exists()
    assert (tmp_path / "finished").read_text() == "FAILED False"
    assert ("Traceback" in outcome.log.read_text()) == (how == "fault")


def test_a_home_folder_that_paddle_cannot_use_is_said_before_the_first_step(
    compiled: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "file").touch()
    monkeypatch.setenv("HOME", str(tmp_path / "file"))
    with pytest.raises(Unwritable, match=r"/file/\.cache/paddle/dataset cannot be written: Not a directory; set HOME"):
        run(compiled, tmp_path, "python3.11")
    assert [path.name for path in tmp_path.iterdir()] == ["file"]
    # Once Paddle's folder exists, Paddle writes nothing there.
    (tmp_path / "used" / ".cache" / "paddle" / "dataset").mkdir(parents=True)
    monkeypatch.setenv("HOME", str(tmp_path / "used"))
    monkeypatch.setattr("components.disk.check_writable", lambda *_: pytest.fail("it need not be written"))
    check_home()


@pytest.mark.parametrize(("number", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
def test_a_signal_lets_the_step_save_its_work_and_the_exit_handler_run(
    compiled: Path, tmp_path: Path, number: signal.Signals, code: int
) -> None:
    process, step = start(compiled, tmp_path, "long")
    process.send_signal(number)
    assert process.wait(20) == code
    assert (tmp_path / "saved").exists()
    assert (tmp_path / "finished").read_text() == "FAILED True"
    assert not alive(step)


@pytest.mark.slow
def test_another_thread_may_run_a_pipeline(compiled: Path, tmp_path: Path) -> None:
    before = signal.getsignal(signal.SIGINT)
    with ThreadPoolExecutor(1) as pool:
        outcome, _ = pool.submit(run, compiled, tmp_path, "well").result()
    assert outcome.exit_code == 0, outcome.failure
    assert signal.getsignal(signal.SIGINT) is before


@pytest.mark.slow
def test_an_exception_of_the_caller_stops_the_run(compiled: Path, tmp_path: Path) -> None:
    def refuse(event: Any) -> None:
        if event["kind"] == "advance":
            raise LookupError(event["note"])

    arguments = {"how": "long", "folder": str(tmp_path)}
    with pytest.raises(LookupError, match=r"loss 0\.5"):
        run_locally(arguments, home=tmp_path / "home", environment={}, on_event=refuse, compiled=compiled)
    deadline = time.monotonic() + 20
    while Path("/proc", (tmp_path / "pid").read_text()).exists():
        assert time.monotonic() < deadline
        time.sleep(0.05)


@pytest.mark.slow
def test_a_second_signal_ends_what_does_not_listen(compiled: Path, tmp_path: Path) -> None:
    process, step = start(compiled, tmp_path, "stubborn")
    process.send_signal(signal.SIGINT)
    time.sleep(1)
    assert alive(step)
    process.send_signal(signal.SIGINT)
    assert process.wait(10) == 130
    assert not alive(step)


@pytest.mark.skipif(sys.platform != "linux", reason="the parent's death reaches a child on Linux only")
def test_nothing_trains_on_when_the_command_is_killed(compiled: Path, tmp_path: Path) -> None:
    process, step = start(compiled, tmp_path, "long")
    environment = Path(f"/proc/{step}/environ").read_bytes().decode().split("\0")
    [folder] = [Path(entry.removeprefix("TMPDIR=")) for entry in environment if entry.startswith("TMPDIR=")]
    assert folder.is_dir()
    process.kill()
    process.wait(10)
    wait_for(lambda: not alive(step))
    assert (tmp_path / "saved").exists()
    wait_for(lambda: not folder.exists())


@pytest.mark.skipif(sys.platform != "linux", reason="reads /proc")
def test_the_next_run_removes_what_a_run_whose_processes_were_all_killed_has_left(
    compiled: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("TMPDIR", str(tmp_path / "tmp"))
    monkeypatch.setattr("tempfile.tempdir", None)
    (tmp_path / "tmp").mkdir()
    process, step = start(compiled, tmp_path, "long")
    [folder] = (tmp_path / "tmp").iterdir()
    assert list(abandoned_folders("cps-job-")) == [], "the run is in progress"
    pipeline = psutil.Process(process.pid).children()
    process.kill()
    for child in pipeline:
        child.suspend()  # so that it cannot clean up
    process.wait(10)
    assert list(abandoned_folders("cps-job-")) == [], "its pipeline still uses it"
    os.killpg(pipeline[0].pid, signal.SIGKILL)
    wait_for(lambda: not any(map(alive, (step, *(child.pid for child in pipeline)))))
    assert folder.is_dir()
    outcome, _ = run(compiled, tmp_path, "python3.11")
    assert outcome.exit_code == 0
    assert list((tmp_path / "tmp").iterdir()) == []


def start(compiled: Path, folder: Path, how: str) -> tuple["subprocess.Popen[bytes]", int]:
    """The command and the process id of its step, which works by now."""
    process = subprocess.Popen([sys.executable, "-c", RUN, str(compiled), str(folder), how], stdout=subprocess.DEVNULL)
    wait_for(lambda: (folder / "pid").exists() and (folder / "pid").read_text() != "")
    return process, int((folder / "pid").read_text())


def wait_for(condition: Callable[[], bool], seconds: float = 20) -> None:
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, "it did not come to pass"
        time.sleep(0.05)


def alive(pid: int) -> bool:
    """A zombie is not: nobody may be there to reap it."""
    with contextlib.suppress(OSError):
        os.kill(pid, 0)
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    return False


def test_a_line_that_is_half_written_is_read_when_it_is_whole(tmp_path: Path) -> None:
    from pipeline.local.run import EventFile

    events = EventFile(tmp_path / "events.jsonl")
    line = json.dumps({"kind": "say", "step": "a", "text": "b"}) + "\n"
    events.path.write_text(line + line[:10])
    assert len(list(events.read())) == 1
    with events.path.open("a") as file:
        file.write(line[10:])
    assert len(list(events.read())) == 1
    assert list(events.read()) == []
