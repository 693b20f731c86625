"""Photographs for the check: street scenes in Cityscapes' size, which the loader decodes at every read."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from components.dataset.manifest import Manifest, Sample
from components.dataset.split import Split
from components.dataset.stored.reader import DatasetReader
from components.dataset.stored.upright import upright_rgb
from components.scenes.generate import draw_street
from components.scenes.model import CLASSES
from components.threads import in_threads

_REPEATS = 64
"""Names that each file has, so that a batch has as many different images as it needs."""


def draw_files(folder: Path, count: int, size: tuple[int, int]) -> None:
    """Write `count` scenes of `size` (height, width) as NUMBER.png with labels NUMBER-label.png."""

    def draw(number: int) -> None:
        image, label = draw_street(np.random.default_rng(number), size[1], size[0])
        Image.fromarray(image).save(folder / f"{number}.png", compress_level=1)
        Image.fromarray(label).save(folder / f"{number}-label.png", compress_level=1)

    list(in_threads(draw, range(count)))


class StreetReader(DatasetReader):
    """The files of a folder as a dataset. Nothing is cached, as in a dataset much larger than the memory."""

    def __init__(self, folder: Path) -> None:
        self.folder, self._handles, self._replaced = folder, {}, []
        self._count = len(list(folder.glob("*-label.png")))
        samples = tuple(Sample(image=f"{number}", label=f"{number}-label") for number in range(self._count * _REPEATS))
        self.manifest = Manifest(
            digest="0" * 64, name="streets", layout="check", files={}, shards=(), classes=CLASSES, train=samples, val=()
        )

    def image(self, name: str) -> NDArray[np.uint8]:
        with Image.open(self._file(name)) as picture:
            return upright_rgb(picture)

    def label(self, name: str) -> NDArray[np.uint8]:
        with Image.open(self._file(name)) as picture:
            return np.array(picture, dtype=np.uint8)

    def split(self) -> Split:
        """Return half of the images as labelled and half as unlabelled."""
        train: Sequence[Sample] = self.manifest.train
        half = len(train) // 2
        return Split(
            labeled_ratio="1/2",
            seed=0,
            origin="seeded",
            labeled=tuple(train[:half]),
            unlabeled=tuple(sample.image for sample in train[half:]),
            val=(),
            test=(),
            fingerprint="0" * 64,
        )

    def _file(self, name: str) -> Path:
        number, _, kind = name.partition("-")
        return self.folder / f"{int(number) % self._count}{'-label' if kind else ''}.png"
