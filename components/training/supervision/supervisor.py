"""Start and watch the training processes of this machine; restart them from the newest recovery if one dies."""

import errno
import math
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from types import FrameType

from components import progress
from components.errors import UserError, WorkFailed
from components.step_guard import PARENT_VARIABLE, TERMINATED
from components.storage.client import Store
from components.training.supervision import launcher, worker
from components.training.supervision.endings import FAILURE, MISTAKE, endings, machine_fault
from components.training.supervision.pending import deliver_pending, pending_folder
from components.training.supervision.watchdog import VARIABLE, step_timeout

RESTARTS = 3
"""Restarts per call, no matter how far training gets in between; more deaths need a person's attention."""
POLL_SECONDS = 0.2
STDERR = 2
LOG_TAIL = 16_000
MIN_FREE_BYTES = 1 << 20
"""With less free space for logs, a death is reported as a full disk."""


class TrainingDied(WorkFailed):
    """Processes died repeatedly; training can resume from the saved state."""


@dataclass(frozen=True)
class Node:
    """One of several machines that train together, with the same number of processes each."""

    nodes: int
    rank: int
    master: str
    """Address of the first node's launcher, as host:port: its IP address on that node, its host name on the others."""
    patience: float
    """Seconds in which the launchers of all nodes must connect."""


def supervise(
    store: Store,
    run_key: str,
    processes: int,
    lost: threading.Event,
    *,
    node: Node | None = None,
    restarts: int = RESTARTS,
) -> None:
    """Train in `processes` child processes until the index is written.

    If one dies or hangs, all are restarted from the newest recovery, at most `restarts` times. Errors that a restart
    cannot fix (a user's mistake, a loss that is not finite, SIGTERM) are raised immediately.

    Args:
        lost: set when another process takes over the run; the training processes are then killed.
        node: this machine, if it is one of several.

    Raises:
        UserError, WorkFailed: the error of a training process.
        TrainingDied: processes died after the last restart.
        SystemExit: code 143 after SIGTERM.
    """
    step_timeout()  # report an invalid value before anything starts
    try:
        _supervise(store, run_key, processes, lost, node, restarts)
    except OSError as error:
        if text := machine_fault(error):
            raise UserError(text) from error
        raise


def _supervise(
    store: Store, run_key: str, processes: int, lost: threading.Event, node: Node | None, restarts: int
) -> None:
    for attempt in range(restarts + 1):
        deliver_pending(store, pending_folder(run_key), run_key)  # SIGTERM may interrupt it: nothing is lost
        with _termination() as stop, tempfile.TemporaryDirectory(prefix="cps-ranks-") as name:
            code = _attempt(run_key, processes, Path(name), stop, lost, node)
            if code == 0:
                return
            if node and code == TERMINATED:
                sys.exit(TERMINATED)  # another node was asked to stop, and all have saved their state
            reason = _reason(Path(name), code, stop, alone=processes == 1 and node is None)
        if attempt < restarts:
            progress.say("train", f"{reason}: restarting from the newest recovery ({attempt + 1} of {restarts})")
    if node is not None:
        raise TrainingDied(reason)
    raise TrainingDied(
        f"training died {restarts + 1} times, the last time because {reason}: see the log, then rerun the same command "
        "to resume from the newest recovery"
    )


def _attempt(
    run_key: str, processes: int, folder: Path, stop: threading.Event, lost: threading.Event, node: Node | None
) -> int:
    """Run the training processes to their end and return the exit code, negative if a signal killed them."""
    deadline = time.monotonic() + node.patience if node else math.inf
    child = subprocess.Popen(
        _command(run_key, processes, folder, node),
        env={**os.environ, PARENT_VARIABLE: str(os.getpid())},
        stdin=subprocess.DEVNULL,
        stdout=STDERR,
        start_new_session=True,  # a signal to this process group reaches the child once, through this process
    )
    forwarded = False
    try:
        while True:
            try:
                return child.wait(POLL_SECONDS)
            except subprocess.TimeoutExpired:
                pass
            if lost.is_set():
                raise WorkFailed(f"another process took over the run {run_key} while this one was suspended")
            if node and time.monotonic() > deadline and not _started(folder):
                raise TrainingDied(f"not all of the {node.nodes} nodes connected within {node.patience:g} s")
            if stop.is_set() and not forwarded:
                child.terminate()
                forwarded = True
    finally:
        # Killing a launcher kills its ranks too.
        child.kill()
        child.wait()


def _command(run_key: str, processes: int, folder: Path, node: Node | None) -> list[str]:
    work = [worker.__file__, run_key, str(folder)]
    if processes > 1 or node:
        place = [f"--nnodes={node.nodes}", f"--rank={node.rank}", f"--master={node.master}"] if node else []
        # The launcher chooses the backend: NCCL with GPUs, otherwise gloo.
        work = [launcher.__file__, f"--nproc_per_node={processes}", f"--log_dir={folder}", *place, *work]
    return [sys.executable, *work]


def _started(folder: Path) -> bool:
    """Return whether the launcher has started its processes: it does so when all nodes have connected."""
    return any(folder.glob("workerlog.*"))


def _reason(folder: Path, code: int, stop: threading.Event, *, alone: bool) -> str:
    """Return why an attempt ended, in a few words. Raises errors that must end the training."""
    causes = endings(folder)
    for ending in causes:
        if ending.kind == MISTAKE:
            raise UserError(ending.text)
    for ending in causes:
        if ending.kind == FAILURE:
            raise WorkFailed(ending.text)
    if stop.is_set() or (alone and code in (TERMINATED, -signal.SIGTERM)):
        if causes:
            failed = f"a process failed while stopping ({causes[0].text})"
            progress.say("train", f"{failed}: the steps since the newest recovery are lost")
        sys.exit(TERMINATED)
    if shutil.disk_usage(folder).free < MIN_FREE_BYTES:
        raise UserError(machine_fault(OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), str(folder.parent))))
    stacks = [text for path in sorted(folder.glob("stacks.*")) if (text := path.read_text(errors="replace"))]
    logs = [_tail(path) for path in sorted(folder.glob("workerlog.*"))[1:]]  # the launcher has printed the first
    for text in (*logs, *stacks):
        print(text, file=sys.stderr, flush=True)
    if stacks:
        return f"no step finished in {step_timeout():g} s ({VARIABLE}; the log has the stacks of all threads)"
    if causes:
        return f"a process failed ({causes[0].text})" if alone else f"a process died; another reports: {causes[0].text}"
    return f"a process was killed ({_signal_name(code)})" if _signal_name(code) else f"a process ended with code {code}"


def _tail(path: Path) -> str:
    text = path.read_text(errors="replace")
    return f"{path.name}:\n{text[-LOG_TAIL:]}"


def _signal_name(code: int) -> str:
    """Return the signal's name for an exit code of -9, or of 247, which the launcher turns it into."""
    number = -code if code < 0 else 256 - code
    try:
        return signal.Signals(number).name + (": out of memory?" if number == signal.SIGKILL else "")
    except ValueError:
        return ""


@contextmanager
def _termination() -> Iterator[threading.Event]:
    """Make SIGTERM set the event and do nothing else."""
    stop = threading.Event()

    def note(_number: int, _frame: FrameType | None) -> None:
        stop.set()

    before = signal.signal(signal.SIGTERM, note)
    try:
        yield stop
    finally:
        signal.signal(signal.SIGTERM, before)
