"""Run the parts of the check one after the other, and judge what they measured."""

import json
import os
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from components.step_guard import PARENT_VARIABLE
from components.training.gpu_check import part
from components.training.gpu_check.part import ERROR, PRECISIONS, Place
from components.training.gpu_check.sizes import SIZES
from components.training.gpu_check.table import (
    DeviceFacts,
    Row,
    SharedFacts,
    SweepFacts,
    TrainingFacts,
    device_row,
    shared_rows,
    sweep_row,
    training_rows,
    transfers_row,
)
from components.training.supervision import launcher

DEVICES = tuple(SIZES)
NEEDS_GPU = ("TF32", "bfloat16")
WITHOUT_GPUS = {"CUDA_VISIBLE_DEVICES": "", "HIP_VISIBLE_DEVICES": ""}
Found = dict[str, Any]


def check_device(device: str) -> Iterator[Row]:
    """Train and score on the device, one of DEVICES, and yield each row of the table as it is known.

    On the CPU, everything is small, and training takes the code paths for GPUs.
    """
    with tempfile.TemporaryDirectory(prefix="cps-gpu-check-", dir=os.environ.get("CPS_WORK")) as name:
        parts = _Parts(Place(device, Path(name)))
        found = parts.run("device")
        if ERROR in found:
            yield Row("device", "", state="FAILED", reason=found[ERROR])
            return
        facts = DeviceFacts.model_validate(found)
        yield device_row(facts)
        drawn = parts.run("pictures")
        if ERROR in drawn:
            yield Row("pictures to train on", "", state="FAILED", reason=drawn[ERROR])
            return
        yield from _training(parts, facts)
        yield from _shared(parts, facts)
        yield from _sweep(parts)


class _Parts:
    """Processes that each run one part within the time that is left."""

    def __init__(self, place: Place) -> None:
        self.place, self.size = place, SIZES[place.device]
        self._until = time.monotonic() + self.size.seconds

    def run(self, name: str, *, processes: int = 1, on_cpu: bool = False) -> Found:
        """Return what the part found, or the reason under ERROR.

        Args:
            on_cpu: hide the GPUs from it.
        """
        left = self._until - time.monotonic()
        if left <= 0:
            return {ERROR: f"not run: the check is limited to {self.size.seconds:g} s, which are used up"}
        log, work = self.place.folder / f"{name}.log", [part.__file__, name, self.place.device, str(self.place.folder)]
        if processes > 1:
            work = [launcher.__file__, f"--nproc_per_node={processes}", f"--log_dir={self.place.folder}", *work]
        environment = {**os.environ, PARENT_VARIABLE: str(os.getpid()), **(WITHOUT_GPUS if on_cpu else {})}
        with log.open("wb") as output:
            try:
                code = subprocess.run(
                    [sys.executable, *work],
                    env=environment,
                    stdin=subprocess.DEVNULL,
                    stdout=output,
                    stderr=subprocess.STDOUT,
                    timeout=left,
                    check=False,
                ).returncode
            except subprocess.TimeoutExpired:
                return {ERROR: f"did not end within the {self.size.seconds:g} s to which the check is limited"}
        return self._found(name, code, log)

    def _found(self, name: str, code: int, log: Path) -> Found:
        path = self.place.folder / f"{name}.json"
        if path.exists():
            found: Found = json.loads(path.read_text())
            return found
        if code < 0:
            killed = signal.Signals(-code).name
            return {ERROR: f"its process was ended by {killed}{': out of memory?' if killed == 'SIGKILL' else ''}"}
        lines = log.read_text(errors="replace").strip().splitlines()
        return {ERROR: f"its process ended with code {code}: {lines[-1] if lines else 'without a message'}"}


def _training(parts: _Parts, facts: DeviceFacts) -> Iterator[Row]:
    reference = parts.run("reference", on_cpu=True)
    if ERROR in reference:
        yield Row("first loss on the CPU", "", state="FAILED", reason=reference[ERROR])
    on_gpu = parts.place.device == "gpu"
    transfers: Row | None = None
    for name in PRECISIONS:
        if name in NEEDS_GPU and not on_gpu:
            yield Row(name, "", state="skipped", reason="needs a GPU")
            continue
        found = parts.run(name)
        if ERROR in found:
            yield Row(name, "", state="FAILED", reason=found[ERROR])
            continue
        trained = TrainingFacts.model_validate(found)
        yield from training_rows(name, trained, reference.get("loss"), facts.memory, limited=on_gpu)
        transfers = transfers or transfers_row(trained)
    yield transfers or Row("transfers of a step", "", state="skipped", reason="no training ended")


def _shared(parts: _Parts, facts: DeviceFacts) -> Iterator[Row]:
    check = "two processes"
    if parts.place.device == "gpu" and facts.cards < 2:
        yield Row(check, "", state="skipped", reason="needs two GPUs; this machine has one")
        return
    for name, processes in (("shared", 2), ("alone", 1)):
        found = parts.run(name, processes=processes)
        if ERROR in found:
            yield Row(check, "", state="FAILED", reason=found[ERROR])
            return
    yield from shared_rows(SharedFacts.model_validate(found))


def _sweep(parts: _Parts) -> Iterator[Row]:
    for name, on_cpu in (("scored", False), ("compared", True)):
        found = parts.run(name, on_cpu=on_cpu)
        if ERROR in found:
            yield Row("sweep of two checkpoints", "", state="FAILED", reason=found[ERROR])
            return
    yield sweep_row(SweepFacts.model_validate(found))
