"""Training processes on this machine: started, watched, and started again from the newest recovery when one dies."""

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
from components.errors import UserError, WorkFailed, is_disk_full
from components.step_guard import PARENT_VARIABLE, TERMINATED
from components.storage.client import Store
from components.training.supervision import launcher, worker
from components.training.supervision.endings import FAILURE, MISTAKE, disk_full, endings
from components.training.supervision.kept import deliver_kept, kept_folder
from components.training.supervision.watchdog import VARIABLE, step_timeout

RESTARTS = 3
"""In one call, however far the training got in between: what dies so often needs a person."""
POLL_SECONDS = 0.2
STDERR = 2
LOG_TAIL = 16_000
ROOM = 1 << 20
"""Bytes on the disk for logs, under which a death is put down to their want."""


class TrainingDied(WorkFailed):
    """Processes died again and again; what they saved is there to go on from."""


@dataclass(frozen=True)
class Node:
    """One of several machines that train together, each with as many processes."""

    nodes: int
    rank: int
    master: str
    """Where the first node's launcher listens, as host:port: its own address there, its name on the others."""
    patience: float
    """Seconds until the launchers of all nodes must have met."""


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

    One that dies or hangs ends the others; all start again from the newest recovery, `restarts` times at most. What
    a new start does not mend (a user's mistake, a loss that is not finite, SIGTERM) is passed on at once.

    Args:
        lost: set when another took the run over; the processes are then killed, since the work is no longer theirs.
        node: this machine, where it is one of several.

    Raises:
        UserError, WorkFailed: as the processes ended with; TrainingDied after the last restart; SystemExit with code
            143 after SIGTERM.
    """
    step_timeout()  # a mistake in it is said before anything starts
    try:
        _supervise(store, run_key, processes, lost, node, restarts)
    except OSError as error:
        if not is_disk_full(error):
            raise
        raise WorkFailed(disk_full(error)) from error


def _supervise(
    store: Store, run_key: str, processes: int, lost: threading.Event, node: Node | None, restarts: int
) -> None:
    for attempt in range(restarts + 1):
        deliver_kept(store, kept_folder(run_key), run_key)  # SIGTERM ends it at once, since nothing is lost by that
        with _termination() as told, tempfile.TemporaryDirectory(prefix="cps-ranks-") as name:
            code = _attempt(run_key, processes, Path(name), told, lost, node)
            if code == 0:
                return
            if node and code == TERMINATED:
                sys.exit(TERMINATED)  # another node was told to stop, and all have saved
            reason = _reason(Path(name), code, told, alone=processes == 1 and node is None)
        if attempt < restarts:
            progress.say("train", f"{reason}: starting again from the newest recovery ({attempt + 1} of {restarts})")
    if node is not None:
        raise TrainingDied(reason)
    raise TrainingDied(
        f"training died {restarts + 1} times, the last time because {reason}; the log has more, and the same command "
        "goes on from the newest recovery"
    )


def _attempt(
    run_key: str, processes: int, folder: Path, told: threading.Event, lost: threading.Event, node: Node | None
) -> int:
    """The exit code of the child, which has ended; negative where a signal killed it."""
    met_by = time.monotonic() + node.patience if node else math.inf
    child = subprocess.Popen(
        _command(run_key, processes, folder, node),
        env={**os.environ, PARENT_VARIABLE: str(os.getpid())},
        stdin=subprocess.DEVNULL,
        stdout=STDERR,
        start_new_session=True,  # of a signal to our group the child hears once, from us
    )
    passed_on = False
    try:
        while True:
            try:
                return child.wait(POLL_SECONDS)
            except subprocess.TimeoutExpired:
                pass
            if lost.is_set():
                raise WorkFailed(f"another process took over the run {run_key} while this one slept")
            if node and time.monotonic() > met_by and not _started(folder):
                raise TrainingDied(f"not all of the {node.nodes} nodes came within {node.patience:g} s")
            if told.is_set() and not passed_on:
                child.terminate()
                passed_on = True
    finally:
        # The ranks of a launcher that is killed are killed with it.
        child.kill()
        child.wait()


def _command(run_key: str, processes: int, folder: Path, node: Node | None) -> list[str]:
    work = [worker.__file__, run_key, str(folder)]
    if processes > 1 or node:
        place = [f"--nnodes={node.nodes}", f"--rank={node.rank}", f"--master={node.master}"] if node else []
        # Its choice of backend is right: NCCL where there are GPUs, else gloo.
        work = [launcher.__file__, f"--nproc_per_node={processes}", f"--log_dir={folder}", *place, *work]
    return [sys.executable, *work]


def _started(folder: Path) -> bool:
    """Whether the launcher has started its processes, which it does when the launchers of all nodes have met."""
    return any(folder.glob("workerlog.*"))


def _reason(folder: Path, code: int, told: threading.Event, *, alone: bool) -> str:
    """Why an attempt ended, in a few words. Raises what must end the training."""
    left = endings(folder)
    for ending in left:
        if ending.kind == MISTAKE:
            raise UserError(ending.text)
    for ending in left:
        if ending.kind == FAILURE:
            raise WorkFailed(ending.text)
    if told.is_set() or (alone and code in (TERMINATED, -signal.SIGTERM)):
        if left:
            said = f"a process failed as it was told to stop ({left[0].text})"
            progress.say("train", f"{said}: the steps since the newest recovery are lost")
        sys.exit(TERMINATED)
    if shutil.disk_usage(folder).free < ROOM:
        raise WorkFailed(disk_full(OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), str(folder.parent))))
    stacks = [text for path in sorted(folder.glob("stacks.*")) if (text := path.read_text(errors="replace"))]
    logs = [_tail(path) for path in sorted(folder.glob("workerlog.*"))[1:]]  # the launcher has shown the first
    for text in (*logs, *stacks):
        print(text, file=sys.stderr, flush=True)
    if stacks:
        return f"no step in {step_timeout():g} s ({VARIABLE}); what every thread did is in the log"
    if left:
        return f"a process failed ({left[0].text})" if alone else f"a process died; what another says: {left[0].text}"
    return f"a process was killed ({_signal_name(code)})" if _signal_name(code) else f"a process ended with code {code}"


def _tail(path: Path) -> str:
    text = path.read_text(errors="replace")
    return f"{path.name}:\n{text[-LOG_TAIL:]}"


def _signal_name(code: int) -> str:
    """For -9, or for 247, which is what becomes of it when the launcher exits with it."""
    number = -code if code < 0 else 256 - code
    try:
        return signal.Signals(number).name + (": out of memory?" if number == signal.SIGKILL else "")
    except ValueError:
        return ""


@contextmanager
def _termination() -> Iterator[threading.Event]:
    """Within, SIGTERM sets the event and does nothing else."""
    told = threading.Event()

    def note(_number: int, _frame: FrameType | None) -> None:
        told.set()

    before = signal.signal(signal.SIGTERM, note)
    try:
        yield told
    finally:
        signal.signal(signal.SIGTERM, before)
