"""Several training processes on this machine by paddle.distributed.launch, started again when one dies."""

import os
import signal
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from types import FrameType

from components import progress
from components.errors import UserError, WorkFailed
from components.running import TERMINATED
from components.training import worker

RESTARTS = 3


def train_in_processes(run_key: str, processes: int) -> None:
    """Train with `processes` ranks until the index is written.

    A rank that dies ends the others; they start again from the newest recovery, RESTARTS times at most.
    Raises WorkFailed with the last lines of the rank that failed.
    """
    for attempt in range(RESTARTS + 1):
        with tempfile.TemporaryDirectory(prefix="cps-ranks-") as folder:
            code = _launch(run_key, processes, Path(folder))
            if code == 0:
                return
            if code in (TERMINATED, -signal.SIGTERM):
                sys.exit(TERMINATED)
            lines = _last_lines(Path(folder))
        if lines.startswith(worker.USER_ERROR):
            raise UserError(lines.removeprefix(worker.USER_ERROR))
        if attempt < RESTARTS:
            progress.say("train", f"a process died (code {code}): starting again from the newest recovery; {lines}")
    raise WorkFailed(f"training in {processes} processes failed {RESTARTS + 1} times; the last words: {lines}")


def _launch(run_key: str, processes: int, folder: Path) -> int:
    command = [
        sys.executable,
        "-m",
        "paddle.distributed.launch",
        f"--nproc_per_node={processes}",
        f"--log_dir={folder}",
        worker.__file__,
        run_key,
    ]
    environment = {**os.environ, "PADDLE_DISTRI_BACKEND": os.environ.get("PADDLE_DISTRI_BACKEND", "gloo")}
    with subprocess.Popen(command, env=environment, stdout=sys.stderr) as process, _forwarded(process):
        return process.wait()


@contextmanager
def _forwarded(process: subprocess.Popen[bytes]) -> Iterator[None]:
    """Within, SIGTERM goes to the launcher, which passes it on to the ranks."""

    def forward(_number: int, _frame: FrameType | None) -> None:
        process.terminate()

    before = signal.signal(signal.SIGTERM, forward)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)


def _last_lines(folder: Path) -> str:
    """What the ranks said last, as one line; a user's mistake goes before anything else."""
    texts = [path.read_text(errors="replace").strip().splitlines() for path in sorted(folder.glob("workerlog.*"))]
    for lines in texts:
        for line in lines:
            if line.startswith(worker.USER_ERROR):
                return line
    return " | ".join(lines[-1] for lines in texts if lines)
