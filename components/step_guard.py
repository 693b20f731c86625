"""What surrounds the one call that a pipeline step makes: how its end, good or bad, reaches a person.

    with step_guard("train") as step:
        index = train(run_key, processes)
        step.result({"checkpoints": len(index["checkpoints"])})

The user's mistake ends the process with code 2 and one line; a failure of the work with 1 and one line; anything
else is a fault of this program: 1, and the traceback goes to the log. SIGTERM ends it with 143 after every
`finally` and context manager has run, so that a lease is given back.
"""

import ctypes
import json
import os
import signal
import sys
import threading
import time
import traceback
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from types import FrameType
from typing import Any, Protocol

from components import progress
from components.errors import UserError, WorkFailed, one_line
from components.extras import missing_package

STOPPING_VARIABLE = "CPS_STOPPING"
"""Set in the environment of steps that start after the whole job was told to stop: only the exit handler runs."""

PARENT_VARIABLE = "CPS_PARENT"
"""In the environment of a process that must not outlive the one that started it."""

DONE, FAILED, USERS_MISTAKE, INTERRUPTED, TERMINATED = 0, 1, 2, 130, 143


_PR_SET_PDEATHSIG = 1
_SHOWN = (str, int, float, bool)


class Artifact(Protocol):
    """The part of kfp.dsl.Artifact that is used here."""

    path: str
    metadata: dict[str, Any]


class StepRun:
    """The step that runs now: where it leaves what the caller of the pipeline wants to know."""

    def __init__(self, name: str) -> None:
        self.name = name
        self._began = time.monotonic()

    def write(self, artifact: Artifact, text: str) -> None:
        """Give a KFP artifact its content."""
        path = Path(artifact.path)
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)

    def describe(self, artifact: Artifact, values: Mapping[str, Any]) -> None:
        """Make a KFP artifact a small JSON file that names objects of the store; its metadata shows the same."""
        self.write(artifact, json.dumps(values, indent=1, sort_keys=True) + "\n")
        artifact.metadata.update({key: value for key, value in values.items() if isinstance(value, _SHOWN)})

    def result(self, values: Mapping[str, Any]) -> None:
        """Say that the step is done, with JSON-able values for the caller and the seconds it took."""
        progress.result(self.name, {**values, "seconds": round(time.monotonic() - self._began, 2)})


def stopping() -> bool:
    """Whether the job that this step belongs to was told to stop."""
    return bool(os.environ.get(STOPPING_VARIABLE))


@contextmanager
def step_guard(name: str, *, even_when_stopping: bool = False) -> Iterator[StepRun]:
    """Run a step's body; end the process with the right code and one line where it raises."""
    if stopping() and not even_when_stopping:
        sys.exit(TERMINATED)
    _exit_on_sigterm()
    try:
        yield StepRun(name)
    except UserError as error:
        _fail(name, one_line(error), USERS_MISTAKE)
    except WorkFailed as error:
        _fail(name, one_line(error), FAILED)
    except KeyboardInterrupt:
        sys.exit(INTERRUPTED)
    except Exception as error:
        missing = missing_package(error) if isinstance(error, ModuleNotFoundError) else None
        if missing:
            _fail(name, one_line(missing), USERS_MISTAKE)
        traceback.print_exc(file=sys.stderr)
        text = f"a fault of this program: {type(error).__name__}: {one_line(error)}; the traceback is in the log"
        _fail(name, text, FAILED)


def on_parents_death(number: int) -> None:
    """Have the kernel send this process a signal when its parent dies. Linux only; elsewhere nothing happens."""
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, number)


def die_with_parent() -> None:
    """Tie this process to its parent, which has left its process id in CPS_PARENT: it is killed with it, at once."""
    on_parents_death(signal.SIGKILL)
    if os.getppid() != int(os.environ[PARENT_VARIABLE]):
        os.kill(os.getpid(), signal.SIGKILL)  # it died before the kernel knew


def _fail(name: str, text: str, code: int) -> None:
    progress.failure(name, text, code)
    if os.environ.get(progress.EVENTS_VARIABLE):
        # The event went to the file that `cps` follows; the log of the step should say it too.
        print(f"[{name}] error: {text}", file=sys.stderr, flush=True)
    sys.exit(code)


def _exit_on_sigterm() -> None:
    def leave(_number: int, _frame: FrameType | None) -> None:
        sys.exit(TERMINATED)

    if threading.current_thread() is threading.main_thread():
        signal.signal(signal.SIGTERM, leave)
