"""Sampling: the images of a step, as a function of the seed and the step alone.

Training goes through a list of n images in endless passes, each in its own random order. Position p belongs to pass
p // n, so any process can find the images of any step directly.
"""

from functools import lru_cache

import numpy as np
from numpy.typing import NDArray

from components.errors import UserError
from components.training.batches.randomness import Stream, generator


def labeled_indices(count: int, seed: int, step: int, batch: int) -> list[int]:
    """Return the indices of a step's labelled images, out of `count`; the list repeats as often as needed."""
    return [_ordered(count, seed, Stream.LABELED_ORDER, step * batch + slot)[0] for slot in range(batch)]


def unlabeled_pairs(count: int, seed: int, step: int, batch: int) -> list[tuple[int, int]]:
    """Return the indices of a step's pairs of unlabelled images; in each place, every image occurs once per pass.

    The second image of a pair comes from the same pass, rotated by a random distance that is never zero, so that no
    image is mixed with itself. Raises UserError with fewer than two images.
    """
    if count < 2:
        raise UserError(
            f"CutMix needs at least 2 unlabelled images, and there is {count}: choose a smaller ratio or set "
            "cps.weight=0"
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
