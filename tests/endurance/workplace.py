"""A folder with its own services, in which the whole pipeline runs on a few tiny scenes, and what may stay behind."""

import json
import os
import re
import signal
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import psutil

from components.files import holding
from components.storage import keys
from components.storage.client import Store
from components.storage.lease import held_by
from pipeline.local.services import running_object_store, services_down, services_up, wait_tracking
from tests.project_files import REPOSITORY

SCENES = "scenes:train=16,val=4,width=128,height=64,seed=0"
SETTINGS = (
    "augmentation.crop=[64, 64]",
    "evaluation.crop=[64, 64]",
    "evaluation.stride=[64, 64]",
    "training.checkpoints=3",
    "training.recovery_steps=2",
)
RUN = (
    *("run", "--json", "--dataset", SCENES, "--ratio", "1/4", "--predict-limit", "2"),
    *(word for setting in SETTINGS for word in ("--set", setting)),
)
_STEP = re.compile(r"\[([\w-]+)\] step \d of 7")
GONE_SECONDS = 60
"""Seconds that processes get to end after their parent was killed."""


@dataclass
class Command:
    """A `cps` command in progress, and the moment at which each step of the pipeline began."""

    process: "subprocess.Popen[str]"
    began: float = field(default_factory=time.monotonic)
    steps: dict[str, float] = field(default_factory=dict)
    said: list[str] = field(default_factory=list)
    changed: threading.Condition = field(default_factory=threading.Condition)

    def follow(self) -> None:
        assert self.process.stderr is not None
        with self.process.stderr as lines:
            for line in lines:
                with self.changed:
                    self.said.append(line)
                    if found := _STEP.match(line):
                        self.steps[found[1]] = time.monotonic()
                    self.changed.notify_all()
        with self.changed:
            self.changed.notify_all()

    def wait_for(self, step: str, seconds: float) -> bool:
        """Wait for a step to begin; returns False if the command ends first or the seconds are over."""
        with self.changed:
            self.changed.wait_for(lambda: step in self.steps or self.process.poll() is not None, seconds)
            return step in self.steps

    def members(self) -> list[psutil.Process]:
        try:
            own = psutil.Process(self.process.pid)
            return [own, *own.children(recursive=True)]
        except psutil.NoSuchProcess:
            return []


