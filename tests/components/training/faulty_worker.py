"""A training process that records what it does, and meets faults at chosen steps: stands in for worker.py.

FAULTS in the environment is a folder: each file NUMBER.RANK.STEP.KIND in it is a fault that happens once, in whichever
attempt gets there first. record.jsonl takes a line for every step and for every logged point.
"""

import json
import os
import signal
import sys
import time
from pathlib import Path
from typing import Any

sys.path[0] = str(Path(__file__).parents[3])
from components.training import process  # noqa: E402
from components.training.supervision import worker  # noqa: E402

FOLDER = Path(os.environ["FAULTS"])
RANK = int(os.environ.get("PADDLE_TRAINER_ID", "0"))
TIMES = ("seconds_per_step", "loader_wait_share", "system/")


def record(kind: str, **values: Any) -> None:
    line = json.dumps({"kind": kind, "rank": RANK, "pid": os.getpid(), "time": time.time(), **values}) + "\n"
    handle = os.open(FOLDER / "record.jsonl", os.O_WRONLY | os.O_APPEND | os.O_CREAT)
    os.write(handle, line.encode())
    os.close(handle)


def due(step: int, *kinds: str) -> str:
    """The fault that happens now, "" if none."""
    # Only this rank's own: another's may be gone before it is looked at.
    for path in sorted(FOLDER.glob(f"*.{RANK}.{step}.*")):
        kind = path.suffix[1:]
        if kind in kinds:
            path.unlink()
            record("fault", step=step, fault=kind)
            return kind
    return ""


def prepare(*arguments: Any, **named: Any) -> Any:
    from components.training import cps  # imports paddle, which must come after processor.prepare

    training: Any = original(*arguments, **named)
    make, make_step, log = training.data.batch, cps.step, training.tracker.log

    def batch(step: int) -> Any:
        if due(step, "hang"):
            time.sleep(3600)
        return make(step)

    def step(pair: Any, batch: Any, criterion: Any, *, number: int, **others: Any) -> Any:
        fault = due(number, "kill", "terminate", "collapse", "fault", "nan")
        if fault == "kill":
            os.kill(os.getpid(), signal.SIGKILL)
        if fault in ("terminate", "collapse"):
            os.kill(int(os.environ["SUPERVISOR"]), signal.SIGTERM)
            time.sleep(1)  # until it has been passed on
        if fault == "nan":  # in the weights: a batch of NaN becomes 0 in the first ReLU
            last = pair.networks["left"].parameters()[-1]
            last.set_value(last * float("nan"))
        if fault in ("fault", "collapse"):
            raise RuntimeError("something broke")
        losses = make_step(pair, batch, criterion, number=number, **others)
        record("step", step=number, losses=[losses.total, losses.supervised, losses.cross], names=batch.names)
        return losses

    def logged(step: int, metrics: dict[str, float]) -> None:
        record("log", step=step, metrics={name: value for name, value in metrics.items() if not name.startswith(TIMES)})
        log(step, metrics)

    training.data.batch, cps.step, training.tracker.log = batch, step, logged
    record("start")
    return training


original = process.prepare_training
process.prepare_training = prepare
record("process")

if __name__ == "__main__":
    worker.main()
