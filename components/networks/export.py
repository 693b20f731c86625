"""A network structure as an ONNX graph without weights: any checkpoint of the structure fills it.

The graph is made once for a structure, a class count and a window size. Its initialisers have the structured names
that weights files use, and no data.
"""

import contextlib
import os
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import paddle
from paddle import nn

from components.networks.onnx_graph import LOGITS, WINDOWS, without_weights
from components.networks.structures import build

OPSET = 17


class _Traced(nn.Layer):
    """Calls a network as it is: Paddle's translation of Python control flow fails on some of it, and needs none here,
    since the window's size is fixed."""

    def __init__(self, network: nn.Layer) -> None:
        super().__init__()
        self.network = network

    def forward(self, windows: paddle.Tensor) -> paddle.Tensor:
        return _as_it_is(self.network, windows)


@paddle.jit.not_to_static  # type: ignore[untyped-decorator]
def _as_it_is(network: nn.Layer, windows: paddle.Tensor) -> paddle.Tensor:
    return network(windows)


def export(structure: str, num_classes: int, size: tuple[int, int]) -> tuple[bytes, nn.Layer]:
    """The graph of (N, 3, *size) windows to (N, num_classes, *size) logits, and the network that it was made from.

    Raises:
        UserError: there is no such structure.
        Exception: whatever Paddle or paddle2onnx raise for a network that they cannot export.
    """
    import paddle2onnx

    network = build(structure, num_classes)
    network.eval()
    with tempfile.TemporaryDirectory() as folder, _stdout_on_stderr():
        program, parameters = save_program(network, size, Path(folder))
        # Without a file to write, paddle2onnx runs no optimiser of its own, which would install packages.
        data = paddle2onnx.export(str(program), str(parameters), None, opset_version=OPSET)
    names = {tensor.name: name for name, tensor in network.state_dict().items()}
    return without_weights(data, names, output=LOGITS), network


def save_program(network: nn.Layer, size: tuple[int, int], folder: Path) -> tuple[Path, Path]:
    """A network in its evaluation mode as Paddle's program, for windows (N, 3, *size), and its parameters."""
    windows = paddle.static.InputSpec([None, 3, *size], "float32", WINDOWS)
    paddle.jit.save(_Traced(network), str(folder / "network"), [windows])
    return folder / "network.json", folder / "network.pdiparams"


@contextlib.contextmanager
def _stdout_on_stderr() -> Iterator[Any]:
    """paddle2onnx's C++ prints to stdout, which is for what scripts read."""
    kept = os.dup(1)
    try:
        os.dup2(2, 1)
        yield
    finally:
        os.dup2(kept, 1)
        os.close(kept)
