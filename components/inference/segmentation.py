"""From an image to class ids: bands of logits are reduced as soon as they are finished.

The logits of a whole image are many times its size if there are many classes.
"""

import math
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from components.inference import device
from components.inference.engine import Engine
from components.inference.output import Output, Segmentation
from components.inference.paddle_engine import Floats
from components.inference.passes import TooLarge, image_bands
from components.inference.probabilities import mean_probabilities, most_likely
from components.inference.sliding import Band, Window
from components.metrics.confusion import ClassIds, confusion_matrix
from components.networks.processor import available_memory
from components.units import memory_text

CLASS_IDS = Output()
"""Class ids alone, from all networks."""


def segment(
    engines: Sequence[Engine],
    image: NDArray[np.uint8],
    window: Window,
    *,
    mean: Sequence[float],
    std: Sequence[float],
    output: Output = CLASS_IDS,
) -> list[Segmentation]:
    """Return a segmentation of an RGB image, (H, W, 3) uint8, for each of the output's groups of engines.

    On a GPU, the whole computation runs there, if the image's logits fit in its memory.

    Raises TooLarge if the image needs more memory than there is.
    """
    networks = device.networks_for(engines, (image.shape[0], image.shape[1]), window)
    if networks:
        return device.segment(networks, image, window, mean=mean, std=std, output=output)
    canvases = [_Canvas(image.shape[:2], output) for _ in output.groups or [()]]
    for band in image_bands(engines, image, window, mean=mean, std=std):
        for canvas, group in zip(canvases, output.groups or [range(len(engines))], strict=True):
            canvas.add(band, [band.logits[number] for number in group])
    return [canvas.segmentation() for canvas in canvases]


class _Canvas:
    """Collects the class ids of an image from its bands."""

    def __init__(self, size: tuple[int, ...], output: Output) -> None:
        self._size, self._output = size, output
        self._ids: ClassIds | None = None
        self._confidence = np.empty(size, np.float32) if output.confidence else None
        self._probabilities: Floats | None = None

    def add(self, band: Band, logits: Sequence[Floats]) -> None:
        several, output = len(logits) > 1, self._output
        is_needed = several or output.confidence or output.probabilities
        probabilities = mean_probabilities(logits) if is_needed else logits[0]
        ids = most_likely(probabilities if several else logits[0])
        if self._ids is None:
            self._ids = np.empty(self._size, ids.dtype)
        self._ids[band.place] = ids
        if self._confidence is not None:
            self._confidence[band.place] = probabilities.max(axis=0)
        if output.probabilities:
            if self._probabilities is None:
                self._probabilities = _room_for((len(probabilities), *self._size))
            self._probabilities[:, *band.place] = probabilities

    def segmentation(self) -> Segmentation:
        assert self._ids is not None, "an image has rows"
        truth = self._output.truth
        matrix = confusion_matrix(truth.label, self._ids, truth.num_classes, truth.ignore_index) if truth else None
        return Segmentation(self._ids, self._confidence, matrix, self._probabilities)


def _room_for(shape: tuple[int, ...]) -> Floats:
    """Return an array for the probabilities (C, H, W) of a whole image. Raises TooLarge."""
    needed, free = 4 * math.prod(shape), available_memory()
    if free is not None and needed > free:
        raise TooLarge(
            f"the probabilities of {shape[0]} classes need {memory_text(needed)} of memory for an image of "
            f"{shape[2]} x {shape[1]} pixels, and {memory_text(free)} are free: use smaller images, or the confidence "
            "alone"
        )
    return np.empty(shape, np.float32)