@dataclass
class Workplace:
    folder: Path
    extra: tuple[str, ...] = ()
    """More options of `cps run`."""
    source: Path = REPOSITORY
    """The version of this project that the commands run."""

    @property
    def home(self) -> Path:
        return self.folder / "home"

    @property
    def environment(self) -> dict[str, str]:
        foreign = ("AWS_", "MLFLOW_", "CPS_", "KFP_")
        clean = {name: value for name, value in os.environ.items() if not name.startswith(foreign)}
        temporary = self.folder / "tmp"
        temporary.mkdir(exist_ok=True)
        return {
            **clean,
            "CPS_HOME": str(self.home),
            "CPS_CACHE": str(self.folder / "cache"),
            "TMPDIR": str(temporary),
            "PYTHONPATH": str(self.source),
        }

    def start(self, *arguments: str) -> Command:
        process = subprocess.Popen(
            [sys.executable, "-m", "pipeline.cli", *arguments],
            cwd=self.folder,
            env=self.environment,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            start_new_session=True,
        )
        command = Command(process)
        threading.Thread(target=command.follow, daemon=True).start()
        return command

    def run(self) -> tuple[Any, Command]:
        """Run the pipeline to its end. Returns its result and the command."""
        command = self.start(*RUN, *self.extra)
        assert command.process.stdout is not None
        with command.process.stdout as stream:
            out = stream.read()
        if command.process.wait() != 0:
            raise SystemExit("".join(command.said[-20:]))
        return json.loads(out), command

    def store(self) -> Store:
        settings = running_object_store(self.home)
        assert settings is not None
        return Store(settings)

    def forget(self) -> None:
        """Remove everything that the runs have stored, so that the next one begins anew."""
        store = self.store()
        store.check()
        for ref in store.list(""):
            if ref.key != keys.CONDITIONAL:
                store.remove(ref.key)

    def stored_result(self, run_key: str) -> dict[str, Any]:
        """Return the result, and the digest of each checkpoint's tensors: equal for runs that are equal bit for bit."""
        store = self.store()
        index = store.get_json(keys.checkpoint_index(run_key))
        return {
            "result": store.get_json(keys.run(run_key, "result.json")),
            "checkpoints": [(entry["epoch"], entry["content"]) for entry in index["checkpoints"]],
        }

    def left_behind(self) -> list[str]:
        """Return a line for each process, lease, unfinished upload and temporary file that no command needs."""
        store = self.store()
        found = [f"process {process.pid}: {' '.join(process.cmdline())[:80]}" for process in self.processes()]
        found += [
            f"lease {ref.key}" for ref in store.list("") if ref.key.endswith("lease.json") and _held(store, ref.key)
        ]
        found += [f"unfinished upload of {upload.key}" for upload in store.unfinished_uploads()]
        found += [f"note {path.name}" for path in (self.home / "jobs").glob("*")]
        found += [f"temporary {path.name}" for path in (self.folder / "tmp").iterdir()]
        found += [f"partial {path}" for path in self.folder.rglob("*.partial*")]
        for path in Path(f"/dev/shm/cps-{os.getuid()}").glob("*"):
            if path.name in self._datasets(store):
                with suppress(OSError), holding(path / ".lock", os.O_RDWR, wait=False):  # another run may use it
                    found.append(f"shared memory {path.name}")
        return found

    def _datasets(self, store: Store) -> set[str]:
        return {ref.key.split("/")[1] for ref in store.list(keys.DATASETS)}

    def processes(self) -> list[psutil.Process]:
        """Return this workplace's processes other than its servers."""
        found = []
        for process in psutil.process_iter():
            try:
                own = process.environ().get("CPS_HOME") == str(self.home)
                if own and os.getsid(process.pid) not in self.servers() and process.status() != psutil.STATUS_ZOMBIE:
                    found.append(process)
            except (psutil.Error, OSError):
                continue
        return found

    def servers(self) -> list[int]:
        state = json.loads((self.home / "services.json").read_text())
        return [service["process"]["pid"] for service in state.values() if service and service["process"]]


def _held(store: Store, key: str) -> bool:
    return held_by(store, key) is not None


@contextmanager
def workplace(folder: Path | None = None, extra: tuple[str, ...] = ()) -> Iterator[Workplace]:
    """Yield a workplace whose services run, and stop them in the end."""
    with tempfile.TemporaryDirectory(prefix="endurance-") as temporary:
        place = Workplace(folder or Path(temporary), extra)
        place.folder.mkdir(parents=True, exist_ok=True)
        before = os.environ.copy()
        os.environ.clear()
        os.environ.update(place.environment)  # the servers are recognised by it, too
        try:
            services_up(place.home)
            wait_tracking(place.home, 900)  # a busy machine
            yield place
        finally:
            services_down(place.home)
            os.environ.clear()
            os.environ.update(before)


def kill(command: Command, *, everything: bool) -> None:
    """Kill a command with SIGKILL, alone or with all the processes that it has started."""
    for process in command.members() if everything else command.members()[:1]:
        try:
            process.send_signal(signal.SIGKILL)
        except psutil.NoSuchProcess:
            continue
    command.process.wait()


def wait_until_gone(place: Workplace, seconds: float = GONE_SECONDS) -> list[psutil.Process]:
    """Wait for the processes of a killed command to end, and return those that have not."""
    deadline = time.monotonic() + seconds
    while (left := place.processes()) and time.monotonic() < deadline:
        time.sleep(0.2)
    return left
