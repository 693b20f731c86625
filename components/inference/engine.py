"""What runs a network: a batch of windows in, logits out.

The sliding window and all that is built on it know this interface only, so another engine is one more class
here.
"""

from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float32]


class Engine(Protocol):
    """A network, ready to run."""

    @property
    def name(self) -> str:
        """What a report calls it, for example "paddle"."""

    def __call__(self, windows: Floats) -> Floats:
        """(B, 3, h, w) float32, normalised RGB, gives logits (B, C, h, w) float32.

        May be called from several threads at once.
        """


class PaddleEngine:
    """Eager Paddle: what every other engine is compared with."""

    name = "paddle"

    def __init__(self, layer: Any) -> None:
        layer.eval()
        self._layer = layer

    def __call__(self, windows: Floats) -> Floats:
        import paddle

        with paddle.no_grad():  # a thread's own setting, so it is made in every call
            logits = self._layer(paddle.to_tensor(windows))
        result: Floats = logits.numpy()
        return result
