"""Run the body of a pipeline step, and report its result or its error.

    with step_guard("train") as step:
        index = train(run_key, processes)
        step.result(checkpoints=len(index.checkpoints))

User errors and faults of the machine, such as a full disk, end the process with exit code 2 and one line, failures of
the work with 1 and one line. Any other exception is an internal error: exit code 1, with the traceback in the log.
SIGTERM ends the process with 143 after all `finally` blocks and context managers have run, so that leases are released.
"""

import ctypes
import json
import os
import signal
import sys
import threading
import time
import traceback
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from types import FrameType
from typing import TYPE_CHECKING, Any, Protocol

from components import progress
from components.disk import machine_error
from components.errors import UserError, WorkFailed, one_line
from components.extras import missing_package

if TYPE_CHECKING:
    from pydantic import BaseModel

STOPPING_VARIABLE = "CPS_STOPPING"
"""Environment variable, set for steps that start after the job was asked to stop: only the exit handler runs."""

PARENT_VARIABLE = "CPS_PARENT"
"""Environment variable with the parent's process id, for a process that must not outlive its parent."""

DONE, FAILED, USERS_MISTAKE, INTERRUPTED, TERMINATED = 0, 1, 2, 130, 143


_PR_SET_PDEATHSIG = 1
_AGAIN_SECONDS = 0.05
"""Time that a destructor gets to end before a SIGTERM that it ignored is sent again, in seconds."""
Scalar = str | int | float | bool | None
_SHOWN = (str, int, float, bool)


class Artifact(Protocol):
    """The part of kfp.dsl.Artifact that we use."""

    path: str
    metadata: dict[str, Any]


class StepRun:
    """The current step; writes its artifacts and its result."""

    def __init__(self, name: str) -> None:
        self.name = name
        self._began = time.monotonic()

    def write(self, artifact: Artifact, text: str) -> None:
        """Write the content of a KFP artifact."""
        path = Path(artifact.path)
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)

    def describe(self, artifact: Artifact, model: "BaseModel | None" = None, /, **values: Scalar) -> None:
        """Write a KFP artifact as a small JSON file that names objects in the store; its metadata has these values."""
        described = {**_fields(model), **values}
        self.write(artifact, json.dumps(described, indent=1, sort_keys=True) + "\n")
        artifact.metadata.update({key: value for key, value in described.items() if isinstance(value, _SHOWN)})

    def result(self, model: "BaseModel | None" = None, /, **values: Scalar) -> None:
        """Report that the step is done, with values for the caller and the seconds it took."""
        seconds = round(time.monotonic() - self._began, 2)
        progress.result(self.name, {**_fields(model), **values, "seconds": seconds})


def _fields(model: "BaseModel | None") -> Any:
    return model.model_dump(mode="json") if model is not None else {}


def stopping() -> bool:
    """Return whether the job of this step was asked to stop."""
    return bool(os.environ.get(STOPPING_VARIABLE))


@contextmanager
def step_guard(name: str, *, even_when_stopping: bool = False) -> Iterator[StepRun]:
    """Run a step's body. If it raises, print one line and end the process with the matching exit code."""
    if stopping() and not even_when_stopping:
        sys.exit(TERMINATED)
    raise_on_sigterm(SystemExit(TERMINATED))
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
        if machine := machine_error(error):
            _fail(name, one_line(machine), USERS_MISTAKE)
        traceback.print_exc(file=sys.stderr)
        text = f"internal error: {type(error).__name__}: {one_line(error)}; the traceback is in the log"
        _fail(name, text, FAILED)


def on_parents_death(number: int) -> None:
    """Have the kernel send signal `number` to this process when its parent dies. Does nothing except on Linux."""
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, number)


def die_with_parent() -> None:
    """Kill this process as soon as its parent dies; CPS_PARENT holds the parent's process id."""
    on_parents_death(signal.SIGKILL)
    if os.getppid() != int(os.environ[PARENT_VARIABLE]):
        os.kill(os.getpid(), signal.SIGKILL)  # the parent died before prctl took effect


def _fail(name: str, text: str, code: int) -> None:
    progress.failure(name, text, code)
    if os.environ.get(progress.EVENTS_VARIABLE):
        # The event went to the file that `cps` follows; put the error into the step's log as well.
        print(f"[{name}] error: {text}", file=sys.stderr, flush=True)
    sys.exit(code)


def raise_on_sigterm(error: BaseException) -> Callable[[], None]:
    """Raise `error` on SIGTERM from now on, and return a function that ends this. Does nothing outside the main thread.

    The handler may run during a destructor, such as that of a socket, where Python ignores every exception. The signal
    is then sent again, so that it is not lost.
    """
    if threading.current_thread() is not threading.main_thread():
        return lambda: None

    def leave(_number: int, _frame: FrameType | None) -> None:
        raise error

    def on_ignored(ignored: "sys.UnraisableHookArgs") -> None:
        if ignored.exc_value is error:
            # Later, because this function runs in the destructor's place and cannot raise either.
            again = threading.Timer(_AGAIN_SECONDS, signal.raise_signal, (signal.SIGTERM,))
            again.daemon = True
            again.start()
        else:
            hook(ignored)

    before, hook = signal.signal(signal.SIGTERM, leave), sys.unraisablehook
    sys.unraisablehook = on_ignored

    def end() -> None:
        signal.signal(signal.SIGTERM, before)
        sys.unraisablehook = hook

    return end
