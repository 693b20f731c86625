"""Run the compiled pipeline on this machine and follow the events of its steps."""

import json
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path
from types import FrameType
from typing import TYPE_CHECKING, Any, BinaryIO

import pipeline
from components.contract import read
from components.disk import HOME_VARIABLE, check_home, free, writing
from components.files import abandoned_folders, marked_folder
from components.progress import EVENTS_VARIABLE, Event
from components.step_guard import FAILED, STOPPING_VARIABLE
from components.units import size_text
from pipeline.local.child import GRACE_SECONDS
from pipeline.local.forecast.durations import record_durations
from pipeline.local.jobs import JobNote, close_interrupted
from pipeline.parameters import PipelineParameters

if TYPE_CHECKING:
    from pydantic import JsonValue

    from components.runs.steps import StoredDataset

ALMOST_FULL = 128 << 20
"""With less free space in the state folder than this, in bytes, error messages mention it."""
_JOB = "cps-job-"
_POLL_SECONDS = 0.1
_LOG_SECONDS = 15.0
SPLIT_STEP = "split-labels"
"""The step that reports the run's key."""
_SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)


@dataclass
class JobOutcome:
    """The exit code of a job and the results of its steps. `failure` is one line, "" on success.

    Only a run that was completed on another machine has no log here.
    """

    exit_code: int
    seconds: float
    log: Path | None
    results: "dict[str, dict[str, JsonValue]]" = field(default_factory=dict)
    """By step: the values that it passed to `StepRun.result`, without its duration."""
    failure: str = ""
    durations: dict[str, float] = field(default_factory=dict)
    """By step, in seconds; those of all shards of the evaluation together."""

    @property
    def run_key(self) -> str:
        return str(self.results["split-labels"]["run_key"])

    @property
    def dataset(self) -> "StoredDataset":
        from components.runs.steps import StoredDataset

        return read(StoredDataset, self.results["prepare-dataset"], "the result of prepare-dataset")


def run_locally(
    parameters: PipelineParameters | Mapping[str, str],
    *,
    home: Path,
    environment: Mapping[str, str],
    on_event: Callable[[Event], None],
    compiled: Path | None = None,
) -> JobOutcome:
    """Run the pipeline, or another compiled one; return when all its processes have ended.

    `environment` (addresses and credentials of the services) overrides this process's environment. The processes form
    their own group. On SIGINT, SIGTERM or SIGHUP, they have `GRACE_SECONDS` to save their work; a second signal kills
    them. The exit code is then 128 + the first signal. Outside the main thread, the program's own
    signal handlers stay in effect. When this process ends, the pipeline's processes end too.

    Raises:
        Unwritable: the state folder or the user's home folder cannot be written.
    """
    check_home()
    log = home / "logs" / f"run-{datetime.now():%Y%m%d-%H%M%S}-{os.getpid()}.log"
    with writing(home):
        log.parent.mkdir(parents=True, exist_ok=True)
    began = time.monotonic()
    for _ in abandoned_folders(_JOB):
        pass  # a killed run has left it
    with marked_folder(_JOB) as (folder, mark):
        own = parameters if isinstance(parameters, PipelineParameters) else None
        arguments = dict(parameters) if isinstance(parameters, Mapping) else parameters.as_dag()
        job = {"parameters": arguments, "compiled": str(compiled or "")}
        (folder / "job.json").write_text(json.dumps(job))
        events = EventFile(folder / "events.jsonl")
        with _SignalWatch() as watch, log.open("wb") as output:
            child = subprocess.Popen(
                [sys.executable, "-m", "pipeline.local.child", str(folder)],
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=subprocess.STDOUT,
                env=_child_environment(environment, folder, events.path),
                start_new_session=True,
                pass_fds=(mark,),
            )
            outcome, lines = JobOutcome(0, 0.0, log), _LogLines(output)
            note = JobNote(home, log, str(arguments.get("dataset", "")), own.run if own else None)

            def follow(event: Event) -> None:
                lines.write(event)
                _note(event, outcome, on_event)
                if event["kind"] == "result" and event["step"] == SPLIT_STEP:
                    note.write(outcome.run_key, outcome.dataset.name)

            try:
                code = _follow(child, events, watch, follow)
            finally:
                _kill_group(child)
                note.remove()
    outcome.exit_code = 128 + watch.first if watch.first else outcome.exit_code or code
    outcome.seconds = time.monotonic() - began
    if SPLIT_STEP in outcome.results and not outcome.exit_code:
        record_durations(home, outcome.run_key, outcome.durations)
    if outcome.failure and free(home) < ALMOST_FULL:
        # A store whose disk is full reports an internal error only.
        outcome.failure += f"; {home} has only {size_text(free(home))} free: make room, or set {HOME_VARIABLE}"
    return outcome


