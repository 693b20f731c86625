"""The processor time of `cps run` until its first training step, on a dataset that is stored already.

    python -m tests.benchmarks.bench_first_step [ROUNDS] [--source FOLDER]

Counts the processes of the command, and neither the object store nor MLflow's server. With a source folder, it runs
that version of this project.
"""

import argparse
import json
import shutil
import tempfile
import time
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

import psutil

from tests.benchmarks.measure import show
from tests.endurance.workplace import RUN, Command, Workplace, kill, wait_until_gone, workplace
from tests.project_files import REPOSITORY

_EPOCHS = ("--epochs", "20")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("rounds", nargs="?", type=int, default=5)
    parser.add_argument("--source", type=Path, default=REPOSITORY)
    given = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="first-step-") as folder, workplace(Path(folder)) as place:
        place.source = given.source.resolve()
        until_first_step(place, 0)  # stores the dataset and the compiled pipeline
        taken = [until_first_step(place, seed) for seed in range(1, given.rounds + 1)]
    show("cps run to its first training step, s of processor time", [processor for processor, _ in taken])
    show("the same, s", [seconds for _, seconds in taken])


def until_first_step(place: Workplace, seed: int) -> tuple[float, float]:
    """Return the seconds of processor time and of time that a new run takes until its first step; then kill it."""
    for left in _jobs(place):
        shutil.rmtree(left)
    began = time.monotonic()
    command = place.start(*RUN, *_EPOCHS, "--seed", str(seed))
    highest = 0.0
    while not _trains(place):
        if command.process.poll() is not None:
            raise SystemExit("".join(command.said[-20:]))
        highest = max(highest, _processor_time(command))
        time.sleep(0.02)
    seconds, highest = time.monotonic() - began, max(highest, _processor_time(command))
    kill(command, everything=True)
    wait_until_gone(place)
    return highest, seconds


def _trains(place: Workplace) -> bool:
    """Return whether a training has reported a step that it has done."""
    for folder in _jobs(place):
        with suppress(OSError):
            events = [json.loads(line) for line in (folder / "events.jsonl").read_text().splitlines()[:-1]]
            return any(event["kind"] == "advance" and event["step"] == "train" and event["done"] for event in events)
    return False


def _jobs(place: Workplace) -> list[Path]:
    return list(Path(place.environment["TMPDIR"]).glob("cps-job-*"))


def _processor_time(command: Command) -> float:
    return sum(_own_and_ended_children(command))


def _own_and_ended_children(command: Command) -> Iterator[float]:
    for process in command.members():
        with suppress(psutil.Error):
            times = process.cpu_times()
            yield times.user + times.system + times.children_user + times.children_system


if __name__ == "__main__":
    main()
