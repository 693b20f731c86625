"""What a training process takes of its machine, in MLflow's names for its tab of system metrics.

Read from /proc, where there is one: psutil is in one of the two images only, and this is all that is wanted of it.
"""

import os
import re
import time
from pathlib import Path

from components.errors import UserError
from components.networks.processor import usable_cores

_PROC = Path("/proc")


class Resources:
    """Of this process, and since the last reading where it is a rate."""

    def __init__(self, proc: Path = _PROC) -> None:
        self._proc = proc
        self._since, self._cpu = time.monotonic(), _cpu_seconds()

    def read(self) -> dict[str, float]:
        """Processor use in percent of the cores that the process may use, memory of the process and of the machine."""
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
        """The amounts in a file of lines such as `VmRSS:  1234 kB`; none where it cannot be read."""
        try:
            text = (self._proc / name).read_text()
        except OSError:
            return {}
        return {key: int(value) for key, value in re.findall(r"^(\w+):\s+(\d+) kB$", text, re.M)}


def _cpu_seconds() -> float:
    spent = os.times()
    return spent.user + spent.system


def check_gpus(wanted: int) -> None:
    """Raises UserError where this machine, or this Paddle, has fewer than `wanted`."""
    import paddle

    if not paddle.device.is_compiled_with_cuda():
        raise UserError(
            f"gpus is {wanted}, and this image's Paddle is for the CPU: give an image for GPUs, or set gpus to 0"
        )
    found = paddle.device.cuda.device_count()
    if found < wanted:
        raise UserError(f"gpus is {wanted}, and {found} can be seen here: is `accelerator` what the nodes call them?")
