"""The device that Paddle computes on. It is asked at run time: a build for GPUs also runs on machines without one."""


def on_gpu() -> bool:
    """Return whether this process computes on a GPU."""
    import paddle

    return str(paddle.device.get_device()).startswith("gpu")
