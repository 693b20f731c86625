"""Every random draw of a training is a function of the seed and of where it is made.

Nothing depends on how many draws were made before, so a training that goes on from step 1000 draws what an undisturbed
one draws, whatever the number of loader threads or processes.
"""

from enum import IntEnum

import numpy as np


class Stream(IntEnum):
    """What a draw is for. A new purpose gets a new number; existing numbers never change."""

    LABELED_ORDER = 1
    UNLABELED_ORDER = 2
    LABELED_IMAGE = 3
    UNLABELED_IMAGE_A = 4
    UNLABELED_IMAGE_B = 5
    CUTMIX = 6
    LEFT_NETWORK = 7
    RIGHT_NETWORK = 8
    STEP = 9
    STRONG_AUGMENTATION = 10
    HOLDOUT = 11


def generator(seed: int, stream: Stream, *where: int) -> np.random.Generator:
    return np.random.Generator(np.random.Philox(np.random.SeedSequence([seed, int(stream), *where])))


def number(seed: int, stream: Stream, *where: int) -> int:
    """A seed for a library that has its own generator."""
    return int(np.random.SeedSequence([seed, int(stream), *where]).generate_state(1)[0])
