"""Which images a step sees: functions of the seed and the step alone.

A list is walked in endless passes, each in an order of its own. Position p of the walk lies in pass p // n, so any
process can find its images of any step without having walked there.
"""

from functools import lru_cache

import numpy as np
from numpy.typing import NDArray

from components.errors import UserError
from components.training.batches.randomness import Stream, generator


def labeled_indices(count: int, seed: int, step: int, batch: int) -> list[int]:
    """The labelled images of a step, of `count`; the list repeats as often as it must."""
    return [_ordered(count, seed, Stream.LABELED_ORDER, step * batch + slot)[0] for slot in range(batch)]


def unlabeled_pairs(count: int, seed: int, step: int, batch: int) -> list[tuple[int, int]]:
    """The two unlabelled streams of a step: pairs of different images, each image once a pass in either stream.

    The second stream walks the same pass rotated by a distance drawn for it, which is never zero: so no image is ever
    mixed with itself. Raises UserError when there is one image only.
    """
    if count < 2:
        raise UserError(
            f"CutMix needs 2 unlabelled images, there is {count}; choose a smaller ratio or set cps.weight=0"
        )
    pairs = []
    for slot in range(batch):
        first, number, place = _ordered(count, seed, Stream.UNLABELED_ORDER, step * batch + slot)
        distance = int(generator(seed, Stream.UNLABELED_ORDER, number, 1).integers(1, count))
        order = _pass_order(count, seed, Stream.UNLABELED_ORDER, number)
        pairs.append((first, int(order[(place + distance) % count])))
    return pairs


def _ordered(count: int, seed: int, stream: Stream, position: int) -> tuple[int, int, int]:
    number, place = divmod(position, count)
    return int(_pass_order(count, seed, stream, number)[place]), number, place


@lru_cache(maxsize=16)
def _pass_order(count: int, seed: int, stream: Stream, number: int) -> NDArray[np.int64]:
    return generator(seed, stream, number).permutation(count)
