"""Configure Paddle for the processor before it is imported. The user's own settings take precedence."""

import os
import sys
import warnings
from pathlib import Path

THREADS_VARIABLE = "OMP_NUM_THREADS"
BLAS_VARIABLE = "OPENBLAS_NUM_THREADS"


def prepare(*, networks: int = 1, processes: int = 1) -> dict[str, str]:
    """Set environment variables for fast arithmetic on this machine, and return those that were set, for the log.

    `networks` is the number of networks that run at once, each in its own thread; `processes` is the number of
    processes that share the machine's cores. Raises RuntimeError if paddle is already imported, because the settings
    would have no effect.
    """
    if "paddle" in sys.modules:
        raise RuntimeError("processor.prepare() must be called before paddle is imported")
    wanted = {THREADS_VARIABLE: str(thread_count(networks, processes))}
    if _is_amd():
        # On AMD processors, the wheel's MKL uses a slow generic path by default, which doubles the time of a step.
        wanted["MKL_DEBUG_CPU_TYPE"] = "5"
    chosen = {name: value for name, value in wanted.items() if name not in os.environ}
    os.environ.update(chosen)
    hide_start_messages()
    return chosen


def prepare_training(*, networks: int = 1, processes: int = 1) -> dict[str, str]:
    """Do as `prepare` in a process that only trains, and give numpy's BLAS as many threads as an operation of Paddle.

    A numpy that is already imported does not read the environment again, and has a thread for every core. They wait
    for work by spinning, and so take the cores from the networks' threads.
    """
    chosen = prepare(networks=networks, processes=processes)
    if THREADS_VARIABLE in chosen and BLAS_VARIABLE not in os.environ:
        from threadpoolctl import threadpool_limits

        threadpool_limits(int(chosen[THREADS_VARIABLE]), user_api="blas")
    return chosen


def hide_start_messages() -> None:
    """Hide messages that Paddle prints when it is imported, and that users cannot act on."""
    os.environ.setdefault("GLOG_minloglevel", "2")
    for message in ("No ccache found", "When training, we now always track global mean and variance"):
        warnings.filterwarnings("ignore", message=message)


def thread_count(networks: int, processes: int) -> int:
    """Return the default number of threads per operation, so that all threads together use each core once."""
    return max(1, usable_cores() // (networks * processes))


def usable_cores(cgroup: Path = Path("/sys/fs/cgroup")) -> int:
    """Return the number of cores this process may use, which can be fewer than the machine has.

    A container with a CPU limit sees all cores but is throttled once it has used its share, so more threads than the
    limit make it slower.
    """
    allowed = len(os.sched_getaffinity(0))
    try:
        quota, period = (cgroup / "cpu.max").read_text().split()
    except (OSError, ValueError):
        return allowed
    return allowed if quota == "max" else max(1, min(allowed, int(quota) // int(period)))


def available_memory(root: Path = Path("/")) -> int | None:
    """Return how many bytes this process may still use, which a container can limit; None if that is unknown."""
    found = []
    try:
        lines = (root / "proc/meminfo").read_text().splitlines()
        found += [1024 * int(line.split()[1]) for line in lines if line.startswith("MemAvailable:")]
    except (OSError, ValueError):
        pass
    group = root / "sys/fs/cgroup"
    try:
        limit, used = (int((group / name).read_text()) for name in ("memory.max", "memory.current"))
        found.append(max(0, limit - used))
    except (OSError, ValueError):  # "max" means no limit
        pass
    return min(found, default=None)


def _is_amd() -> bool:
    try:
        return "AuthenticAMD" in Path("/proc/cpuinfo").read_text()
    except OSError:
        return False
