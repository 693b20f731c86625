"""Resource use of a training process, under the names of MLflow's system metrics tab; and the check for GPUs.

The values come from /proc, because psutil is in only one of the two images.
"""

import os
import re
import time
from pathlib import Path

from components.errors import UserError, one_line
from components.networks.processor import hide_start_messages, usable_cores

_PROC = Path("/proc")


class Resources:
    """Resource use of this process; rates are since the last reading."""

    def __init__(self, proc: Path = _PROC) -> None:
        self._proc = proc
        self._since, self._cpu = time.monotonic(), _cpu_seconds()

    def read(self) -> dict[str, float]:
        """Return CPU use in percent of the usable cores, and the memory of the process and the machine."""
        now, cpu = time.monotonic(), _cpu_seconds()
        share = (cpu - self._cpu) / max(now - self._since, 1e-9) / usable_cores()
        self._since, self._cpu = now, cpu
        found = {"system/cpu_utilization_percentage": 100 * share}
        own, machine = self._fields("self/status"), self._fields("meminfo")
        if "VmRSS" in own:
            found["system/process_memory_megabytes"] = own["VmRSS"] * 1024 / 1e6
        if machine.keys() >= {"MemTotal", "MemAvailable"}:
            free = machine["MemAvailable"] / machine["MemTotal"]
            found["system/system_memory_usage_percentage"] = 100 * (1 - free)
        return found

    def _fields(self, name: str) -> dict[str, int]:
        """Parse a file with lines such as `VmRSS:  1234 kB`; return {} if it cannot be read."""
        try:
            text = (self._proc / name).read_text()
        except OSError:
            return {}
        return {key: int(value) for key, value in re.findall(r"^(\w+):\s+(\d+) kB$", text, re.M)}


def _cpu_seconds() -> float:
    spent = os.times()
    return spent.user + spent.system


def check_gpus(wanted: int) -> None:
    """Raise UserError if this machine has fewer than `wanted` GPUs that work, or this Paddle does not support GPUs."""
    try:
        found = gpu_count()
    except UserError as error:
        raise UserError(f"gpus is {wanted}, but {error}, or set gpus to 0") from error
    if found < wanted:
        raise UserError(
            f"gpus is {wanted}, but this machine has {found}: set gpus to {found}; on a cluster, check that "
            "`accelerator` is the nodes' resource name"
        )


def gpu_count() -> int:
    """Return how many GPUs Paddle can use. Raises UserError if this Paddle or the driver supports none."""
    hide_start_messages()
    import paddle

    if not paddle.device.is_compiled_with_cuda():
        raise UserError("the installed Paddle supports only the CPU: use a GPU image")
    try:
        return int(paddle.device.cuda.device_count())
    except Exception as error:  # Paddle's type for CUDA's errors differs between them
        raise UserError(
            f"CUDA does not start ({one_line(error)[-300:]}): install the driver that this CUDA needs"
        ) from error
