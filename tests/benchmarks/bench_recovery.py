"""How long a training takes to go on after one of its processes was killed, against the start of a training.

python -m tests.benchmarks.bench_recovery [ROUNDS]

From SIGKILL to: all processes of the attempt gone and new ones in Python; prepared; the first new step. Most of it is
starting Python and Paddle anew, which the start of the same training costs as well. At most `training.recovery_steps`
steps are made twice, 5 here, unless a recovery was still on its way to the store.
"""

import sys
import time
from collections import defaultdict

from tests.benchmarks.measure import show
from tests.benchmarks.recorded_training import STEPS, StoredRun, make_run, recorded_trainings

KILLED_AT = STEPS // 2


def main(rounds: int) -> None:
    with recorded_trainings() as (store, folder):
        run = StoredRun(store, make_run(), folder)
        for processes in (1, 2):
            found = defaultdict[str, list[float]](list)
            for _ in range(rounds):
                for name, value in measured(run, processes).items():
                    found[name].append(value)
                run.forget()
            for name, values in found.items():
                show(f"{processes} process{'es' if processes > 1 else ''}: {name}", values)


def measured(run: StoredRun, processes: int) -> dict[str, float]:
    """Of a training whose last process is killed once."""
    began = time.time()
    run.train(processes, (processes - 1, KILLED_AT, "kill"))
    [killed] = [line["time"] for line in run.lines("fault")]
    fresh = min(line["time"] for line in run.lines("step")) - began
    gone, prepared, stepped = (
        min(line["time"] for line in run.after(kind, killed)) - killed for kind in ("process", "start", "step")
    )
    return {
        "all gone and new ones run, s": gone,
        "prepared, s": prepared,
        "a new step made, s": stepped,
        "against the start of the training": stepped / fresh,
        "steps made twice": KILLED_AT - min(line["step"] for line in run.after("step", killed)),
    }


if __name__ == "__main__":
    main(int(sys.argv[1]) if len(sys.argv) > 1 else 3)
