"""Many small runs in a row on one store: seconds of each, memory of the servers, disk, and what is left behind.

python -m tests.endurance.soak [RUNS]
"""

import argparse
import sys
import time
from pathlib import Path

import psutil

from components.units import size_text
from tests.endurance.workplace import Workplace, workplace


def measured(place: Workplace) -> str:
    """Return the memory of each server with its children, and the disk that the workplace takes."""
    memory = []
    for pid in place.servers():
        server = psutil.Process(pid)
        processes = [server, *server.children(recursive=True)]
        memory.append(size_text(sum(process.memory_info().rss for process in processes)))
    files = [path for path in place.folder.rglob("*") if path.is_file()]
    disk = size_text(sum(path.stat().st_size for path in files))
    return f"object store {memory[0]}, MLflow {memory[1]}, disk {disk} in {len(files)} files"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("runs", nargs="?", type=int, default=50)
    parser.add_argument("--folder", type=Path)
    given = parser.parse_args()
    left: list[str] = []
    with workplace(given.folder) as place:
        for seed in range(given.runs):
            place.extra = ("--epochs", "2", "--seed", str(seed))
            began = time.monotonic()
            place.run()
            seconds = time.monotonic() - began
            left = place.left_behind()
            print(
                f"{seed + 1:>2}  {seconds:5.1f} s  {measured(place)}  {'; '.join(left) or 'nothing left'}", flush=True
            )
    sys.exit(1 if left else 0)


if __name__ == "__main__":
    main()
