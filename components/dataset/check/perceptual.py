"""Find near duplicates: a perceptual hash, and nearest-neighbour search by Hamming distance.

The hash has 256 bits of a discrete cosine transform (pHash, which it resembles, has 64). On CamVid, copies that were
recompressed, halved in size, brightened, or cropped by 1 % differ in at most 22 bits, consecutive frames of a video in
about 20, and frames of different videos in at least 90. With 64 bits, these ranges overlap.
"""

from functools import cache
from itertools import pairwise

import numpy as np
from numpy.typing import NDArray
from PIL import Image

BITS = 256
MAX_DISTANCE = 32
"""Two images that differ in at most this many bits are near duplicates."""
_SIDE = 16
_SAMPLED = 4 * _SIDE
_MIN_SIDE = 512
"""Pixels of the shorter side that are enough for each cell of the 64 x 64 grid to average at least 64 pixels."""
_PAIRS_AT_ONCE = 1 << 20

Hashes = NDArray[np.uint64]
"""(n, 4) uint64: one row per image."""


def perceptual_hash(picture: Image.Image) -> Hashes:
    """Return a (4,) uint64 hash: whether each of the 256 lowest frequencies of the grey image is above the median.

    Images without any contrast have equal hashes.

    Raises:
        ValueError: Pillow cannot convert this pixel mode to RGB.
    """
    if picture.mode not in ("L", "RGB"):
        picture = picture.convert("RGB")
    # Skip pixels of a large image before averaging blocks, so that hashing stays cheap compared with decoding.
    skip = min(picture.size) // _MIN_SIDE
    if skip > 1:
        picture = picture.resize((picture.width // skip, picture.height // skip), Image.Resampling.NEAREST)
    width, height = picture.size
    blocks = picture.reduce((max(1, width // (4 * _SAMPLED)), max(1, height // (4 * _SAMPLED))))
    grey = blocks.convert("L").resize((_SAMPLED, _SAMPLED), Image.Resampling.BOX)
    cosines = _cosines()
    # Round, so that a flat image gives zeros instead of noise.
    frequencies = (cosines @ np.asarray(grey, np.float64) @ cosines.T).round(3).ravel()
    bits = frequencies > np.median(frequencies[1:])
    bits[0] = False  # the mean brightness
    return np.packbits(bits).view(np.uint64)


def nearest(hashes: Hashes, among: Hashes) -> tuple[NDArray[np.intp], NDArray[np.uint16]]:
    """Return, for each of `hashes`, the index of its nearest neighbour in `among` and their distance in bits.

    `among` must not be empty. Compares all pairs, about a hundred million per second and core, in batches of a million.
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
