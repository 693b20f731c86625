"""One CPS step, DeepLabV3+ ResNet-50 twice, crop 256, batch 2: ours against the reference's own, both on this machine.

python -m tests.benchmarks.bench_step PADDLESEG_CHECKOUT [shipped | equal] …

`shipped`: each as it starts by itself: ours sets MKL and threads for this processor, the reference has what Paddle
gives it, one thread. `equal`: both with the same MKL and two cores, ours as a thread for each network, the reference
as two threads in its operations. Goals 2.5x and 1.1x. Each side is a process of its own, and they step in turn.
Also printed: peak memory (goal 1.0x the reference's, aim 0.8x), and the bytes of a checkpoint (goal 0.55x).
"""

import json
import os
import statistics
import subprocess
import sys
import tempfile
from contextlib import ExitStack
from pathlib import Path
from typing import Any

from tests.benchmarks.bench_step_side import ANSWER

ENVIRONMENTS: dict[str, tuple[float, dict[str, str]]] = {
    "shipped": (2.5, {}),
    "equal": (1.1, {"MKL_DEBUG_CPU_TYPE": "5", "OMP_NUM_THREADS": "2"}),
}
"""By comparison, the goal and what is set for the reference beyond what it sets itself."""


def main() -> None:
    checkout, *named = sys.argv[1:]
    rounds = int(os.environ.get("CPS_BENCH_ROUNDS", 3))
    for name in named or ENVIRONMENTS:
        goal, environment = ENVIRONMENTS[name]
        compare(name, Path(checkout).resolve(), goal, environment, rounds)


def compare(name: str, checkout: Path, goal: float, environment: dict[str, str], rounds: int) -> None:
    with tempfile.TemporaryDirectory(prefix="benchmark-") as folder, ExitStack() as stack:
        sides = {
            "ours": Side("ours", checkout, folder, {}),
            "theirs": Side("theirs", checkout, folder, environment),
        }
        for side in sides.values():
            stack.callback(side.close)
        times = []
        for number in range(-1, rounds):
            order = ("ours", "theirs") if number % 2 == 0 else ("theirs", "ours")
            taken = {name: sides[name].ask("step")["seconds"] for name in order}
            if number >= 0:
                times.append(taken)
        ratios = [taken["theirs"] / taken["ours"] for taken in times]
        ratio = statistics.median(ratios)
        own, other = (statistics.median(taken[side] for taken in times) for side in ("ours", "theirs"))
        print(
            f"step, {name:<8} {ratio:5.2f}x ({min(ratios):.2f}-{max(ratios):.2f})  goal {goal:.2f}x "
            f"{'reached' if ratio >= goal else 'MISSED'}  ours {own:.2f} s, theirs {other:.2f} s, {rounds} rounds",
            flush=True,
        )
        ends = {side: sides[side].ask("end") for side in sides}
        for what, most in (("memory", 1.0), ("checkpoint", 0.55), ("recovery", 1.0)):
            own, other = (ends[side][what] / 1e6 for side in ("ours", "theirs"))
            verdict = "reached" if own / other <= most else "MISSED"
            print(
                f"{what}, {name:<8} {own / other:5.2f}x  goal {most:.2f}x {verdict}  "
                f"ours {own:.0f} MB, theirs {other:.0f} MB",
                flush=True,
            )


class Side:
    """One of the two, in a process of its own that steps when it is told to."""

    def __init__(self, name: str, checkout: Path, folder: str, environment: dict[str, str]) -> None:
        clean = {key: text for key, text in os.environ.items() if key not in ("MKL_DEBUG_CPU_TYPE", "OMP_NUM_THREADS")}
        self._process = subprocess.Popen(
            [sys.executable, "-m", "tests.benchmarks.bench_step_side", name, str(checkout), folder],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            env={**clean, **environment, "REFERENCE_OUTPUT": folder},
            text=True,
        )

    def ask(self, order: str) -> dict[str, Any]:
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self._process.stdin.write(order + "\n")
        self._process.stdin.flush()
        for line in self._process.stdout:
            if line.startswith(ANSWER):
                return dict(json.loads(line.removeprefix(ANSWER)))
        raise SystemExit(f"the process of {self._process.args!r} ended with code {self._process.wait()}")

    def close(self) -> None:
        self._process.kill()
        self._process.wait()


if __name__ == "__main__":
    main()
