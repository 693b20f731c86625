"""How long a step will still take, from how it went lately."""

import time
from collections import deque

_LATELY = 30.0
"""Seconds that the estimate looks back over: a first slow step, or work found done, is soon forgotten."""
_LEAST = 3
"""Reports that an estimate needs, and that it keeps however long ago they were."""


class Remaining:
    """Takes each report of how far a step is; tells the seconds that are left, or None while nobody can know.

    What was done before the first report took no time here, so it does not count as speed: a step that goes on where it
    was is not promised to end at once. Where a step turns to other units or falls back, the estimate begins anew.
    Silence counts: while a step stands still, what is left grows.
    """

    def __init__(self) -> None:
        self._reports: deque[tuple[float, float]] = deque()
        self._total = 0.0

    def report(self, done: float, total: float, now: float | None = None) -> None:
        """`done` of `total` units; `now` in seconds of a monotonic clock."""
        now = time.monotonic() if now is None else now
        if total != self._total or (self._reports and done < self._reports[-1][1]):
            self._reports.clear()
            self._total = total
        self._reports.append((now, done))
        while len(self._reports) > _LEAST and now - self._reports[1][0] > _LATELY:
            self._reports.popleft()

    def seconds(self, now: float | None = None) -> float | None:
        if len(self._reports) < _LEAST:
            return None
        now = time.monotonic() if now is None else now
        (began, before), (last, done) = self._reports[0], self._reports[-1]
        usual = (last - began) / (len(self._reports) - 1)
        silent = now - last
        took = last - began + max(0.0, silent - usual)
        if done <= before or took <= 0:
            return None
        left = (self._total - done) * took / (done - before)
        return max(0.0, left - min(silent, usual))
