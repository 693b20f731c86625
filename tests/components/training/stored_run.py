"""A small run in a real object store, trained in processes that meet faults, and what came of it."""

import json
import os
from dataclasses import dataclass
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from components.runs.checkpoints import finished_index
from components.runs.request import RunRequest
from components.runs.steps import prepare_dataset, split_labels_step
from components.storage import keys
from components.storage.client import Store
from components.training.recovery import remove_recovery
from components.training.supervision import supervisor
from components.training.train import train
from tests.once import Once

OVERRIDES = {
    "augmentation.crop": [48, 64],
    "training.epochs": 6,
    "training.checkpoints": 3,
    "training.batch_size": 2,
    "training.recovery_steps": 5,
    "cps.burn_in": 0.25,
    "training.recovery_seconds": 1e6,
}
STEPS = 36


SCENES = "scenes:train=16,val=2,width=96,height=64"


def make_run(recipe: str = "demo", source: str = SCENES, **overrides: Any) -> str:
    """A run key; dataset, split and record are in the store that the environment names."""
    request = RunRequest(
        dataset=source, labeled_ratio="1/4", recipe=recipe, overrides={**OVERRIDES, **overrides}, seed=3
    )
    return split_labels_step(prepare_dataset(request).digest, request, "job")


@dataclass
class StoredRun:
    """A run whose trainings are recorded."""

    store: Store
    run_key: str
    folder: Path
    by_all: Once | None = None
    """Where trainings without a fault are shared; without it, they are not."""

    def train(self, processes: int = 1, *faults: tuple[int, int, str]) -> None:
        """Train with faults: (rank, step, kind)."""
        self.meet(*faults)
        train(self.run_key, processes)

    def meet(self, *faults: tuple[int, int, str]) -> None:
        """Have the next training meet faults."""
        self.folder.mkdir(exist_ok=True)
        for number, (rank, step, kind) in enumerate(faults):
            (self.folder / f"{number}.{rank}.{step}.{kind}").touch()

    def lines(self, kind: str) -> list[dict[str, Any]]:
        path = self.folder / "record.jsonl"
        found = [json.loads(line) for line in path.read_text().splitlines()] if path.exists() else []
        return [line for line in found if line["kind"] == kind]

    def after(self, kind: str, moment: float) -> list[dict[str, Any]]:
        """Lines of processes that began after a moment."""
        new = {line["pid"] for line in self.lines("process") if line["time"] > moment}
        return [line for line in self.lines(kind) if line["pid"] in new]

    def curve(self) -> dict[str, set[str]]:
        """What was computed and logged at each step by each rank; one entry each, unless a repeated step differed."""
        found: dict[str, set[str]] = {}
        for line in self.lines("step"):
            found.setdefault(f"step {line['step']} rank {line['rank']}", set()).add(str(line["losses"]))
        for line in self.lines("log"):
            found.setdefault(f"logged {line['step']}", set()).add(str(line["metrics"]))
        return found

    def digests(self) -> list[tuple[int, str]]:
        index = finished_index(self.store, self.run_key)
        assert index is not None
        return [(entry.epoch, entry.sha256) for entry in index.checkpoints]

    def forget(self) -> None:
        """As if it had never been trained."""
        for item in self.store.list(keys.run(self.run_key, "checkpoints/")):
            self.store.remove(item.key)
        remove_recovery(self.store, self.run_key)
        for path in self.folder.glob("*"):
            path.unlink()

    def undisturbed(self, processes: int) -> "Undisturbed":
        """What comes of this run without faults. Every store holds the same run, so one training serves all tests."""
        assert self.by_all is not None
        return self.by_all.get(f"undisturbed-{processes}", lambda: self._undisturbed(processes))

    def _undisturbed(self, processes: int) -> "Undisturbed":
        self.train(processes)
        found = Undisturbed(self.digests(), self.curve(), self.lines("step"))
        assert len(found.digests) == OVERRIDES["training.checkpoints"]
        assert len(found.steps) == STEPS * processes
        self.forget()
        return found


@dataclass(frozen=True)
class Undisturbed:
    """A training that met no fault: checkpoints, curve, and the recorded steps."""

    digests: list[tuple[int, str]]
    curve: dict[str, set[str]]
    steps: list[dict[str, Any]]


@pytest.fixture
def stored_run(store, store_environment, by_all, tmp_path, monkeypatch) -> StoredRun:  # noqa: ARG001
    monkeypatch.setenv("CPS_CACHE", str(tmp_path / "cache"))
    monkeypatch.setenv("FAULTS", str(tmp_path / "faults"))
    (tmp_path / "faults").mkdir()
    monkeypatch.setenv("SUPERVISOR", str(os.getpid()))
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)
    monkeypatch.setattr(
        supervisor, "worker", SimpleNamespace(__file__=str(Path(__file__).with_name("faulty_worker.py")))
    )
    return StoredRun(store, make_run(), tmp_path / "faults", by_all)
