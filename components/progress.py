"""How a step tells people what it does: one event a line, so that any front end can draw it.

A step runs in a process of its own, under KFP or under `cps`. With CPS_EVENTS set to a file, events are appended
there as JSON lines, which `cps` follows to draw its progress bars; without it they go to stderr as plain text,
which is what one reads in a pod's log. Appends of one short line are atomic, so steps may share the file.
Where there is no room for an event it is left out: no work stops because a disk is full of its messages.
"""

import json
import os
import sys
import time
from collections.abc import Mapping
from typing import Any

from components.errors import is_disk_full

EVENTS_VARIABLE = "CPS_EVENTS"

_quiet = False


def be_quiet(quiet: bool) -> None:
    """Whether this process keeps progress to itself, as `--quiet` asks; warnings and failures are said all the same."""
    global _quiet
    _quiet = quiet


def is_quiet() -> bool:
    return _quiet


def say(step: str, text: str) -> None:
    """One line for people: something was found, made, or skipped because it was done before."""
    _emit({"kind": "say", "step": step, "text": text}, None if _quiet else f"[{step}] {text}")


def warn(step: str, text: str) -> None:
    """One line for people who would not want to miss it."""
    _emit({"kind": "say", "step": step, "text": text}, f"[{step}] {text}")


def advance(step: str, done: float, total: float, note: str = "") -> None:
    """How far a step is: `done` of `total` units, and a few words such as the current loss."""
    percent = 100 * done / total if total else 100
    _emit(
        {"kind": "advance", "step": step, "done": done, "total": total, "note": note},
        None if _quiet else f"[{step}] {percent:3.0f}% {note}",
    )


def result(step: str, values: Mapping[str, Any]) -> None:
    """What a step leaves for the caller, such as the run key."""
    _emit({"kind": "result", "step": step, "values": dict(values)}, None)


def failure(step: str, text: str, exit_code: int) -> None:
    """Why a step ended: one line, and the exit code that the whole command should end with."""
    _emit({"kind": "failure", "step": step, "text": text, "exit_code": exit_code}, f"[{step}] error: {text}")


def first_failure() -> str:
    """What failed first of the steps that share this one's file of events; "" where none did, or there is no file."""
    path = os.environ.get(EVENTS_VARIABLE)
    if not path or not os.path.exists(path):
        return ""
    with open(path) as file:
        events = (json.loads(line) for line in file if line.endswith("\n"))
        return next((f"[{event['step']}] {event['text']}" for event in events if event["kind"] == "failure"), "")


def _emit(event: dict[str, Any], plain: str | None) -> None:
    try:
        _write(event, plain)
    except OSError as error:
        if not is_disk_full(error):
            raise


def _write(event: dict[str, Any], plain: str | None) -> None:
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
