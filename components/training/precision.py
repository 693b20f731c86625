"""Mixed precision on a GPU: forward passes in 16 bits, weights and losses in 32 bits, loss scaling for float16.

Small gradients underflow in float16. Multiplying the loss by a large scale prevents that; the gradients are divided by
it before they are used. bfloat16 has the range of float32 and needs no scaling.
"""

from collections.abc import Iterable
from contextlib import AbstractContextManager, nullcontext
from typing import Any

import numpy as np
import paddle
from numpy.typing import NDArray

from components.errors import UserError
from components.networks.device import on_gpu
from components.recipes.model import Precision

__all__ = ["LossScale", "Precision", "autocast", "check_precision"]

FIRST_SCALE = 2.0**15
GROWS_AFTER = 2000
"""Steps without overflow after which the scale doubles."""


def check_precision(precision: Precision) -> None:
    """Raise UserError where Paddle would silently use float32 instead."""
    if precision != "float32" and not on_gpu():
        raise UserError(
            f"training.precision={precision} needs a GPU, but training runs on {paddle.device.get_device()}: "
            "set training.precision=float32"
        )


def autocast(precision: Precision) -> AbstractContextManager[Any]:
    """Return a context in which operations that support it compute in `precision`."""
    if precision == "float32":
        return nullcontext()
    cast: AbstractContextManager[Any] = paddle.amp.auto_cast(dtype=precision, level="O1")
    return cast


class LossScale:
    """Dynamic loss scale for float16: it halves when gradients overflow, and doubles after GROWS_AFTER good steps.

    It is a power of two, so scaling changes only exponents.
    """

    def __init__(self) -> None:
        self.value = FIRST_SCALE
        self.good_steps = 0

    def unscale(self, gradients: Iterable[paddle.Tensor]) -> bool:
        """Divide the gradients by the scale in place, adjust the scale, and return whether all are finite."""
        finite = paddle.to_tensor(True)
        with paddle.no_grad():
            for gradient in gradients:
                gradient.scale_(1 / self.value)
                finite = paddle.logical_and(finite, paddle.isfinite(gradient).all())
        good = bool(finite)
        self.good_steps = self.good_steps + 1 if good else 0
        if not good:
            self.value = max(1.0, self.value / 2)
        elif self.good_steps == GROWS_AFTER:
            self.value, self.good_steps = self.value * 2, 0
        return good

    def state(self) -> dict[str, NDArray[Any]]:
        return {"value": np.array([self.value]), "good_steps": np.array([self.good_steps])}

    def load_state(self, arrays: dict[str, NDArray[Any]]) -> None:
        self.value, self.good_steps = float(arrays["value"][0]), int(arrays["good_steps"][0])
