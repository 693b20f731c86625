"""The device that Paddle computes on, and its kernels. A build for GPUs also runs on machines without one."""

import os
from typing import TYPE_CHECKING, Any

from numpy.typing import NDArray

if TYPE_CHECKING:
    import paddle

EXHAUSTIVE, DETERMINISTIC, TF32 = "FLAGS_cudnn_exhaustive_search", "FLAGS_cudnn_deterministic", "NVIDIA_TF32_OVERRIDE"
"""Environment variables that Paddle and NVIDIA's libraries read when they start."""


def on_gpu() -> bool:
    """Return whether this process computes on a GPU."""
    import paddle

    return str(paddle.device.get_device()).startswith("gpu")


def can_pin() -> bool:
    """Return whether tensors of this process go to a GPU, which copies faster from page-locked memory."""
    import paddle

    return bool(paddle.empty([1]).place.is_gpu_place())


def pinned(array: "NDArray[Any] | paddle.Tensor") -> "paddle.Tensor":
    """Return the values in page-locked memory. Raises an error unless `can_pin`."""
    import paddle

    return paddle.to_tensor(array, place=paddle.CUDAPinnedPlace())


def uploaded(values: "NDArray[Any] | paddle.Tensor") -> "paddle.Tensor":
    """Return the values on the device. From page-locked memory, this starts the copy and does not wait for it."""
    import paddle

    if isinstance(values, paddle.Tensor):
        return values.to(paddle.device.get_device(), blocking=False)
    return paddle.to_tensor(values)


def prepare_kernels(*, tf32: bool) -> None:
    """Choose the kernels of a training on a GPU, before Paddle is imported. The user's own settings take precedence.

    cuDNN times all its algorithms in the first steps, and keeps the fastest. Not if FLAGS_cudnn_deterministic asks for
    reproducible ones: Paddle refuses both together. Without `tf32`, NVIDIA's libraries compute in exact float32.
    """
    if os.environ.get(DETERMINISTIC, "0").lower() in ("0", "false"):
        os.environ.setdefault(EXHAUSTIVE, "1")
    if not tf32:
        os.environ[TF32] = "0"


def set_tf32(allowed: bool) -> str:
    """Make matrix products and convolutions of float32 use TF32, or not: releases of Paddle differ in their defaults.

    Returns why that has no effect, or "".
    """
    from paddle.base import core

    if not on_gpu():
        return "" if allowed else "training.tf32=false has no effect on the CPU, which has no TF32"
    core.set_cublas_switch(allowed)
    core.set_cudnn_switch(allowed)
    if allowed and os.environ.get(TF32) == "0":
        return f"{TF32}=0 in the environment turns TF32 off, although training.tf32 is true"
    return ""
