"""What share of a CamVid training's time a step waits for its batch, loader threads on. Goal: under 3 %.

CPS_TEST_DATA=… python -m tests.benchmarks.bench_loader_stall
"""

import os
import statistics

from tests.benchmarks.camvid_training import camvid_training

WINDOW = 10


def main() -> None:
    windows = int(os.environ.get("CPS_BENCH_ROUNDS", 6))
    with camvid_training() as training:
        from components.training.loop import Pace, _step
        from components.training.supervision.watchdog import Termination

        pace, stop = Pace(), Termination()
        steps = WINDOW * (windows + 1)
        loaded = training.data.batches(0, steps)
        shares, seconds = [], []
        for step, batch in enumerate(pace.batches(loaded)):
            _step(training, step, batch, stop)
            if (step + 1) % WINDOW == 0:
                each, share = pace.report()
                seconds.append(each)
                shares.append(share)
        # The first batches are decoded while nothing computes yet: a start, which `first` shows.
        first, *shares = shares
        share = statistics.median(shares)
        print(
            f"waiting for data {share:.2%} of the time ({min(shares):.2%}-{max(shares):.2%}; first {first:.2%})  "
            f"goal 3 % {'reached' if share < 0.03 else 'MISSED'}  {statistics.median(seconds[1:]):.2f} s/step, "
            f"{windows} windows of {WINDOW} steps",
            flush=True,
        )


if __name__ == "__main__":
    main()
