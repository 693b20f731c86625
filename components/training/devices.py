"""Whether the GPUs that were asked for are there, before hours go by on the CPU."""

from components.errors import UserError


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
