"""What runs a network: a batch of windows in, logits out.

The sliding window and all that is built on it know this interface only, so another engine is one more class.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

from components.errors import UserError
from components.inference.compiled import CompiledNetworks, Waiting
from components.inference.paddle_engine import PADDLE, Floats, PaddleEngine, Weights
from components.inference.sessions import RUNTIMES, installed_runtimes, why_not

AUTO = "auto"
ENGINES = (AUTO, PADDLE, *RUNTIMES)
"""What a user may ask for. All but the bf16 ones compute in float32 and agree with eager Paddle to rounding."""
EXACT = "exact"
"""What all of these are called where results are said or compared: which of them it was makes no difference."""


class Engine(Protocol):
    """A network, ready to run."""

    @property
    def name(self) -> str:
        """What a report calls it, for example "onnxruntime"."""

    @property
    def exact(self) -> bool:
        """Whether it computes in float32, so that its results are every other exact engine's."""

    def logits(self, windows: Floats) -> Floats:
        """(B, 3, h, w) float32, normalised RGB, gives logits (B, C, h, w) float32.

        May be called from several threads at once.
        """


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
    """Whether the engine computes in float32. Results of all that do are the same, up to the order of sums."""
    return not name.endswith("-bf16")


def all_logits(engines: Sequence[Engine], windows: Floats) -> list[Floats]:
    """What each engine gives for the same windows; networks of one checkpoint compute what they share once."""
    compiled = _of_one_checkpoint(engines)
    if compiled:
        return compiled[0].networks.run([item.branch for item in compiled], windows)
    return [engine.logits(windows) for engine in engines]


def begin_logits(engines: Sequence[Engine], windows: Floats) -> Waiting:
    """Begin what `all_logits` does, in the engine's own threads where it has some; the call that comes back waits for
    the result."""
    compiled = _of_one_checkpoint(engines)
    if compiled:
        return compiled[0].networks.begin([item.branch for item in compiled], windows)
    found = [engine.logits(windows) for engine in engines]
    return lambda: found


def _of_one_checkpoint(engines: Sequence[Engine]) -> list[CompiledEngine]:
    """The engines, if they can run as one; else none."""
    compiled = [engine for engine in engines if isinstance(engine, CompiledEngine)]
    one = len(compiled) == len(engines) and all(item.networks is compiled[0].networks for item in compiled)
    return compiled if one else []


def choose(name: str = AUTO, *, allow_bf16: bool = False) -> str:
    """Which engine to use: the one asked for, or for "auto" the fastest on this machine that is installed.

    Raises UserError for one that is unknown, cannot run here, or is not exact although that was not allowed.
    """
    if name == AUTO:
        candidates = [item for item in installed_runtimes() if is_exact(item)]
        if allow_bf16:  # halves the bytes to move and has instructions of its own: faster wherever it is there
            candidates = [item for item in installed_runtimes() if not is_exact(item)] + candidates
        return candidates[0] if candidates else PADDLE
    if name not in ENGINES:
        raise UserError(f"unknown engine {name!r}; there are: {', '.join(ENGINES)}")
    reason = why_not(name) if name in RUNTIMES else ""
    if reason:
        raise UserError(f"engine {name!r} cannot be used: {reason}; leave it to {AUTO!r}")
    if not is_exact(name) and not allow_bf16:
        raise UserError(f"engine {name!r} rounds to bfloat16: allow that, or leave the engine to {AUTO!r}")
    return name


def open_engines(name: str, weights: Weights, *, or_paddle: bool = False) -> dict[str, Engine]:
    """Engines for the networks of one checkpoint, by branch.

    Args:
        name: of `choose`.
        or_paddle: take eager Paddle, and say so, where the structure cannot be exported.

    Raises UserError where weights and structure do not fit.
    """
    if name == PADDLE:
        return {branch: PaddleEngine(layer) for branch, layer in weights.layers().items()}
    networks = CompiledNetworks(name, weights, or_paddle=or_paddle)
    return {branch: CompiledEngine(networks, branch) for branch in weights.states}
