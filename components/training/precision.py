"""Mixed precision on a GPU: forward passes in 16 bits, weights and losses in 32, float16 losses scaled.

The smallest gradients vanish in float16. A loss that is multiplied by a large number keeps them; the gradients are
divided by it again before anything looks at them. bfloat16 has float32's range and needs none of it.
"""

from collections.abc import Iterable
from contextlib import AbstractContextManager, nullcontext
from typing import Any

import numpy as np
import paddle
from numpy.typing import NDArray

from components.errors import UserError
from components.recipes.model import Precision

__all__ = ["LossScale", "Precision", "autocast", "check_precision"]

FIRST_SCALE = 2.0**15
GROWS_AFTER = 2000
"""Steps without an overflow, after which the scale is doubled."""


def check_precision(precision: Precision) -> None:
    """Raises UserError where Paddle would go on in float32 instead."""
    if precision != "float32" and not paddle.device.get_device().startswith("gpu"):
        raise UserError(
            f"training.precision={precision} needs a GPU, and this training runs on {paddle.device.get_device()}: "
            "set training.precision=float32"
        )


def autocast(precision: Precision) -> AbstractContextManager[Any]:
    """Within, operations that bear it compute in `precision`."""
    if precision == "float32":
        return nullcontext()
    cast: AbstractContextManager[Any] = paddle.amp.auto_cast(dtype=precision, level="O1")
    return cast


class LossScale:
    """A factor of float16 losses: halved when a gradient overflows, whose step is left out; doubled after a while.

    Powers of two, so that scaling changes exponents and no digits.
    """

    def __init__(self) -> None:
        self.value = FIRST_SCALE
        self.good_steps = 0

    def unscale(self, gradients: Iterable[paddle.Tensor]) -> bool:
        """Divide the gradients by the scale, in place; whether all of them are finite. Then the scale is adjusted."""
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
