"""Networks compiled from their exported graph by onnxruntime or OpenVINO, or by Paddle itself.

Windows are the unit of parallel work: each goes through a graph of one thread, as many at once as there are cores.
On a CPU that leaves no core waiting for another within a layer, and as many callers as there like may share an engine.
"""

import threading
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import lru_cache
from typing import TYPE_CHECKING

import numpy as np

from components import progress
from components.errors import WorkFailed
from components.inference.paddle_engine import PADDLE, Floats, PaddleEngine, Weights
from components.inference.sessions import Session, open_session
from components.networks.processor import usable_cores

if TYPE_CHECKING:
    pass

Size = tuple[int, int]
Waiting = Callable[[], list[Floats]]
"""Waits for what has been begun, and gives the logits of every network, (B, C, h, w) each."""


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
        from components.networks.onnx_graph import fill

        weights = self._weights
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
