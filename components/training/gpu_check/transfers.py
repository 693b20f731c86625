"""Count the bytes that a training step moves between the host and the device, by the line that moves them."""

import sys
from collections.abc import Callable
from pathlib import Path
from types import FrameType
from typing import Any

import paddle

from components.training.gpu_check.table import MOST_BYTES_BACK

METHODS = ("numpy", "item", "tolist", "cpu", "__float__", "__int__", "__bool__", "__index__", "__array__")
SIZES_FROM_VALUES = ("nonzero", "masked_select")
"""Functions whose result has a size that the host must wait for."""
_ROOT = Path(__file__).parents[3]


class Transfers:
    """A context in which each outermost call that moves a tensor is counted.

    `back` and `up` map lines such as `components/training/losses.py:88: numpy` to bytes. A call whose result has a size
    that depends on values counts as more than MOST_BYTES_BACK, because the host waits for it.
    """

    def __init__(self) -> None:
        self.back, self.up = dict[str, int](), dict[str, int]()
        self._inside = False
        self._originals: list[tuple[Any, str, Any]] = []

    def __enter__(self) -> "Transfers":
        for name in METHODS:
            self._watch(paddle.Tensor, name, self.back, lambda tensor, _: _bytes(tensor))
        for name in SIZES_FROM_VALUES:
            for owner in (paddle, paddle.Tensor):
                self._watch(owner, name, self.back, lambda _, __: MOST_BYTES_BACK + 1)
        for owner, name in ((paddle, "to_tensor"), (paddle.Tensor, "to")):
            self._watch(owner, name, self.up, lambda _, made: _bytes(made))
        return self

    def __exit__(self, *_: object) -> None:
        while self._originals:
            setattr(*self._originals.pop())

    def _watch(self, owner: Any, name: str, counts: dict[str, int], size: Callable[[Any, Any], int]) -> None:
        original = getattr(owner, name)

        def counted(first: Any, *others: Any, **named: Any) -> Any:
            if self._inside:
                return original(first, *others, **named)
            self._inside = True
            try:
                made = original(first, *others, **named)
                place = f"{_place()}: {name}"
                counts[place] = counts.get(place, 0) + size(first, made)
            finally:
                self._inside = False
            return made

        self._originals.append((owner, name, original))
        setattr(owner, name, counted)


def _bytes(tensor: paddle.Tensor) -> int:
    return int(tensor.size) * int(tensor.element_size())


def _place() -> str:
    frame: FrameType | None = sys._getframe(2)  # noqa: SLF001 - the caller's line is what is reported
    while frame is not None:
        path = Path(frame.f_code.co_filename)
        if path.is_relative_to(_ROOT / "components"):
            return f"{path.relative_to(_ROOT)}:{frame.f_lineno}"
        frame = frame.f_back
    return "elsewhere"
