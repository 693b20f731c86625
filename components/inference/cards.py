"""GPUs of this machine, each of which at most one process uses for inference."""

import fcntl
import os
import sys
import tempfile
import threading
from functools import cache
from pathlib import Path

from components.networks import processor

_DRIVERS = ("/dev/nvidiactl", "/dev/kfd", "/dev/dxg")
"""Devices of NVIDIA's and AMD's drivers, and of WSL. Without one of them, Paddle need not be imported to ask."""
_claiming = threading.Lock()


def claimed_card() -> int | None:
    """Return the number of a GPU that is this process's until it ends, or None if there is none or all are in use.

    Two evaluation tasks on one machine would otherwise share a card, and run out of its memory.
    """
    with _claiming:  # @cache alone would let two threads claim one each
        return _claimed_once()


def use_card() -> int | None:
    """Make Paddle use this process's GPU, or the CPU if it has none, and return the GPU's number."""
    import paddle

    card = claimed_card()
    paddle.set_device("cpu" if card is None else f"gpu:{card}")
    return card


@cache
def _claimed_once() -> int | None:
    return next((number for number in range(card_count()) if _claim(number)), None)


def card_count() -> int:
    """Return how many GPUs Paddle can use now."""
    if not any(map(os.path.exists, _DRIVERS)):
        return 0
    # Exact engines compute in float32; TF32 would round to three digits. CUDA reads this when it starts.
    os.environ.setdefault("NVIDIA_TF32_OVERRIDE", "0")
    if "paddle" not in sys.modules:
        processor.prepare()
    try:
        import paddle
    except ImportError:
        return 0
    count: int = paddle.device.cuda.device_count() if paddle.device.is_compiled_with_cuda() else 0
    return count


def _claim(number: int) -> bool:
    """Lock the card's file, which the operating system unlocks when this process ends."""
    path = _lock_file(number)
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        handle = os.open(path, os.O_RDWR | os.O_CREAT, 0o600)
    except OSError:
        return True  # without a folder to lock in, nobody else has claimed it there
    try:
        fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:
        os.close(handle)
        return False
    return True


def _lock_file(number: int) -> Path:
    """Return the card's file. CUDA_VISIBLE_DEVICES may give a card different numbers in different processes."""
    visible = [name.strip() for name in os.environ.get("CUDA_VISIBLE_DEVICES", "").split(",") if name.strip()]
    name = visible[number] if number < len(visible) else str(number)
    letters = "".join(letter for letter in name if letter.isalnum() or letter == "-")
    return Path(tempfile.gettempdir(), f"cps-cards-{os.getuid()}", letters)
