"""A checkpoint's weights in memory, and eager Paddle, the engine that can run all of them."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from components.errors import UserError

if TYPE_CHECKING:
    from paddle import nn

Floats = NDArray[np.float32]
Array = np.ndarray[Any, np.dtype[Any]]

PADDLE = "paddle"


@dataclass(frozen=True)
class Weights:
    structures: Mapping[str, str]
    """By branch."""
    num_classes: int
    states: Mapping[str, Mapping[str, Array]]
    """By branch: parameters and running statistics by structured name."""
    origin: str
    """Name of the weights in errors."""

    def layers(self) -> "dict[str, nn.Layer]":
        """Return Paddle networks by branch. Raises UserError if the weights do not match the structure."""
        from components.networks.structures import build
        from components.networks.weights import load_state

        networks = {}
        for branch, state in self.states.items():
            try:
                networks[branch] = build(self.structures[branch], self.num_classes)
            except UserError as error:
                raise UserError(f"{self.origin}: {error}") from None
            load_state(networks[branch], state, "", origin=self.origin)
        return networks


class PaddleEngine:
    """Eager Paddle, the reference for every other engine."""

    name = PADDLE
    exact = True

    def __init__(self, layer: Any) -> None:
        layer.eval()
        self.layer = layer

    def logits(self, windows: Floats) -> Floats:
        import paddle

        with paddle.no_grad():  # a thread-local setting, so every call needs it
            logits = self.layer(paddle.to_tensor(windows))
        result: Floats = logits.numpy()
        return result


class DeviceEngine(PaddleEngine):
    """Eager Paddle on a device that computes whole images, so that their logits need not leave it."""

    def __init__(self, layer: Any, num_classes: int, room: int) -> None:
        """Wrap a network that is on the device; `room` is the number of bytes that an image's logits may take there."""
        super().__init__(layer)
        self.num_classes, self.room = num_classes, room
