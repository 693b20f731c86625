"""How long `cps --help` takes against a bare interpreter, in pairs: python -m tests.benchmarks.bench_start [ROUNDS]"""

import statistics
import subprocess
import sys
import time
from pathlib import Path

CPS = str(Path(sys.executable).with_name("cps"))


def seconds(*command: str) -> float:
    began = time.perf_counter()
    subprocess.run(command, check=True, stdout=subprocess.DEVNULL)
    return time.perf_counter() - began


def main(rounds: int) -> None:
    seconds(CPS, "--help")  # the first start reads the files from disk
    pairs = [(seconds(CPS, "--help"), seconds(sys.executable, "-c", "pass")) for _ in range(rounds)]
    for name, values in (
        ("cps --help, s", [ours for ours, _ in pairs]),
        ("bare python, s", [bare for _, bare in pairs]),
        ("ratio", [ours / bare for ours, bare in pairs]),
    ):
        print(f"{name:<16}{statistics.median(values):7.3f} ({min(values):.3f} to {max(values):.3f}), {rounds} rounds")


if __name__ == "__main__":
    main(int(sys.argv[1]) if len(sys.argv) > 1 else 9)
