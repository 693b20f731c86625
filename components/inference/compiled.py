"""Networks compiled from their exported graph by onnxruntime or OpenVINO, or by Paddle itself.

Windows are the unit of parallel work: each goes through a graph of one thread, as many at once as there are cores.
On a CPU that leaves no core waiting for another within a layer, and as many callers as there like may share an engine.
"""

import importlib.util
import threading
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import cache, lru_cache
from pathlib import Path
from typing import TYPE_CHECKING, Protocol

import numpy as np

from components import progress
from components.errors import WorkFailed
from components.inference.loaded import PADDLE, PREDICTOR, Floats, PaddleEngine, Weights
from components.networks.processor import usable_cores

if TYPE_CHECKING:
    from onnx import ModelProto
    from openvino import Core

Size = tuple[int, int]
Waiting = Callable[[], list[Floats]]
"""Waits for what has been begun, and gives the logits of every network, (B, C, h, w) each."""

RUNTIMES = ("onnxruntime", "openvino", "openvino-bf16")
"""The faster exact one first, as measured on DeepLabV3+ with ResNet-50 and small-fpn; bfloat16 only where asked for."""


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


_one_at_a_time = threading.Lock()


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


@lru_cache(maxsize=1)
def _pool() -> ThreadPoolExecutor:
    """One for the whole process, so that several callers together do not take more than the cores."""
    return ThreadPoolExecutor(usable_cores(), thread_name_prefix="windows")


def _begin_one_by_one(session: Session, windows: Floats, outputs: int) -> Waiting:
    """Every window in a thread of its own, each result put in its place at once: it is not held twice."""
    found: list[Floats] = [np.empty(0, np.float32)] * outputs
    places = threading.Lock()

    def run(number: int) -> None:
        logits = session.run(windows[number : number + 1])
        with places:
            if not found[0].size:
                found[:] = [np.empty((len(windows), *part.shape[1:]), np.float32) for part in logits]
        for whole, part in zip(found, logits, strict=True):
            whole[number] = part[0]

    begun = [_pool().submit(run, number) for number in range(len(windows))]

    def wait() -> list[Floats]:
        for window in begun:
            window.result()
        return found

    return wait


class PaddleSession:
    """Eager Paddle where a compiled model would be."""

    def __init__(self, weights: Weights, branches: Sequence[str]) -> None:
        layers = weights.layers()
        self._engines = [PaddleEngine(layers[branch]) for branch in branches]

    def run(self, windows: Floats) -> list[Floats]:
        return [engine.logits(windows) for engine in self._engines]


class CompiledNetworks:
    """The networks of a checkpoint, compiled when the first window of a size comes: the size is part of the graph."""

    def __init__(self, runtime: str, weights: Weights, *, or_paddle: bool = False) -> None:
        """`or_paddle`: run by eager Paddle, and say so, what cannot be exported."""
        self.runtime = runtime
        self._weights, self._or_paddle = weights, or_paddle
        self._sessions: dict[tuple[Sequence[str], Size], Session] = {}
        self._lock = threading.Lock()

    def run(self, branches: Sequence[str], windows: Floats) -> list[Floats]:
        """Logits (B, C, h, w) of the named branches, in one pass over what they share.

        Raises:
            UserError: the weights do not fit the structure.
            WorkFailed: the structure cannot be exported.
        """
        if len(windows) > 1 or self._differ(branches):
            return self.begin(branches, windows)()
        return self._session(tuple(branches), (windows.shape[2], windows.shape[3])).run(windows)

    def begin(self, branches: Sequence[str], windows: Floats) -> Waiting:
        """Begin what `run` does, and come back: all cores work on it meanwhile. Raises what `run` does."""
        if self._differ(branches):  # they share nothing
            each = [self.begin([branch], windows) for branch in branches]
            return lambda: [logits for wait in each for logits in wait()]
        session = self._session(tuple(branches), (windows.shape[2], windows.shape[3]))
        if isinstance(session, PaddleSession):
            found = session.run(windows)
            return lambda: found
        return _begin_one_by_one(session, windows, len(branches))

    def _differ(self, branches: Sequence[str]) -> bool:
        return len({self._weights.structures[branch] for branch in branches}) > 1

    def _session(self, branches: tuple[str, ...], size: Size) -> Session:
        with self._lock:
            if (branches, size) not in self._sessions:
                self._sessions[branches, size] = self._compile(branches, size)
            return self._sessions[branches, size]

    def _compile(self, branches: tuple[str, ...], size: Size) -> Session:
        from components.inference.exported import skeleton
        from components.networks.graph import fill

        weights = self._weights
        if self.runtime == PREDICTOR:
            from components.inference.predictor import PredictorSession

            return PredictorSession(weights, branches, size)
        try:
            graph = skeleton(weights.structures[branches[0]], weights.num_classes, size)
        except WorkFailed as error:
            if not self._or_paddle:
                raise
            progress.say("engine", f"{error}; eager {PADDLE} runs it instead")
            self.runtime = PADDLE
            return PaddleSession(weights, branches)
        states = {branch: weights.states[branch] for branch in branches}
        return open_session(self.runtime, fill(graph, states, origin=weights.origin))
