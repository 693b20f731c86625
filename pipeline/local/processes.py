"""Start servers that outlive their command, recognise them later, and stop them with all their children."""

import os
import signal
import subprocess
import time
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path

import psutil
from pydantic import BaseModel

from components.errors import WorkFailed

_GONE = (psutil.NoSuchProcess, psutil.AccessDenied)

# Children of this process. It must wait for them, or they stay in the process table as zombies.
_children: dict[int, subprocess.Popen[bytes]] = {}


class ProcessRecord(BaseModel, frozen=True):
    """A process, distinguishable from a later one with the same pid. `started` is in seconds since the epoch."""

    pid: int
    started: float
    command: tuple[str, ...]


def start(
    command: Sequence[str], *, folder: Path, log: Path, environment: Mapping[str, str], inherit: int
) -> ProcessRecord:
    """Start a server in its own session, so that neither Ctrl-C nor a closed terminal reaches it.

    It runs in `folder`, appends its output to `log`, and inherits the open file `inherit`.
    """
    with log.open("ab") as output:
        child = subprocess.Popen(
            command,
            cwd=folder,
            env=dict(environment),
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=output,
            start_new_session=True,
            pass_fds=(inherit,),
        )
    _children[child.pid] = child
    return ProcessRecord(pid=child.pid, started=time.time(), command=tuple(command))


def is_running(record: ProcessRecord) -> bool:
    """Return whether this process is running, and not just another with its pid."""
    if record.pid in _children:
        _children[record.pid].poll()
    try:
        process = psutil.Process(record.pid)
        if _has_ended(process):
            return False
        # Either match suffices: clock changes shift start times, and some servers rewrite their command line.
        return bool(abs(process.create_time() - record.started) < 2 or tuple(process.cmdline()) == record.command)
    except _GONE:
        return False


def stop(records: Iterable[ProcessRecord], grace: float = 15) -> None:
    """Stop servers and all their children; kill those that are still running after `grace` seconds.

    Raises WorkFailed if SIGKILL has no effect, as with a process that waits for a failed disk.
    """
    remaining = list(records)
    for number, seconds in ((signal.SIGTERM, grace), (signal.SIGKILL, 10)):
        for record in remaining:
            _signal(record, number)
        deadline = time.monotonic() + seconds
        while (remaining := [record for record in remaining if _members(record)]) and time.monotonic() < deadline:
            time.sleep(0.05)
    if remaining:
        raise WorkFailed(
            f"cannot stop process {', '.join(str(record.pid) for record in remaining)}: it ignores SIGKILL"
        )


def _signal(record: ProcessRecord, number: signal.Signals) -> None:
    for process in _members(record):
        try:
            process.send_signal(number)
        except _GONE:
            continue


def _members(record: ProcessRecord) -> list[psutil.Process]:
    """Return the server and its children, which may outlive it if it is killed.

    A session reserves the pid of its first process. If the pid is free, the session is still ours; if another process
    has it, our session has ended.
    """
    members = []
    for process in psutil.process_iter():
        try:
            if os.getsid(process.pid) != record.pid or _has_ended(process):
                continue
        except (OSError, *_GONE):
            continue
        if process.pid == record.pid and not is_running(record):
            return []
        members.append(process)
    return members


def _has_ended(process: psutil.Process) -> bool:
    """Return whether the process is a zombie.

    If only its first thread has ended, the other threads still hold its ports and locks.
    """
    return bool(process.status() == psutil.STATUS_ZOMBIE and process.num_threads() <= 1)
