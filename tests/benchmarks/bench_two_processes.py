"""Training speed of two processes (gloo) against one, the same total batch, on this machine's processors.

python -m tests.benchmarks.bench_two_processes [demo|camvid-mobilenetv2] [ROUNDS]

One process trains each network in a thread of its own; two processes have half the batch each, train one network after
the other, and exchange gradients. The steps are timed from the tenth on, so that starting, and what is decoded once, is
left out of the ratio; "the whole training" has all of it.
"""

import statistics
import sys
import time
from itertools import pairwise

from tests.benchmarks.measure import show
from tests.benchmarks.recorded_training import StoredRun, make_run, recorded_trainings

SETTLED = 10
SIZES = {
    "demo": ("scenes:train=16,val=2,width=192,height=96", {"augmentation.crop": [96, 128], "training.batch_size": 8}),
    "camvid-mobilenetv2": (
        "scenes:train=16,val=2,width=480,height=360",
        {"augmentation.crop": [192, 256], "training.batch_size": 4},
    ),
}
"""Crops and batches are the recipes' own."""
EPOCHS = {"demo": 30, "camvid-mobilenetv2": 8}


def main(recipe: str, rounds: int) -> None:
    source, sizes = SIZES[recipe]
    whole = {"training.epochs": EPOCHS[recipe], "training.checkpoints": 1, "training.recovery_seconds": 1e6}
    with recorded_trainings() as (store, folder):
        run = StoredRun(store, make_run(recipe, source, **sizes, **whole), folder)
        times: dict[int, list[tuple[float, float]]] = {1: [], 2: []}
        for number in range(rounds):
            for processes in (1, 2) if number % 2 == 0 else (2, 1):
                times[processes].append(timed(run, processes))
                run.forget()
        for processes, measured in times.items():
            show(f"{recipe}, processes: {processes}; a step, s", [step for step, _ in measured])
            show("  the whole training, s", [all_of_it for _, all_of_it in measured])
        pairs = list(zip(times[1], times[2], strict=True))
        show("speed of two against one, by the step", [one / two for (one, _), (two, _) in pairs])
        show("  by the whole training", [one / two for (_, one), (_, two) in pairs])


def timed(run: StoredRun, processes: int) -> tuple[float, float]:
    """Seconds of the median step once settled, and of the whole training."""
    began = time.perf_counter()
    run.train(processes)
    whole = time.perf_counter() - began
    moments = sorted(line["time"] for line in run.lines("step") if line["rank"] == 0)[SETTLED:]
    return statistics.median(after - before for before, after in pairwise(moments)), whole


if __name__ == "__main__":
    main(sys.argv[1] if len(sys.argv) > 1 else "demo", int(sys.argv[2]) if len(sys.argv) > 2 else 5)
