"""Kill `cps run` with SIGKILL at random moments, and compare what the same command makes of it with an undisturbed run.

    python -m tests.endurance.kills [KILLS] [--seed SEED]

The moments are spread over the steps. Half of the kills hit every process at once, as a power cut does; the other half
only the command, whose pipeline then has to notice it.
"""

import argparse
import random
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pipeline.parameters import STEPS
from tests.endurance.workplace import RUN, Workplace, kill, wait_until_gone, workplace


@dataclass(frozen=True)
class Kill:
    step: str
    after: float
    """Seconds after the step's beginning."""
    everything: bool
    """Whether every process is killed, and not just the command."""

    def __str__(self) -> str:
        whom = "all processes" if self.everything else "the command"
        return f"{self.step:<16} {self.after:5.2f} s after its start, {whom:<13}"


def moments(count: int, seconds: dict[str, float], seed: int) -> Iterator[Kill]:
    """Yield random moments: each step in turn, at a random point of the seconds that it takes undisturbed."""
    chance = random.Random(seed)
    for number in range(count):
        step = STEPS[number % len(STEPS)]
        yield Kill(step, chance.uniform(0, seconds[step]), everything=chance.random() < 0.5)


def undisturbed(place: Workplace) -> tuple[dict[str, Any], dict[str, float]]:
    """Return what an undisturbed run stores, and the seconds that each step takes."""
    result, command = place.run()
    began = [*command.steps.values(), time.monotonic()]
    seconds = {step: began[number + 1] - began[number] for number, step in enumerate(command.steps)}
    return place.stored_result(result["run_key"]), seconds


def killed_once(place: Workplace, what: Kill, expected: dict[str, Any]) -> tuple[list[str], float]:
    """Run anew, kill, and run again. Returns what is wrong then, and the seconds that the second run took."""
    place.forget()
    wrong = interrupted(place, what)
    more, seconds = completed(place, expected)
    return wrong + more, seconds


def interrupted(place: Workplace, what: Kill) -> list[str]:
    """Run, and kill. Returns what is wrong then."""
    command = place.start(*RUN, *place.extra)
    begun = command.wait_for(what.step, 300)
    if begun:
        time.sleep(max(0.0, what.after - (time.monotonic() - command.steps[what.step])))
    kill(command, everything=what.everything)
    assert command.process.stdout is not None
    command.process.stdout.close()
    left = [f"still running after the kill: {' '.join(process.cmdline())[:80]}" for process in wait_until_gone(place)]
    return left if begun else [*left, f"{what.step} did not begin"]


def completed(place: Workplace, expected: dict[str, Any]) -> tuple[list[str], float]:
    """Run to the end. Returns what is wrong then, and the seconds that it took."""
    began = time.monotonic()
    result, _ = place.run()
    seconds = time.monotonic() - began
    wrong = place.left_behind()
    if place.stored_result(result["run_key"]) != expected:
        wrong.append("the result differs from that of the undisturbed run")
    return wrong, seconds


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("kills", nargs="?", type=int, default=20)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--first", type=int, default=0, help="Number of the first kill.")
    parser.add_argument("--folder", type=Path)
    given = parser.parse_args()
    failed = 0
    with workplace(given.folder, ("--epochs", "12")) as place:
        place.forget()
        expected, seconds = undisturbed(place)
        print("undisturbed:", ", ".join(f"{step} {time:.1f} s" for step, time in seconds.items()), flush=True)
        for number, what in enumerate(moments(given.kills, seconds, given.seed)):
            if number < given.first:
                continue
            wrong, again = killed_once(place, what, expected)
            failed += bool(wrong)
            print(
                f"{number + 1:>2}  {what}  again {again:5.1f} s  {'; '.join(wrong) or 'equal, nothing left'}",
                flush=True,
            )
    sys.exit(1 if failed else 0)


if __name__ == "__main__":
    main()
