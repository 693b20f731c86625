"""Decode validation images once, however many checkpoints are scored on them."""

import os
import tempfile
import threading
from collections.abc import Sequence
from pathlib import Path
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from components.disk import writing
from components.errors import WorkFailed
from components.evaluation.comparison.blocks import find_near_copies

Pixels = NDArray[np.uint8]


class ImageSource(Protocol):
    """A source of pixels by name, such as a DatasetReader."""

    def image(self, name: str) -> Pixels:
        """Return the image as (H, W, 3) uint8 RGB."""

    def label(self, name: str) -> Pixels:
        """Return the label as (H, W) uint8 class ids."""


class ValidationPairs:
    """Pairs of image and label, which threads may share.

    The first use of a pair decodes it into an unnamed temporary file, from which later uses read it. The operating
    system's page cache keeps the file in memory as long as there is room.
    """

    def __init__(self, source: ImageSource, samples: Sequence[tuple[str, str]], scratch: Path) -> None:
        """Create the temporary file.

        Args:
            samples: (image name, label name) of each pair.
            scratch: a folder with room for 4 bytes per pixel.
        """
        with writing(scratch):
            scratch.mkdir(parents=True, exist_ok=True)
            self._file = tempfile.TemporaryFile(dir=scratch)  # noqa: SIM115 - closed with this object
        self.names = tuple(image for image, _ in samples)
        self._source, self._samples, self._scratch = source, samples, scratch
        self._places: dict[int, tuple[int, tuple[int, int]]] = {}
        self._end = 0
        self._lock = threading.Lock()

    def __len__(self) -> int:
        return len(self._samples)

    def pair(self, number: int) -> tuple[Pixels, Pixels]:
        """Return the image (H, W, 3), RGB, and the label (H, W). Raises WorkFailed if their sizes differ."""
        place = self._places.get(number)
        if place is None:
            return self._decode(number)
        offset, (height, width) = place
        data = np.frombuffer(os.pread(self._file.fileno(), height * width * 4, offset), np.uint8)
        image, label = np.split(data, [height * width * 3])
        return image.reshape(height, width, 3), label.reshape(height, width)

    def near_copies(self) -> tuple[str, ...]:
        """Return the images that are near copies of the frame before them, by their names' order."""
        return find_near_copies(self.names, lambda number: self.pair(number)[0])

    def _decode(self, number: int) -> tuple[Pixels, Pixels]:
        image_name, label_name = self._samples[number]
        image, label = self._source.image(image_name), self._source.label(label_name)
        if image.shape[:2] != label.shape:
            raise WorkFailed(
                f"label {label_name} is {label.shape[1]}x{label.shape[0]} pixels, "
                f"but its image {image_name} is {image.shape[1]}x{image.shape[0]}: prepare the dataset again"
            )
        data = image.tobytes() + label.tobytes()
        with self._lock:
            offset, self._end = self._end, self._end + len(data)
        written = 0
        with writing(self._scratch, needed=len(data)):
            while written < len(data):  # a single call may write only part of the data
                written += os.pwrite(self._file.fileno(), memoryview(data)[written:], offset + written)
        self._places[number] = (offset, (label.shape[0], label.shape[1]))
        return image, label

    def close(self) -> None:
        self._file.close()

    def __enter__(self) -> "ValidationPairs":
        return self

    def __exit__(self, *_: object) -> None:
        self.close()
