"""Compare two networks on one image: their disagreement, their uncertainty, and a compact description of the image."""

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise

import numpy as np
from numpy.typing import NDArray

from components.inference.checkpoint import Description
from components.inference.engine import Engine
from components.inference.paddle_engine import Floats
from components.inference.probabilities import mean_probabilities, most_likely
from components.inference.sliding import Window, normalize, sliding_bands
from components.metrics.confusion import ClassIds
from components.networks.image_size import reduced

GRID = (4, 6)
"""Rows and columns of the cells that a description averages over."""


@dataclass(frozen=True)
class Comparison:
    """The predictions of both networks on an image of H x W pixels."""

    left: ClassIds
    right: ClassIds
    """(H, W) class ids predicted by each network."""
    uncertainty: Floats
    """(H, W) entropy of the networks' mean probabilities, scaled to [0, 1]: 0 is certain, 1 is uniform."""
    layout: Floats
    """(rows, columns, C) mean class probabilities of each cell of GRID."""

    @property
    def differs(self) -> NDArray[np.bool_]:
        return np.asarray(self.left != self.right)


@dataclass(frozen=True)
class Measure:
    """The numbers that the ranking uses for an image."""

    disagreement: float
    """Share of pixels that the networks assign to different classes."""
    uncertainty: float
    """Mean over all pixels, in [0, 1]."""
    appearance: Floats
    """A vector for distances between images: the square roots of each cell's mean probabilities, then its mean colour.

    Each of the two halves contributes at most about 1 to a distance.
    """


def compare(
    engines: Sequence[Engine], image: NDArray[np.uint8], description: Description, batch: int = 4
) -> Comparison:
    """Run both networks over an image, (H, W, 3) uint8 RGB, at the size that they see."""
    image = reduced(image, description.longest_side)
    height, width = image.shape[:2]
    classes = len(description.classes)
    ids = [np.zeros((height, width), np.uint8 if classes <= 256 else np.uint16) for _ in engines]
    unsure = np.zeros((height, width), np.float32)
    layout = np.zeros((*GRID, classes), np.float64)
    bands = sliding_bands(
        engines,
        lambda top, bottom: normalize(image[top:bottom], description.mean, description.std),
        (height, width),
        Window(description.crop, description.stride, batch),
    )
    for band in bands:
        rows, columns = band.logits[0].shape[1:]
        place = slice(band.top, band.top + rows), slice(band.left, band.left + columns)
        for found, logits in zip(ids, band.logits, strict=True):
            found[place] = most_likely(logits)
        mean = mean_probabilities(band.logits)
        unsure[place] = -(mean * np.log(np.maximum(mean, 1e-12))).sum(axis=0) / np.log(max(2, classes))
        for cell, window in _cells((height, width), place):
            layout[cell] += mean[:, window[0], window[1]].sum(axis=(1, 2))
    layout /= np.maximum(layout.sum(axis=2, keepdims=True), 1e-12)
    return Comparison(ids[0], ids[1], np.clip(unsure, 0, 1), layout.astype(np.float32))


def measure(found: Comparison, image: NDArray[np.uint8]) -> Measure:
    colors = np.zeros((*GRID, 3))
    for cell, window in _cells(image.shape[:2], (slice(0, image.shape[0]), slice(0, image.shape[1]))):
        colors[cell] = image[window].mean(axis=(0, 1)) / 255
    cells = GRID[0] * GRID[1]
    appearance = np.concatenate([np.sqrt(found.layout).ravel() / cells**0.5, colors.ravel() / (3 * cells) ** 0.5])
    return Measure(float(found.differs.mean()), float(found.uncertainty.mean()), appearance.astype(np.float32))


def _cells(size: tuple[int, ...], place: tuple[slice, slice]) -> list[tuple[tuple[int, int], tuple[slice, slice]]]:
    """Return the non-empty cells that overlap a part of an image, each with its slices of that part."""
    lines = []
    for length, part, count in zip(size, place, GRID, strict=True):
        edges = [round(number * length / count) for number in range(count + 1)]
        spans = [(max(low, part.start), min(high, part.stop)) for low, high in pairwise(edges)]
        lines.append(
            [(cell, slice(low - part.start, high - part.start)) for cell, (low, high) in enumerate(spans) if low < high]
        )
    return [((row, column), (rows, columns)) for row, rows in lines[0] for column, columns in lines[1]]
