"""From an image to class ids: bands of logits are reduced as soon as they are finished.

The logits of a whole image are many times its size if there are many classes.
"""

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from components.inference import device
from components.inference.engine import Engine
from components.inference.output import Output, Segmentation, Truth
from components.inference.paddle_engine import Floats
from components.inference.passes import image_bands
from components.inference.probabilities import mean_probabilities, most_likely
from components.inference.sliding import Band, Window
from components.metrics.confusion import ClassIds, confusion_matrix

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
    canvases = [_Canvas(image.shape[:2], confidence=output.confidence) for _ in output.groups or [()]]
    for band in image_bands(engines, image, window, mean=mean, std=std):
        for canvas, group in zip(canvases, output.groups or [range(len(engines))], strict=True):
            canvas.add(band, [band.logits[number] for number in group])
    return [canvas.segmentation(output.truth) for canvas in canvases]


class _Canvas:
    """Collects the class ids of an image from its bands."""

    def __init__(self, size: tuple[int, ...], *, confidence: bool) -> None:
        self._size = size
        self._ids: ClassIds | None = None
        self._confidence = np.empty(size, np.float32) if confidence else None

    def add(self, band: Band, logits: Sequence[Floats]) -> None:
        several = len(logits) > 1
        probabilities = mean_probabilities(logits) if several or self._confidence is not None else logits[0]
        ids = most_likely(probabilities if several else logits[0])
        if self._ids is None:
            self._ids = np.empty(self._size, ids.dtype)
        self._ids[band.place] = ids
        if self._confidence is not None:
            self._confidence[band.place] = probabilities.max(axis=0)

    def segmentation(self, truth: Truth | None) -> Segmentation:
        assert self._ids is not None, "an image has rows"
        matrix = confusion_matrix(truth.label, self._ids, truth.num_classes, truth.ignore_index) if truth else None
        return Segmentation(self._ids, self._confidence, matrix)
