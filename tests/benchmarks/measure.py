"""Paired timings: two ways of the same work in turn, so that whatever else the machine does meets both."""

import statistics
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from components.storage.client import Store
from tests.object_stores import Server


def seconds(work: Callable[[], object]) -> float:
    began = time.perf_counter()
    work()
    return time.perf_counter() - began


def paired(name: str, ours: Callable[[], object], theirs: Callable[[], object], *, rounds: int, goal: float) -> float:
    """Print how many times faster `ours` is than `theirs`: median, least and most of the rounds; the median."""
    ratios, times = [], []
    for number in range(rounds):
        first, second = (ours, theirs) if number % 2 == 0 else (theirs, ours)
        one, two = seconds(first), seconds(second)
        own, other = (one, two) if number % 2 == 0 else (two, one)
        ratios.append(other / own)
        times.append((own, other))
    ratio = statistics.median(ratios)
    own, other = (statistics.median(column) for column in zip(*times, strict=True))
    verdict = "reached" if ratio >= goal else "MISSED"
    print(
        f"{name:<44} {ratio:5.2f}x ({min(ratios):.2f}-{max(ratios):.2f})  goal {goal:.2f}x {verdict:<8}"
        f"ours {own:.3f} s, theirs {other:.3f} s, {rounds} rounds",
        flush=True,
    )
    return ratio


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
