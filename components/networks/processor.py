"""What Paddle needs to know of the processor, set before it is imported. The user's own settings win."""

import os
import sys
import warnings
from pathlib import Path

THREADS_VARIABLE = "OMP_NUM_THREADS"


def prepare(*, networks: int = 1, processes: int = 1) -> dict[str, str]:
    """Set the environment for fast arithmetic on this machine; returns what was set, for the log.

    `networks` is how many run at once in threads of their own, `processes` how many share this machine's cores.
    Raises RuntimeError when paddle is imported already, since then the settings would have no effect.
    """
    if "paddle" in sys.modules:
        raise RuntimeError("processor.prepare() must be called before paddle is imported")
    wanted = {THREADS_VARIABLE: str(thread_count(networks, processes))}
    if _is_amd():
        # The wheel's MKL takes its slow generic path on AMD processors unless it is told otherwise (2x a whole step).
        wanted["MKL_DEBUG_CPU_TYPE"] = "5"
    chosen = {name: value for name, value in wanted.items() if name not in os.environ}
    os.environ.update(chosen)
    # Paddle's C++ start-up notes say nothing a user can act on.
    os.environ.setdefault("GLOG_minloglevel", "2")
    for message in ("No ccache found", "When training, we now always track global mean and variance"):
        warnings.filterwarnings("ignore", message=message)
    return chosen


def thread_count(networks: int, processes: int) -> int:
    """Threads that an operation gets where the user has not said: together they use every core once."""
    return max(1, usable_cores() // (networks * processes))


def usable_cores(cgroup: Path = Path("/sys/fs/cgroup")) -> int:
    """Cores this process may use, which in a container can be fewer than the machine has.

    A container with a limit sees every core and is stopped when it has used up its share of time: more threads than
    the limit make it slower.
    """
    allowed = len(os.sched_getaffinity(0))
    try:
        quota, period = (cgroup / "cpu.max").read_text().split()
    except (OSError, ValueError):
        return allowed
    return allowed if quota == "max" else max(1, min(allowed, int(quota) // int(period)))


def _is_amd() -> bool:
    try:
        return "AuthenticAMD" in Path("/proc/cpuinfo").read_text()
    except OSError:
        return False
