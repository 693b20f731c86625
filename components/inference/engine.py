"""Inference engines: a batch of windows in, logits out.

The sliding window on the CPU depends on this interface alone. On a GPU, `device` keeps the logits there.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

from components.errors import UserError
from components.inference.cards import claimed_card, use_card
from components.inference.compiled import CompiledNetworks, Waiting
from components.inference.paddle_engine import PADDLE, DeviceEngine, Floats, PaddleEngine, Weights
from components.inference.sessions import RUNTIMES, installed_runtimes, why_not

AUTO = "auto"
ENGINES = (AUTO, PADDLE, *RUNTIMES)
"""Valid engine names. All but the bf16 engines compute in float32 and match eager Paddle up to rounding."""
EXACT = "exact"
"""The common name of all float32 engines in stored results: their scores are interchangeable."""


class Engine(Protocol):
    """A network ready to run."""

    @property
    def name(self) -> str:
        """Name in reports, for example "onnxruntime"."""

    @property
    def exact(self) -> bool:
        """Whether it computes in float32, and so gives the same results as every other exact engine."""

    def logits(self, windows: Floats) -> Floats:
        """Return logits, (B, C, h, w) float32, of normalised RGB windows, (B, 3, h, w) float32. Thread-safe."""


@dataclass(frozen=True)
class CompiledEngine:
    """One network of a compiled checkpoint."""

    networks: CompiledNetworks
    branch: str

    @property
    def name(self) -> str:
        return self.networks.runtime

    @property
    def exact(self) -> bool:
        return is_exact(self.networks.runtime)

    def logits(self, windows: Floats) -> Floats:
        return self.networks.run([self.branch], windows)[0]


def is_exact(name: str) -> bool:
    """Return whether the engine computes in float32. Such engines differ only in the order of summation."""
    return not name.endswith("-bf16")


def all_logits(engines: Sequence[Engine], windows: Floats) -> list[Floats]:
    """Return each engine's logits of the same windows; networks of one checkpoint run shared layers once."""
    compiled = _of_one_checkpoint(engines)
    if compiled:
        return compiled[0].networks.run([item.branch for item in compiled], windows)
    return [engine.logits(windows) for engine in engines]


def begin_logits(engines: Sequence[Engine], windows: Floats) -> Waiting:
    """Start `all_logits`, in the background where the engine has threads; return a function that waits for it."""
    compiled = _of_one_checkpoint(engines)
    if compiled:
        return compiled[0].networks.begin([item.branch for item in compiled], windows)
    logits = [engine.logits(windows) for engine in engines]
    return lambda: logits


def _paddle_engines(weights: Weights) -> dict[str, Engine]:
    """Return eager Paddle's engines, on this process's GPU if it has one."""
    card = use_card()
    if card is None:
        return {branch: PaddleEngine(layer) for branch, layer in weights.layers().items()}
    import paddle

    room = paddle.device.cuda.get_device_properties(card).total_memory // 2
    return {branch: DeviceEngine(layer, weights.num_classes, room) for branch, layer in weights.layers().items()}


def _of_one_checkpoint(engines: Sequence[Engine]) -> list[CompiledEngine]:
    """Return the engines if all are compiled from one checkpoint, otherwise an empty list."""
    compiled = [engine for engine in engines if isinstance(engine, CompiledEngine)]
    same = len(compiled) == len(engines) and all(item.networks is compiled[0].networks for item in compiled)
    return compiled if same else []


def choose(name: str = AUTO, *, allow_bf16: bool = False) -> str:
    """Return the engine to use: `name`, or for "auto" Paddle on a GPU that is free, or the fastest one installed.

    Raises UserError if the engine is unknown or not available here, or if it rounds to bfloat16 without `allow_bf16`.
    """
    if name == AUTO:
        if claimed_card() is not None:
            return PADDLE
        candidates = [item for item in installed_runtimes() if is_exact(item)]
        if allow_bf16:  # half the memory traffic and dedicated instructions: faster wherever it is supported
            candidates = [item for item in installed_runtimes() if not is_exact(item)] + candidates
        return candidates[0] if candidates else PADDLE
    if name not in ENGINES:
        raise UserError(f"unknown engine {name!r}: choose one of {', '.join(ENGINES)}")
    reason = why_not(name) if name in RUNTIMES else ""
    if reason:
        raise UserError(f"engine {name!r} is not available: {reason}; use {AUTO!r}")
    if not is_exact(name) and not allow_bf16:
        raise UserError(f"engine {name!r} rounds to bfloat16, which is not allowed: allow bfloat16, or use {AUTO!r}")
    return name


def open_engines(name: str, weights: Weights, *, or_paddle: bool = False) -> dict[str, Engine]:
    """Return an engine for each branch of a checkpoint.

    Args:
        name: as returned by `choose`.
        or_paddle: fall back to eager Paddle, with a message, if the structure cannot be exported.

    Raises UserError if the weights do not match the structure.
    """
    if name == PADDLE:
        return _paddle_engines(weights)
    networks = CompiledNetworks(name, weights, or_paddle=or_paddle)
    return {branch: CompiledEngine(networks, branch) for branch in weights.states}
