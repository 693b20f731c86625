"""How long a training of two processes takes to go on after one of them was killed, and a single one likewise.

python -m tests.benchmarks.bench_recovery

From SIGKILL to: all processes of the attempt gone; the first new step. Most of it is starting Python and Paddle anew.
"""

import os
import sys
import tempfile
from pathlib import Path
from types import SimpleNamespace

from components.training import supervisor
from tests.benchmarks.measure import object_store

TESTS = Path(__file__).parents[1] / "components" / "training"
sys.path.append(str(TESTS))
from stored_run import STEPS, StoredRun, make_run  # noqa: E402

KILLED_AT = STEPS // 2


def main() -> None:
    supervisor.worker = SimpleNamespace(__file__=str(TESTS / "faulty_worker.py"))  # type: ignore[assignment]
    with object_store() as store, tempfile.TemporaryDirectory() as name:
        settings = store.settings
        os.environ.update(
            AWS_ENDPOINT_URL=settings.endpoint,
            AWS_ACCESS_KEY_ID=settings.access_key,
            AWS_SECRET_ACCESS_KEY=settings.secret_key,
            CPS_BUCKET=settings.bucket,
            CPS_CACHE=f"{name}/cache",
            FAULTS=f"{name}/faults",
            SUPERVISOR=str(os.getpid()),
        )
        os.environ.pop("MLFLOW_TRACKING_URI", None)
        store.check()
        run = StoredRun(store, make_run(), Path(name) / "faults")
        for processes in (1, 2):
            measure(run, processes)
            run.forget()


def measure(run: StoredRun, processes: int) -> None:
    run.train(processes, (processes - 1, KILLED_AT, "kill"))
    [killed] = [line["time"] for line in run.lines("fault")]
    began, prepared, stepped = (
        min(line["time"] for line in run.after(kind, killed)) - killed for kind in ("process", "start", "step")
    )
    again = KILLED_AT - min(line["step"] for line in run.after("step", killed))
    print(
        f"processes: {processes}; seconds from SIGKILL until all are gone and new ones run Python {began:.1f}, "
        f"are prepared {prepared:.1f}, have made a step {stepped:.1f}; steps made twice: {again}",
        flush=True,
    )


if __name__ == "__main__":
    main()
