"""What share of a CamVid training's time goes into saving and logging. Goal: under 2 %.

CPS_TEST_DATA=… python -m tests.benchmarks.bench_saving

The same number of steps with and without: with them, losses go to MLflow as always, and a recovery and a checkpoint
go to the object store, which is one checkpoint more than most stretches of that length have. Three figures: how much
longer the stretch takes, which includes what the background work takes from the steps and is as noisy as the machine;
how long the steps themselves are held up; and how long the same saving and logging takes with nothing beside it, the
servers' work included, which is the most that it can cost. A stretch is as long as the recipe goes between two
recoveries; CPS_BENCH_STEPS makes it shorter, and the shares larger.
"""

import os
import statistics
import time
from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING, Any

from tests.benchmarks.camvid_training import camvid_training

if TYPE_CHECKING:
    from components.training.loop import Training


def main() -> None:
    rounds = int(os.environ.get("CPS_BENCH_ROUNDS", 3))
    with camvid_training() as training:
        steps = int(os.environ.get("CPS_BENCH_STEPS", 50))
        stretch(training, 5, saving=False)
        ratios, held, alone = [], [], []
        for number in range(rounds):
            order = (True, False) if number % 2 == 0 else (False, True)
            took = {saving: stretch(training, steps, saving=saving) for saving in order}
            ratios.append(took[True][0] / took[False][0] - 1)
            held.append(took[True][1] / took[True][0])
            only, _ = stretch(training, steps, saving=True, computing=False)
            alone.append(only / took[False][0])
            print(
                f"with {took[True][0]:.1f} s, of which held up {took[True][1]:.3f} s; without {took[False][0]:.1f} s; "
                f"saving alone {only:.2f} s"
            )
        for name, shares in (
            ("longer with saving and logging", ratios),
            ("steps held up by it", held),
            ("saving and logging alone", alone),
        ):
            share = statistics.median(shares)
            print(
                f"{name:<34} {share:6.2%} ({min(shares):.2%} to {max(shares):.2%})  "
                f"goal 2 % {'reached' if share < 0.02 else 'MISSED'}  {rounds} rounds of {steps} steps",
                flush=True,
            )


def stretch(training: "Training", steps: int, *, saving: bool, computing: bool = True) -> tuple[float, float]:
    """Seconds for the steps, until all that was saved is stored; and seconds in which nothing was computed for it."""
    from components.training import loop
    from components.training.supervision.pending import pending_folder
    from components.training.supervision.uploads import Uploads
    from components.training.supervision.watchdog import Termination

    held = 0.0

    def timed(work: Callable[..., Any], *arguments: Any, **named: Any) -> None:
        nonlocal held
        began = time.perf_counter()
        work(*arguments, **named)
        held += time.perf_counter() - began

    training.uploads = Uploads(training.store, pending_folder(training.record.run_key))
    pace, stop = loop.Pace(), Termination()
    batches: Iterator[Any] = iter(range(steps))
    if computing:
        batches = training.data.batches(0, steps)
    began = time.perf_counter()
    for step, batch in enumerate(pace.batches(batches)):
        if computing:
            loop._step(training, step, batch, stop)
        else:
            training.sums.update(dict.fromkeys((*loop.CURVES, "steps"), 1.0))
        if not saving:
            continue
        timed(loop._log, training, step, pace)
        if step == steps // 2:
            timed(loop._save_recovery, training, step + 1)
            timed(loop._save_checkpoint, training, 1, step)
    training.uploads.finish()
    return time.perf_counter() - began, held


if __name__ == "__main__":
    main()
