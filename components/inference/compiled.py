"""Compiled networks: exported graphs run by onnxruntime or OpenVINO, with eager Paddle as the fallback.

Each window runs through a single-threaded graph, and as many windows run in parallel as there are cores. On a CPU no
core then waits for another within a layer. Any number of threads may share an engine.
"""

import threading
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import lru_cache

import numpy as np

from components import progress
from components.errors import WorkFailed
from components.inference.cards import use_card
from components.inference.paddle_engine import PADDLE, Floats, PaddleEngine, Weights
from components.inference.sessions import Session, open_session
from components.networks.processor import usable_cores

Size = tuple[int, int]
Waiting = Callable[[], list[Floats]]
"""Waits for a started call and returns every network's logits, (B, C, h, w) each."""


@lru_cache(maxsize=1)
def _pool() -> ThreadPoolExecutor:
    """Return the process-wide thread pool, so that concurrent callers together use each core once."""
    return ThreadPoolExecutor(usable_cores(), thread_name_prefix="windows")


def _begin_one_by_one(session: Session, windows: Floats, outputs: int) -> Waiting:
    """Run each window in its own thread and copy each result straight into the batch's arrays."""
    batch: list[Floats] = [np.empty(0, np.float32)] * outputs
    allocation = threading.Lock()

    def run(number: int) -> None:
        logits = session.run(windows[number : number + 1])
        with allocation:
            if not batch[0].size:
                batch[:] = [np.empty((len(windows), *part.shape[1:]), np.float32) for part in logits]
        for whole, part in zip(batch, logits, strict=True):
            whole[number] = part[0]

    futures = [_pool().submit(run, number) for number in range(len(windows))]

    def wait() -> list[Floats]:
        for future in futures:
            future.result()
        return batch

    return wait


class PaddleSession:
    """Eager Paddle behind the interface of a compiled model."""

    whole_batches = True

    def __init__(self, weights: Weights, branches: Sequence[str]) -> None:
        use_card()
        layers = weights.layers()
        self._engines = [PaddleEngine(layers[branch]) for branch in branches]

    def run(self, windows: Floats) -> list[Floats]:
        return [engine.logits(windows) for engine in self._engines]


class CompiledNetworks:
    """A checkpoint's networks, compiled at the first window of each size: the size is part of the graph."""

    def __init__(self, runtime: str, weights: Weights, *, or_paddle: bool = False) -> None:
        """With `or_paddle`, structures that cannot be exported run in eager Paddle, with a message."""
        self.runtime = runtime
        self._weights, self._or_paddle = weights, or_paddle
        self._sessions: dict[tuple[Sequence[str], Size], Session] = {}
        self._lock = threading.Lock()

    def run(self, branches: Sequence[str], windows: Floats) -> list[Floats]:
        """Return the logits of each branch, (B, C, h, w); shared layers run once.

        Raises:
            UserError: the weights do not match the structure.
            WorkFailed: the structure cannot be exported.
        """
        if len(windows) > 1 or self._differ(branches):
            return self.begin(branches, windows)()
        return self._session(tuple(branches), (windows.shape[2], windows.shape[3])).run(windows)

    def begin(self, branches: Sequence[str], windows: Floats) -> Waiting:
        """Start `run` in the background and return a function that waits for its result. Raises as `run` does."""
        if self._differ(branches):  # no shared layers
            calls = [self.begin([branch], windows) for branch in branches]
            return lambda: [logits for wait in calls for logits in wait()]
        session = self._session(tuple(branches), (windows.shape[2], windows.shape[3]))
        if session.whole_batches:
            logits = session.run(windows)
            return lambda: logits
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
            progress.say("engine", f"{error}; using eager {PADDLE} instead")
            self.runtime = PADDLE
            return PaddleSession(weights, branches)
        states = {branch: weights.states[branch] for branch in branches}
        return open_session(self.runtime, fill(graph, states, origin=weights.origin))
