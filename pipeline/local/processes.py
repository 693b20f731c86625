"""Servers that outlive the command that started them: known again later, and stopped with all their children."""

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

# Children of this very process: they must be waited for, or they stay in the process table when they end.
_children: dict[int, subprocess.Popen[bytes]] = {}


class ProcessRecord(BaseModel, frozen=True):
    """A process, and what tells it from another that got its pid later. `started` is in seconds since the epoch."""

    pid: int
    started: float
    command: tuple[str, ...]


def start(
    command: Sequence[str], *, folder: Path, log: Path, environment: Mapping[str, str], inherit: int
) -> ProcessRecord:
    """Start a server in a session of its own, so that no Ctrl-C and no closed terminal reaches it.

    It works in `folder`, appends what it says to `log`, and keeps the open file `inherit`.
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
    """Whether that process, and not just one with its pid, is there."""
    if record.pid in _children:
        _children[record.pid].poll()
    try:
        process = psutil.Process(record.pid)
        if _has_ended(process):
            return False
        # Either is enough: a clock that was set changes start times, and some servers rewrite their command.
        return bool(abs(process.create_time() - record.started) < 2 or tuple(process.cmdline()) == record.command)
    except _GONE:
        return False


def stop(records: Iterable[ProcessRecord], grace: float = 15) -> None:
    """End servers and all their children; what is still there after `grace` seconds is killed.

    Raises WorkFailed where even that does not help, as with a process that waits for a dead disk.
    """
    remaining = list(records)
    for number, seconds in ((signal.SIGTERM, grace), (signal.SIGKILL, 10)):
        for record in remaining:
            _signal(record, number)
        deadline = time.monotonic() + seconds
        while (remaining := [record for record in remaining if _members(record)]) and time.monotonic() < deadline:
            time.sleep(0.05)
    if remaining:
        raise WorkFailed(f"cannot end process {', '.join(str(record.pid) for record in remaining)}: it ignores SIGKILL")


def _signal(record: ProcessRecord, number: signal.Signals) -> None:
    for process in _members(record):
        try:
            process.send_signal(number)
        except _GONE:
            continue


def _members(record: ProcessRecord) -> list[psutil.Process]:
    """The server and its children, which it may leave behind when it is killed.

    A session keeps the pid of its first process reserved. So where that pid is free the session is ours still,
    and where another process has it, our session has ended.
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
    """Whether only its entry in the process table is left, which its parent has yet to take note of.

    The first thread may have ended before the others, which then still hold the ports and locks of them all.
    """
    return bool(process.status() == psutil.STATUS_ZOMBIE and process.num_threads() <= 1)
