"""The agreement of the two networks: a measure of a checkpoint that needs no label."""

import threading

import numpy as np

from components.metrics.confusion import ClassIds
from components.runs.result import Variant


class Agreement:
    """Counts the pixels for which both networks predict the same class, over images that threads may share."""

    def __init__(self) -> None:
        self._left: dict[int, ClassIds] = {}
        self._equal = self._pixels = 0
        self._counting = threading.Lock()

    def observe(self, number: int, variant: Variant, ids: ClassIds) -> None:
        """Take the class ids (H, W) that one network predicts for image `number`; the left network comes first."""
        if variant == "left":
            self._left[number] = ids
        elif variant == "right":
            equal = int(np.count_nonzero(self._left.pop(number) == ids))
            with self._counting:
                self._equal, self._pixels = self._equal + equal, self._pixels + ids.size

    @property
    def share(self) -> float | None:
        """The share of all pixels, in [0, 1], or None without images."""
        return self._equal / self._pixels if self._pixels else None
