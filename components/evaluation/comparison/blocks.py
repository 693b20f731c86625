"""Find the images that bootstrap intervals must resample together: consecutive frames of a video.

Near copies of one frame say hardly more than the frame itself, so resampling them one by one makes an interval too
narrow. Sequences longer than √N of all N images are cut into blocks of that many consecutive frames, which do not
overlap (Carlstein, 1986); shorter sequences stay whole. A block's length must grow with N, and the number of blocks as
well (Künsch, 1989), and √N is the usual choice for means over a dependent series (Jones et al., 2006, "Fixed-width
output analysis for Markov chain Monte Carlo"). The length with the least variance, N^(1/3) (Hall, Horowitz and Jing,
1995), is too short for strongly dependent frames. On CamVid's validation clip of 101 frames, √N is 10: frames that far
apart differ in 94 of 256 bits of the perceptual hash, as frames of different videos do, and those 5 apart in 64.
"""

import math
from collections.abc import Callable, Collection, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from itertools import pairwise

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from components.dataset.check.perceptual import MAX_DISTANCE, Hashes, perceptual_hash
from components.dataset.propose.groups import Name, numbered_blocks, numbered_sequences, parse_name
from components.dataset.ranking import known_sequence

MOSTLY = 0.5
"""Numbered images are frames of a sequence if more than this share of them are near copies of the one before."""


@dataclass(frozen=True)
class Blocks:
    """Images in groups that are resampled together."""

    of_image: NDArray[np.intp]
    """(N,): the number of each image's block, from 0, in the order of the images."""
    sequences: int
    frames: int
    """Number of images that belong to a sequence."""

    @property
    def count(self) -> int:
        return int(self.of_image.max(initial=-1)) + 1


def image_blocks(images: Sequence[str], near_copies: Collection[str] = ()) -> Blocks:
    """Return the blocks of images. Without sequences, each image is its own block, in the order given.

    Numbered images that differ only in their number are a sequence if the dataset is known to name videos so, or if
    most of them are near copies.

    Args:
        near_copies: the images that `find_near_copies` returned.
    """
    names = [parse_name(image) for image in images]
    image_of = dict(zip(names, images, strict=True))
    near = {name for name, image in zip(names, images, strict=True) if image in near_copies}
    sequences = [found for found in numbered_sequences(names) if _is_sequence(found, image_of, near)]
    frames = [name for found in sequences for name in found]
    # Half of the names at most are sequences of their own, and all are numbered, so there are blocks.
    block_names = numbered_blocks(frames, max(1, math.isqrt(len(images)))) or [] if frames else []
    block_of: dict[Name, str] = dict(zip(frames, block_names, strict=True))
    # A block's name could also be that of an image.
    members = [(name in block_of, block_of.get(name, image)) for name, image in zip(names, images, strict=True)]
    numbers: dict[tuple[bool, str], int] = {}
    found = [numbers.setdefault(member, len(numbers)) for member in members]
    return Blocks(np.array(found, np.intp), len(sequences), sum(name in block_of for name in names))


def find_near_copies(images: Sequence[str], pixels: Callable[[int], NDArray[np.uint8]]) -> tuple[str, ...]:
    """Return the images that are near copies of the image before them, among images that differ only in their number.

    Args:
        pixels: returns image n as (H, W, 3) uint8 RGB; called from several threads, for numbered images only.
    """
    places = {parse_name(image): number for number, image in enumerate(images)}
    sequences = [found for found in numbered_sequences(list(places)) if len(found) > 1]

    def hashed(name: Name) -> Hashes:
        return perceptual_hash(Image.fromarray(pixels(places[name])))

    copies = []
    with ThreadPoolExecutor() as pool:
        for names in sequences:
            for (_, before), (name, own) in pairwise(zip(names, pool.map(hashed, names), strict=True)):
                if np.bitwise_count(before ^ own).sum() <= MAX_DISTANCE:
                    copies.append(images[places[name]])
    return tuple(copies)


def _is_sequence(names: Sequence[Name], image_of: dict[Name, str], near: Collection[Name]) -> bool:
    if len(names) < 2:
        return False
    is_known = known_sequence(image_of[names[0]]) is not None
    return is_known or sum(name in near for name in names) > MOSTLY * (len(names) - 1)
