"""What the audit of pseudo labels adds to a CamVid training step that it looks at.

python -m tests.benchmarks.bench_audit
"""

import statistics
from functools import partial
from typing import Any

from tests.benchmarks.camvid_training import camvid_training
from tests.benchmarks.measure import seconds

STEPS = 25


def main() -> None:
    with camvid_training() as training:
        from components.training import cps  # imports paddle, which camvid_training prepares

        audit = training.audit
        assert audit is not None
        steps, audits = list[float](), list[float]()
        for step in range(STEPS):
            batch = training.data.batch(step)
            looks = list[float]()

            def watch(pseudo: list, step: int = step, looks: list = looks, batch: Any = batch) -> None:
                looks.append(seconds(partial(audit.observe, step, batch, pseudo)))

            whole = seconds(
                partial(
                    cps.step,
                    training.pair,
                    batch,
                    training.criterion,
                    weight=1.0,
                    learning_rate=1e-3,
                    number=step,
                    watch=watch,
                )
            )
            steps.append(whole - looks[0])
            audits.append(looks[0])
        # The first steps decode the labels, which are kept.
        for name, values in (("step", steps[5:]), ("audit", audits[5:])):
            print(
                f"{name:<6} {1000 * statistics.median(values):8.1f} ms ({1000 * max(values):.1f} at most)", flush=True
            )
        shares = [one / other for one, other in zip(audits, steps, strict=True)][5:]
        print(f"share  {100 * statistics.median(shares):8.2f} % ({100 * max(shares):.2f} % at most)", flush=True)


if __name__ == "__main__":
    main()
