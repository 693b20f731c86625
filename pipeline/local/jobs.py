"""What this machine knows of its local runs: their processes, logs and datasets, also after they have been killed.

<home>/jobs/<process id>.json     a run in progress; it stays behind if the process is killed
<home>/runs/<run key>/run.log     a link to the run's newest log
<home>/runs/<run key>/source.txt  the dataset as it was given
<home>/requests/<digest>          the key of the run that a request gave when it was last made here
"""

import hashlib
import os
import time
from collections.abc import Iterator, Mapping
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING

import psutil
from pydantic import BaseModel, ValidationError

from components.contract import canonical_json
from components.dataset.sources.address import STORED
from components.errors import UserError, WorkFailed
from components.files import replacing, write_whole
from components.storage.client import Store
from pipeline.local import processes
from pipeline.local.processes import ProcessRecord

if TYPE_CHECKING:
    from components.runs.request import RunRequest


class Job(BaseModel, frozen=True):
    """A run that a process on this machine works on. `began` is in seconds since 1970."""

    run_key: str
    dataset: str
    """The dataset's name."""
    began: float
    process: ProcessRecord


class JobNote:
    """The note of the run that this process works on, once its key is known. Nothing depends on it being written."""

    def __init__(self, home: Path, log: Path, source: str, request: "RunRequest | None" = None) -> None:
        self._home, self._log, self._source, self._request = home, log, source, request
        self._path = home / "jobs" / f"{os.getpid()}.json"

    def write(self, run_key: str, dataset: str) -> None:
        own = psutil.Process()
        record = ProcessRecord(pid=own.pid, started=own.create_time(), command=tuple(own.cmdline()))
        job = Job(run_key=run_key, dataset=dataset, began=time.time(), process=record)
        folder = self._home / "runs" / run_key
        with suppress(OSError):
            self._path.parent.mkdir(parents=True, exist_ok=True)
            folder.mkdir(parents=True, exist_ok=True)
            with replacing(self._path) as partial:
                partial.write_text(job.model_dump_json())
            if not self._source.startswith(STORED):
                (folder / "source.txt").write_text(self._source)
            if self._request is not None:
                noted = _request_note(self._home, self._request)
                write_whole(noted, run_key)
            with replacing(folder / "run.log") as link:
                link.symlink_to(self._log.resolve())
            self._take_over(run_key)

    def _take_over(self, run_key: str) -> None:
        """Remove the notes of killed processes that worked on the run: this one continues and closes it."""
        for path, job in _jobs(self._home):
            if path != self._path and job.run_key == run_key and not processes.is_running(job.process):
                path.unlink(missing_ok=True)

    def remove(self) -> None:
        with suppress(OSError):
            self._path.unlink(missing_ok=True)


def run_of(home: Path, request: "RunRequest") -> str:
    """Return the key of the run that this request gave when it was last made here, or an empty string.

    The request may give another run now, if the dataset's or the recipe's files have changed.
    """
    path = _request_note(home, request)
    return path.read_text() if path.exists() else ""


def _request_note(home: Path, request: "RunRequest") -> Path:
    text = canonical_json(request.model_dump(mode="json"))
    return home / "requests" / hashlib.sha256(text).hexdigest()[:32]


def log_of(home: Path, run_key: str) -> Path | None:
    """Return the newest log of a run, or None if this machine has none."""
    path = home / "runs" / run_key / "run.log"
    return path if path.exists() else None


def source_of(home: Path, run_key: str) -> str:
    """Return the dataset of a run as it was given, or an empty string if this machine did not start the run."""
    path = home / "runs" / run_key / "source.txt"
    return path.read_text() if path.exists() else ""


def is_running(home: Path, run_key: str) -> bool:
    """Return whether a process on this machine works on the run."""
    return any(job.run_key == run_key and processes.is_running(job.process) for _, job in _jobs(home))


def any_jobs(home: Path) -> bool:
    """Return whether a run is in progress or was killed, so that `close_interrupted` has something to look at."""
    return any((home / "jobs").glob("*.json"))


def close_interrupted(home: Path, store: Store, environ: Mapping[str, str]) -> None:
    """Mark the runs whose processes were killed as interrupted, in the store and in MLflow."""
    from components.runs.finish import close_interrupted_run

    for path, job in _jobs(home):
        if processes.is_running(job.process):
            continue
        try:
            if close_interrupted_run(store, job.run_key, job.dataset, job.began, environ):
                path.unlink(missing_ok=True)
        except (UserError, WorkFailed):
            continue  # the store that is used now is not the run's


def _jobs(home: Path) -> Iterator[tuple[Path, Job]]:
    for path in sorted((home / "jobs").glob("*.json")):
        try:
            yield path, Job.model_validate_json(path.read_bytes())
        except (OSError, ValidationError):
            continue  # removed meanwhile, or of another version
