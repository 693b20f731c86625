"""Kill the object store and MLflow at random moments of trainings, start them again, and compare the results.

python -m tests.endurance.outages [MINUTES] [--seed SEED]
"""

import argparse
import random
import signal
import sys
import time
from pathlib import Path
from typing import Any

import psutil

from pipeline.local.services import services_up
from tests.endurance.kills import undisturbed
from tests.endurance.workplace import RUN, Command, Workplace, workplace

AWAY, BETWEEN = (1.0, 8.0), (1.0, 6.0)
"""Seconds that a server is away, and from its return to the next outage: at least and at most."""


def under_outages(
    place: Workplace, expected: dict[str, Any], chance: random.Random, until: float
) -> tuple[list[str], int]:
    """Train anew while servers go away, until that time at most. Returns what is wrong, and the number of outages."""
    place.forget()
    command = place.start(*RUN, *place.extra)
    command.wait_for("train", 300)
    count = _disturb(place, command, chance, until)
    assert command.process.stdout is not None
    command.process.stdout.read()
    wrong = [] if command.process.wait() == 0 else [f"exit code {command.process.returncode}: {command.said[-1]}"]
    key = expected["result"]["run_key"]
    if not wrong and place.stored_result(key) != expected:
        wrong.append("the result differs from that of the undisturbed run")
    return [*wrong, *place.left_behind()], count


def _disturb(place: Workplace, command: Command, chance: random.Random, until: float) -> int:
    count = 0
    while command.process.poll() is None and "evaluate" not in command.steps and time.monotonic() < until:
        time.sleep(chance.uniform(*BETWEEN))
        for server in chance.choice([[0], [1], [0, 1]]):
            _end(place.servers()[server])
        time.sleep(chance.uniform(*AWAY))
        services_up(place.home)
        count += 1
    return count


def _end(pid: int) -> None:
    try:
        server = psutil.Process(pid)
        for process in (server, *server.children(recursive=True)):
            process.send_signal(signal.SIGKILL)
    except psutil.NoSuchProcess:
        return


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("minutes", nargs="?", type=float, default=60.0)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--epochs", type=int, default=400)
    parser.add_argument("--folder", type=Path)
    given = parser.parse_args()
    with workplace(given.folder, ("--epochs", str(given.epochs))) as place:
        place.forget()
        expected, _ = undisturbed(place)
        chance, until = random.Random(given.seed), time.monotonic() + 60 * given.minutes
        failed, number = 0, 0
        while time.monotonic() < until:
            began, number = time.monotonic(), number + 1
            wrong, count = under_outages(place, expected, chance, until)
            failed += bool(wrong)
            seconds = time.monotonic() - began
            print(
                f"{number:>2}  {count:>3} outages in {seconds:4.0f} s  {'; '.join(wrong) or 'equal, nothing left'}",
                flush=True,
            )
    sys.exit(1 if failed else 0)


if __name__ == "__main__":
    main()