def services_for_run(home: Path, *, tracking: bool = True) -> dict[str, str]:
    """Return the environment variables of the services: start them if necessary, and check that they can be written.

    Without `tracking`, MLflow is named but not started. Runs whose processes were killed are marked as interrupted
    first. Raises UserError if a service cannot be used.
    """
    from pipeline.local.environment import known_environment, resolve_environment, store_of

    environment = {**known_environment(home), **resolve_environment(home, tracking=tracking, writes=True)}
    close_interrupted(home, store_of(environment), environment)
    return environment


class _LogLines:
    """Writes the messages of steps to the log, between what they print; progress at most every 15 seconds."""

    def __init__(self, output: BinaryIO) -> None:
        self._output = output
        self._last = 0.0

    def write(self, event: Event) -> None:
        now = time.monotonic()
        if event["kind"] == "advance" and now - self._last >= _LOG_SECONDS:
            self._last = now
            percent = 100 * event["done"] / event["total"] if event["total"] else 100
            self._line(event["step"], f"{percent:.0f}% {event['note']}".rstrip())
        elif event["kind"] == "say" or event["kind"] == "failure":
            self._line(event["step"], event["text"])

    def _line(self, step: str, text: str) -> None:
        with suppress(OSError):  # a full disk, which the steps report themselves
            self._output.write(f"[{step}] {text}\n".encode())
            self._output.flush()


def _note(event: Event, outcome: JobOutcome, on_event: Callable[[Event], None]) -> None:
    if event["kind"] == "result":
        values = {name: value for name, value in event["values"].items() if name != "seconds"}
        outcome.results.setdefault(event["step"], {}).update(values)
        seconds = float(event["values"].get("seconds", 0))
        outcome.durations[event["step"]] = outcome.durations.get(event["step"], 0.0) + seconds
    elif event["kind"] == "failure":
        if outcome.exit_code:
            return  # The first failure is the cause of the others.
        outcome.failure = f"[{event['step']}] {event['text']}"
        outcome.exit_code = int(event["exit_code"]) or FAILED
    on_event(event)


def _follow(
    child: "subprocess.Popen[bytes]", events: "EventFile", watch: "_SignalWatch", note: Callable[[Event], None]
) -> int:
    told_at = 0.0
    while True:
        ended = child.poll() is not None
        for event in events.read():
            note(event)
        if ended:
            return 0 if child.returncode == 0 else FAILED
        if watch.first and not told_at:
            told_at = time.monotonic()
            child.send_signal(signal.SIGTERM)
            note({"kind": "say", "step": "stop", "text": _STOP_TEXT})
        if told_at and (watch.count > 1 or time.monotonic() - told_at > GRACE_SECONDS):
            _kill_group(child)
        time.sleep(_POLL_SECONDS)


_STOP_TEXT = f"the steps are saving their work, for up to {GRACE_SECONDS:.0f} s; interrupt again to stop at once"


def _kill_group(child: "subprocess.Popen[bytes]") -> None:
    try:
        os.killpg(child.pid, signal.SIGKILL)
    except ProcessLookupError:
        return
    finally:
        child.wait()


def _child_environment(services: Mapping[str, str], folder: Path, events: Path) -> dict[str, str]:
    environment = {**os.environ, **services}
    environment.pop(STOPPING_VARIABLE, None)
    root = Path(pipeline.__file__).resolve().parents[1]
    interpreter = Path(sys.executable).parent
    environment["PATH"] = os.pathsep.join([str(interpreter), environment.get("PATH", os.defpath)])
    environment["PYTHONPATH"] = os.pathsep.join(filter(None, [str(root), environment.get("PYTHONPATH", "")]))
    environment["PYTHONUNBUFFERED"] = "1"
    environment["TMPDIR"] = str(folder)  # KFP does not delete the sources of the steps that it writes there
    environment[EVENTS_VARIABLE] = str(events)
    return environment


class EventFile:
    """Reads the events that steps append to a file, one JSON object per line."""

    def __init__(self, path: Path) -> None:
        self.path = path
        path.touch(mode=0o600)
        self._offset = 0

    def read(self) -> Iterator[Event]:
        with self.path.open("rb") as file:
            file.seek(self._offset)
            for line in file:
                if not line.endswith(b"\n"):
                    return
                self._offset += len(line)
                yield json.loads(line)


class _SignalWatch:
    """Counts the signals that ask this process to stop, instead of ending it."""

    def __init__(self) -> None:
        self.first = 0
        self.count = 0
        self._before: dict[int, Any] = {}

    def __enter__(self) -> "_SignalWatch":
        if threading.current_thread() is threading.main_thread():  # no other may handle signals
            self._before = {number: signal.signal(number, self._note) for number in _SIGNALS}
        return self

    def __exit__(self, *_: object) -> None:
        for number, handler in self._before.items():
            signal.signal(number, handler)

    def _note(self, number: int, _frame: FrameType | None) -> None:
        self.first = self.first or number
        self.count += 1
