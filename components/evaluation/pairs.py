"""Validation images, decoded once however many checkpoints are scored on them."""

import os
import tempfile
import threading
from collections.abc import Sequence
from pathlib import Path
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from components.errors import WorkFailed

Pixels = NDArray[np.uint8]


class ImageSource(Protocol):
    """What gives pixels by name: a DatasetReader."""

    def image(self, name: str) -> Pixels:
        """(H, W, 3) uint8 RGB."""

    def label(self, name: str) -> Pixels:
        """(H, W) uint8 class ids."""


class ValidationPairs:
    """Pairs of image and label. The first use of a pair decodes it into a nameless temporary file, later ones
    read it from there: the system's page cache keeps it in memory while there is room, and no longer. Threads
    may share it.
    """

    def __init__(self, source: ImageSource, samples: Sequence[tuple[str, str]], scratch: Path) -> None:
        """`samples` are (image name, label name); `scratch` a folder with room for the pixels, 4 bytes
        each.
        """
        scratch.mkdir(parents=True, exist_ok=True)
        self.names = tuple(image for image, _ in samples)
        self._source, self._samples = source, samples
        self._file = tempfile.TemporaryFile(dir=scratch)  # noqa: SIM115 - closed with this object
        self._places: dict[int, tuple[int, tuple[int, int]]] = {}
        self._end = 0
        self._lock = threading.Lock()

    def __len__(self) -> int:
        return len(self._samples)

    def pair(self, number: int) -> tuple[Pixels, Pixels]:
        """Image (H, W, 3) RGB and label (H, W). Raises WorkFailed where their sizes differ."""
        place = self._places.get(number)
        if place is None:
            return self._decode(number)
        offset, (height, width) = place
        data = np.frombuffer(os.pread(self._file.fileno(), height * width * 4, offset), np.uint8)
        image, label = np.split(data, [height * width * 3])
        return image.reshape(height, width, 3), label.reshape(height, width)

    def _decode(self, number: int) -> tuple[Pixels, Pixels]:
        image_name, label_name = self._samples[number]
        image, label = self._source.image(image_name), self._source.label(label_name)
        if image.shape[:2] != label.shape:
            raise WorkFailed(
                f"label {label_name} is {label.shape[1]}x{label.shape[0]} pixels, "
                f"its image {image_name} {image.shape[1]}x{image.shape[0]}"
            )
        data = image.tobytes() + label.tobytes()
        with self._lock:
            offset, self._end = self._end, self._end + len(data)
        written = 0
        while written < len(data):  # one call may write less than it is given
            written += os.pwrite(self._file.fileno(), memoryview(data)[written:], offset + written)
        self._places[number] = (offset, (label.shape[0], label.shape[1]))
        return image, label

    def close(self) -> None:
        self._file.close()

    def __enter__(self) -> "ValidationPairs":
        return self

    def __exit__(self, *_: object) -> None:
        self.close()
