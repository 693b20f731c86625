"""Pictures that look alike: a perceptual hash, and the nearest among many by Hamming distance.

256 bits of a discrete cosine transform (as pHash, which has 64). On CamVid, copies that were recompressed, halved,
brightened or cropped by a hundredth differ in at most 22 bits, neighbouring frames of a film in about 20, frames of
different films in at least 90. With 64 bits these ranges overlap.
"""

from functools import cache
from itertools import pairwise

import numpy as np
from numpy.typing import NDArray
from PIL import Image

BITS = 256
ALIKE = 32
"""Bits by which two pictures may differ and still be called near duplicates."""
_SIDE = 16
_SAMPLED = 4 * _SIDE
_ENOUGH = 512
"""Pixels of the shorter side, from which a cell of the 64 x 64 is the mean of at least 64."""
_PAIRS_AT_ONCE = 1 << 20

Hashes = NDArray[np.uint64]
"""(n, 4)."""


def perceptual_hash(picture: Image.Image) -> Hashes:
    """(4,) uint64: which of the 256 lowest frequencies of the grey picture are above their median.

    Pictures without any contrast have equal hashes.

    Raises:
        ValueError: pixels of this kind have no colours.
    """
    if picture.mode not in ("L", "RGB"):
        picture = picture.convert("RGB")
    # Of a large picture every other pixel or fewer, then the mean over blocks: little beside its decoding.
    skip = min(picture.size) // _ENOUGH
    if skip > 1:
        picture = picture.resize((picture.width // skip, picture.height // skip), Image.Resampling.NEAREST)
    width, height = picture.size
    blocks = picture.reduce((max(1, width // (4 * _SAMPLED)), max(1, height // (4 * _SAMPLED))))
    grey = blocks.convert("L").resize((_SAMPLED, _SAMPLED), Image.Resampling.BOX)
    cosines = _cosines()
    # Rounded, so that a flat picture gives zeros and no noise.
    frequencies = (cosines @ np.asarray(grey, np.float64) @ cosines.T).round(3).ravel()
    bits = frequencies > np.median(frequencies[1:])
    bits[0] = False  # the mean brightness
    return np.packbits(bits).view(np.uint64)


def nearest(hashes: Hashes, among: Hashes) -> tuple[NDArray[np.intp], NDArray[np.uint16]]:
    """For each of `hashes` the index of its nearest in `among`, which is not empty, and their distance in bits.

    Compares all pairs, some hundred million a second and core, in memory for a million.
    """
    index = np.zeros(len(hashes), np.intp)
    distance = np.zeros(len(hashes), np.uint16)
    rows = max(1, _PAIRS_AT_ONCE // len(among))
    for start, end in pairwise([*range(0, len(hashes), rows), len(hashes)]):
        distances = np.zeros((end - start, len(among)), np.uint16)
        for word in range(hashes.shape[1]):
            distances += np.bitwise_count(hashes[start:end, word, None] ^ among[None, :, word])
        index[start:end] = distances.argmin(axis=1)
        distance[start:end] = distances.min(axis=1)
    return index, distance


@cache
def _cosines() -> NDArray[np.float64]:
    frequency, place = np.arange(_SIDE)[:, None], np.arange(_SAMPLED)[None]
    return np.asarray(np.cos(np.pi * frequency * (2 * place + 1) / (2 * _SAMPLED)))
