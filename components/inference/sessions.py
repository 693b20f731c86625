"""Sessions: exported graphs compiled by onnxruntime or OpenVINO."""

import importlib.util
import os
import threading
from collections.abc import Sequence
from functools import cache, lru_cache
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

import numpy as np

from components.errors import UserError
from components.inference.paddle_engine import Floats
from components.networks.processor import usable_cores

if TYPE_CHECKING:
    from onnx import ModelProto
    from openvino import Core

CUDA = "onnxruntime-cuda"
RUNTIMES = ("onnxruntime", "openvino", "openvino-bf16", CUDA)
"""Fastest exact runtime first, as measured on DeepLabV3+ with ResNet-50 and on small-fpn.

bfloat16 and CUDA are opt-in. Paddle's own engine on a GPU sends no logits to the host, so CUDA is last.
"""
_CUDA_PROVIDER = "CUDAExecutionProvider"
_core_lock = threading.Lock()


class Session(Protocol):
    """A compiled model."""

    @property
    def whole_batches(self) -> bool:
        """Whether a batch of windows runs at once, and not each window in a thread of its own."""

    def run(self, windows: Floats) -> list[Floats]:
        """Return the logits of every network in it, (B, C, h, w) each, for windows (B, 3, h, w). Thread-safe."""


class OnnxRuntimeSession:
    whole_batches = False

    def __init__(self, model: "ModelProto", providers: Sequence[Any] = ("CPUExecutionProvider",)) -> None:
        # Otherwise onnxruntime writes an identifier to the home folder and sends usage data.
        os.environ.setdefault("ORT_DISABLE_TELEMETRY", "1")
        import onnxruntime

        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = options.inter_op_num_threads = 1
        options.log_severity_level = 3
        self._session = onnxruntime.InferenceSession(model.SerializeToString(), options, providers=list(providers))

    def run(self, windows: Floats) -> list[Floats]:
        logits: list[Floats] = self._session.run(None, {"windows": windows})
        return logits


class CudaSession(OnnxRuntimeSession):
    """onnxruntime on a GPU."""

    whole_batches = True

    def __init__(self, model: "ModelProto") -> None:
        super().__init__(model, [(_CUDA_PROVIDER, {"use_tf32": "0"}), "CPUExecutionProvider"])
        if self._session.get_providers()[0] != _CUDA_PROVIDER:
            raise UserError(f"engine {CUDA!r} finds no usable GPU: check that `nvidia-smi` works, or use 'auto'")


class OpenVinoSession:
    whole_batches = False

    def __init__(self, model: "ModelProto", precision: str) -> None:
        cores, core = usable_cores(), _core()
        self._compiled = core.compile_model(
            core.read_model(model.SerializeToString()),
            "CPU",
            {
                "INFERENCE_PRECISION_HINT": precision,
                "INFERENCE_NUM_THREADS": cores,
                "NUM_STREAMS": cores,
                "ENABLE_CPU_PINNING": False,  # other work shares the cores
            },
        )
        self._thread_local = threading.local()

    def run(self, windows: Floats) -> list[Floats]:
        request = getattr(self._thread_local, "request", None)
        if request is None:
            request = self._thread_local.request = self._compiled.create_infer_request()
        request.infer({0: windows}, share_inputs=True)
        # The request reuses its output tensors for the next window.
        return [request.get_output_tensor(number).data.copy() for number in range(len(self._compiled.outputs))]


def _core() -> "Core":
    """Return the process's only Core, which is never destroyed."""
    with _core_lock:  # @cache alone would let two threads create one each
        return _only_core()


@cache
def _only_core() -> "Core":
    """Create the Core.

    A Core replaces the signal handler's stack when it compiles its first network, and restores the previous stack when
    it is destroyed. If two Cores are destroyed in the order of their creation, the second restores the first one's
    freed stack, and the next SIGTERM or SIGINT crashes the process with a segmentation fault.
    """
    import openvino

    _fill_tables()
    return openvino.Core()


def _fill_tables() -> None:
    """Make OpenVINO's binding look up numpy's types now, in a single thread.

    Otherwise it does so on first use, and releases the GIL while it holds its own lock: two threads that get there
    together deadlock, and with them the whole process.
    """
    import openvino

    tensor = openvino.Tensor(np.zeros(1, np.float32), shared_memory=True)
    assert tensor.element_type.to_dtype() == tensor.data.dtype


def installed_runtimes() -> list[str]:
    """Return those of RUNTIMES that this machine can run, in order. All need onnx, and paddle2onnx to export."""
    if not all(importlib.util.find_spec(name) for name in ("onnx", "paddle2onnx")):
        return []
    return [name for name in RUNTIMES if not why_not(name)]


def why_not(runtime: str) -> str:
    """Return why `runtime` is not available here, or "" if it is."""
    package = runtime.removesuffix("-bf16").removesuffix("-cuda")
    missing = [name for name in ("onnx", "paddle2onnx", package) if importlib.util.find_spec(name) is None]
    if missing:
        return f"{', '.join(missing)} is not installed"
    if runtime.endswith("-bf16") and not has_bf16():
        return "this processor has no bfloat16 instructions (avx512_bf16 or amx_bf16)"
    if runtime == CUDA and not _has_cuda_provider():
        return "this onnxruntime supports only the CPU; install onnxruntime-gpu in its place"
    return ""


def _has_cuda_provider() -> bool:
    import onnxruntime

    return _CUDA_PROVIDER in onnxruntime.get_available_providers()


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
    if runtime == CUDA:
        return CudaSession(model)
    return OpenVinoSession(model, "bf16" if runtime.endswith("-bf16") else "f32")
