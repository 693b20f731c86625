"""Export a network structure as an ONNX graph without weights, which any checkpoint of the structure can fill.

The graph is exported once for each structure, class count and window size. Its initialisers carry the structured names
that weights files use, but no data.
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
    """Hides a network from Paddle's translation of Python control flow, which fails on some networks.

    No translation is needed, because the window size is fixed.
    """

    def __init__(self, network: nn.Layer) -> None:
        super().__init__()
        self.network = network

    def forward(self, windows: paddle.Tensor) -> paddle.Tensor:
        return _call_untranslated(self.network, windows)


@paddle.jit.not_to_static  # type: ignore[untyped-decorator]
def _call_untranslated(network: nn.Layer, windows: paddle.Tensor) -> paddle.Tensor:
    return network(windows)


def export(structure: str, num_classes: int, size: tuple[int, int]) -> tuple[bytes, nn.Layer]:
    """Export a network from (N, 3, *size) windows to (N, num_classes, *size) logits; return the graph and the network.

    Raises:
        UserError: the structure is unknown.
        Exception: any error of Paddle or paddle2onnx for a network that they cannot export.
    """
    import paddle2onnx

    network = build(structure, num_classes)
    network.eval()
    with tempfile.TemporaryDirectory() as folder, _stdout_on_stderr():
        program, parameters = save_program(network, size, Path(folder))
        # Given no output file, paddle2onnx skips its own optimiser, which would install packages.
        data = paddle2onnx.export(str(program), str(parameters), None, opset_version=OPSET)
    names = {tensor.name: name for name, tensor in network.state_dict().items()}
    return without_weights(data, names, output=LOGITS), network


def save_program(network: nn.Layer, size: tuple[int, int], folder: Path) -> tuple[Path, Path]:
    """Save a network in evaluation mode, for (N, 3, *size) windows; return the paths of program and parameters."""
    windows = paddle.static.InputSpec([None, 3, *size], "float32", WINDOWS)
    paddle.jit.save(_Traced(network), str(folder / "network"), [windows])
    return folder / "network.json", folder / "network.pdiparams"


@contextlib.contextmanager
def _stdout_on_stderr() -> Iterator[Any]:
    """Redirect stdout to stderr, because paddle2onnx's C++ code prints to stdout, which scripts parse."""
    kept = os.dup(1)
    try:
        os.dup2(2, 1)
        yield
    finally:
        os.dup2(kept, 1)
        os.close(kept)
