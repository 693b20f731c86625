"""Progress of a step: one event per line, so that any front end can display it.

A step runs in its own process, under KFP or under `cps`. If CPS_EVENTS names a file, events are appended to it as JSON
lines, and `cps` follows the file to draw its progress bars. Otherwise events go to stderr as plain text, which is what
a pod's log shows. Appending one short line is atomic, so steps may share the file. Events that do not fit on a full
disk are dropped: a step never fails because of its messages.
"""

import json
import os
import sys
import time
from collections.abc import Mapping
from typing import Any, Literal, TypedDict

from components.errors import is_disk_full

EVENTS_VARIABLE = "CPS_EVENTS"

_quiet = False


class Say(TypedDict):
    kind: Literal["say"]
    step: str
    text: str


class Advance(TypedDict):
    kind: Literal["advance"]
    step: str
    done: float
    total: float
    note: str


class Result(TypedDict):
    kind: Literal["result"]
    step: str
    values: dict[str, Any]


class Failure(TypedDict):
    kind: Literal["failure"]
    step: str
    text: str
    exit_code: int


Event = Say | Advance | Result | Failure
"""The content of a line in the event file, which also has the time."""


def be_quiet(quiet: bool) -> None:
    """Set whether this process hides progress, as `--quiet` asks. Warnings and failures are always shown."""
    global _quiet
    _quiet = quiet


def is_quiet() -> bool:
    return _quiet


def say(step: str, text: str) -> None:
    """Report one line for people: something was found, created, or skipped because it had been done before."""
    _emit({"kind": "say", "step": step, "text": text}, None if _quiet else f"[{step}] {text}")


def warn(step: str, text: str) -> None:
    """Report one line that `--quiet` does not hide."""
    _emit({"kind": "say", "step": step, "text": text}, f"[{step}] {text}")


def advance(step: str, done: float, total: float, note: str = "") -> None:
    """Report that `done` of `total` units are complete, with a short note such as the current loss."""
    percent = 100 * done / total if total else 100
    _emit(
        {"kind": "advance", "step": step, "done": done, "total": total, "note": note},
        None if _quiet else f"[{step}] {percent:3.0f}% {note}",
    )


def result(step: str, values: Mapping[str, Any]) -> None:
    """Report values for the caller, such as the run key."""
    _emit({"kind": "result", "step": step, "values": dict(values)}, None)


def failure(step: str, text: str, exit_code: int) -> None:
    """Report why a step failed, and the exit code for the whole command."""
    _emit({"kind": "failure", "step": step, "text": text, "exit_code": exit_code}, f"[{step}] error: {text}")


def first_failure() -> str:
    """Return the first failure of the steps that share this event file, or "" if none failed or there is no file."""
    path = os.environ.get(EVENTS_VARIABLE)
    if not path or not os.path.exists(path):
        return ""
    with open(path) as file:
        events = (json.loads(line) for line in file if line.endswith("\n"))
        return next((f"[{event['step']}] {event['text']}" for event in events if event["kind"] == "failure"), "")


def _emit(event: Event, plain: str | None) -> None:
    try:
        _write(event, plain)
    except OSError as error:
        if not is_disk_full(error):
            raise


def _write(event: Event, plain: str | None) -> None:
    path = os.environ.get(EVENTS_VARIABLE)
    if path:
        line = json.dumps({"time": time.time(), **event}) + "\n"
        handle = os.open(path, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o600)
        try:
            os.write(handle, line.encode())
        finally:
            os.close(handle)
    elif plain is not None:
        print(plain, file=sys.stderr, flush=True)
