"""Random generators of a training: every draw depends only on the seed, its purpose and its position in the training.

No draw depends on earlier ones. A training that resumes at step 1000 therefore draws the same numbers as an
uninterrupted one, with any number of loader threads or processes.
"""

from enum import IntEnum

import numpy as np


class Stream(IntEnum):
    """Purposes of draws. A new purpose gets a new number; existing numbers never change."""

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
    FEATURE_DROPOUT = 12
    PASTE = 13
    PASTED_IMAGE = 14
    LABELED_BOX = 15


def generator(seed: int, stream: Stream, *position: int) -> np.random.Generator:
    """Return the generator for a purpose at a position, such as a step or an image."""
    return np.random.Generator(np.random.Philox(np.random.SeedSequence([seed, int(stream), *position])))


def view_position(position: int, view: int) -> tuple[int, ...]:
    """Return the position of a view of a mixed image; the first view has the position of the image itself."""
    return (position, view) if view else (position,)


def number(seed: int, stream: Stream, *position: int) -> int:
    """Return a seed for a library with its own generator."""
    return int(np.random.SeedSequence([seed, int(stream), *position]).generate_state(1)[0])
