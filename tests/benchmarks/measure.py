"""Paired timings: two ways of the same work in turn, so that whatever else the machine does meets both."""

import os
import statistics
import subprocess
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path

from components.storage.client import Store
from tests.object_stores import Server


def seconds(work: Callable[[], object]) -> float:
    began = time.perf_counter()
    work()
    return time.perf_counter() - began


def paired(
    name: str,
    ours: Callable[[], object],
    theirs: Callable[[], object],
    *,
    rounds: int,
    goal: float,
    between: Callable[[], object] = lambda: None,
    warm_up: bool = True,
    their_share: float = 1.0,
) -> float:
    """Print how many times faster `ours` is than `theirs`, and return the median.

    One round of each warms up. Then come the median of the rounds' ratios, the middle half of them, and all.

    Args:
        between: is done before each, outside the timing.
        warm_up: False where each is a process of its own, which begins anew every time.
        their_share: of the work that `theirs` does; its seconds are divided by it.
    """
    ratios, times = list[float](), list[tuple[float, float]]()
    for number in range(-1 if warm_up else 0, rounds):
        taken = {}
        for work in (ours, theirs) if number % 2 == 0 else (theirs, ours):
            between()
            taken[work] = seconds(work) / (their_share if work is theirs else 1)
        if number >= 0:
            ratios.append(taken[theirs] / taken[ours])
            times.append((taken[ours], taken[theirs]))
    ratio, (lower, upper) = statistics.median(ratios), _middle_half(ratios)
    own, other = (statistics.median(column) for column in zip(*times, strict=True))
    verdict = "reached" if ratio >= goal else "MISSED"
    print(
        f"{name:<44} {ratio:5.2f}x (half within {lower:.2f}-{upper:.2f}, all {min(ratios):.2f}-{max(ratios):.2f})  "
        f"goal {goal:.2f}x {verdict:<8}ours {own:.3f} s, theirs {other:.3f} s, {rounds} rounds",
        flush=True,
    )
    return ratio


def show(name: str, values: Sequence[float]) -> None:
    """Print the median of the rounds, and the least and the most."""
    middle, low, high = statistics.median(values), min(values), max(values)
    print(f"{name:<58}{middle:7.2f} ({low:.2f} to {high:.2f}), {len(values)} rounds", flush=True)


def _middle_half(values: list[float]) -> tuple[float, float]:
    if len(values) < 2:
        return values[0], values[0]
    lower, _, upper = statistics.quantiles(values, n=4, method="inclusive")
    return lower, upper


def process(command: Sequence[str], environment: Mapping[str, str]) -> int:
    """Run a command to its end; returns its peak memory in KiB. Raises SystemExit with what it said where it fails."""
    with tempfile.TemporaryFile() as said:
        child = subprocess.Popen(command, env=environment, stdout=subprocess.DEVNULL, stderr=said)
        _, status, usage = os.wait4(child.pid, 0)
        child.returncode = os.waitstatus_to_exitcode(status)
        if child.returncode:
            said.seek(0)
            raise SystemExit(f"{' '.join(command[:3])} failed:\n{said.read().decode(errors='replace')[-2000:]}")
    return usage.ru_maxrss


@contextmanager
def object_store() -> Iterator[Store]:
    """An embedded store of its own, empty."""
    with tempfile.TemporaryDirectory(prefix="benchmark-") as folder:
        server = Server(Path(folder))
        server.start()
        try:
            server.wait()
            yield Store(server.settings)
        finally:
            server.kill()
