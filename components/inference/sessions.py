"""Networks compiled from their exported graph by onnxruntime or OpenVINO."""

import importlib.util
import threading
from functools import cache, lru_cache
from pathlib import Path
from typing import TYPE_CHECKING, Protocol

import numpy as np

from components.inference.paddle_engine import Floats
from components.networks.processor import usable_cores

if TYPE_CHECKING:
    from onnx import ModelProto
    from openvino import Core

RUNTIMES = ("onnxruntime", "openvino", "openvino-bf16")
"""The faster exact one first, as measured on DeepLabV3+ with ResNet-50 and small-fpn; bfloat16 only where asked for."""
_one_at_a_time = threading.Lock()


class Session(Protocol):
    """A compiled model."""

    def run(self, windows: Floats) -> list[Floats]:
        """(B, 3, h, w) to the logits of every network in it, (B, C, h, w) each. Any number of threads may call it."""


class OnnxRuntimeSession:
    def __init__(self, model: "ModelProto") -> None:
        import onnxruntime

        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = options.inter_op_num_threads = 1
        options.log_severity_level = 3
        self._session = onnxruntime.InferenceSession(
            model.SerializeToString(), options, providers=["CPUExecutionProvider"]
        )

    def run(self, windows: Floats) -> list[Floats]:
        found: list[Floats] = self._session.run(None, {"windows": windows})
        return found


class OpenVinoSession:
    def __init__(self, model: "ModelProto", precision: str) -> None:
        cores, core = usable_cores(), _core()
        self._compiled = core.compile_model(
            core.read_model(model.SerializeToString()),
            "CPU",
            {
                "INFERENCE_PRECISION_HINT": precision,
                "INFERENCE_NUM_THREADS": cores,
                "NUM_STREAMS": cores,
                "ENABLE_CPU_PINNING": False,  # other work has the cores too
            },
        )
        self._of_thread = threading.local()

    def run(self, windows: Floats) -> list[Floats]:
        request = getattr(self._of_thread, "request", None)
        if request is None:
            request = self._of_thread.request = self._compiled.create_infer_request()
        request.infer({0: windows}, share_inputs=True)
        # The tensors belong to the request, which writes the next window's logits there.
        return [request.get_output_tensor(number).data.copy() for number in range(len(self._compiled.outputs))]


def _core() -> "Core":
    """The one of this process, never given up, whichever threads ask first."""
    with _one_at_a_time:  # a cache alone lets two of them make one each
        return _only_core()


@cache
def _only_core() -> "Core":
    """With its first network a core takes the stack that signals are handled on for a larger one, and at its own end
    puts back what was there before: of two that end in the order in which they began, the second puts back the
    first's, which is freed by then, and the next SIGTERM or SIGINT ends the process with a segmentation fault.
    """
    import openvino

    _fill_tables()
    return openvino.Core()


def _fill_tables() -> None:
    """Have OpenVINO's binding look up numpy's types now, by one thread alone.

    It does so at the first use, and drops Python's lock within a lock of its own: of two threads that are the first
    together, each waits for what the other holds, and no thread of the process ever runs again.
    """
    import openvino

    tensor = openvino.Tensor(np.zeros(1, np.float32), shared_memory=True)
    assert tensor.element_type.to_dtype() == tensor.data.dtype


def installed_runtimes() -> list[str]:
    """Which of RUNTIMES this machine can run, in their order. All need onnx and, to export, paddle2onnx."""
    if not all(importlib.util.find_spec(name) for name in ("onnx", "paddle2onnx")):
        return []
    return [name for name in RUNTIMES if not why_not(name)]


def why_not(runtime: str) -> str:
    """Empty where `runtime` can be used here, else the reason."""
    package = runtime.removesuffix("-bf16")
    missing = [name for name in ("onnx", "paddle2onnx", package) if importlib.util.find_spec(name) is None]
    if missing:
        return f"{', '.join(missing)} is not installed"
    if runtime.endswith("-bf16") and not has_bf16():
        return "this processor has no bfloat16 arithmetic (avx512_bf16 or amx_bf16)"
    return ""


@lru_cache(maxsize=1)
def has_bf16() -> bool:
    try:
        flags = Path("/proc/cpuinfo").read_text().split()
    except OSError:
        return False
    return "avx512_bf16" in flags or "amx_bf16" in flags


def open_session(runtime: str, model: "ModelProto") -> Session:
    if runtime == "onnxruntime":
        return OnnxRuntimeSession(model)
    return OpenVinoSession(model, "bf16" if runtime.endswith("-bf16") else "f32")
