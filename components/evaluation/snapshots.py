"""Small masks of a few validation images for each checkpoint, which show in the report how the networks improve."""

import io
import zipfile
from collections.abc import Sequence

import numpy as np

from components.errors import WorkFailed
from components.metrics.confusion import ClassIds
from components.pages.pictures import ids_thumbnail
from components.runs.result import Variant

IMAGES = 3
WIDTH = 320
"""Maximum width of a mask in pixels."""


def chosen(images: int) -> list[int]:
    """Return the numbers of up to IMAGES images, evenly spaced: neighbours are often frames of the same video."""
    count = min(IMAGES, images)
    return [(2 * number + 1) * images // (2 * count) for number in range(count)]


class Snapshots:
    """Collects the masks of one checkpoint while it is scored. Threads may call `keep` concurrently."""

    def __init__(self, names: Sequence[str]) -> None:
        self._names = {number: names[number] for number in chosen(len(names))}
        self._masks: dict[str, ClassIds] = {}

    def keep(self, number: int, variant: Variant, ids: ClassIds) -> None:
        """Keep the predicted ids, shrunk, if the image is one of the chosen."""
        if number in self._names:
            self._masks[f"{variant}/{self._names[number]}"] = ids_thumbnail(ids, WIDTH)

    def pack(self) -> bytes:
        """Return the masks as .npz with an array `VARIANT/IMAGE` for each."""
        buffer = io.BytesIO()
        np.savez_compressed(buffer, **{name: self._masks[name] for name in sorted(self._masks)})  # type: ignore[arg-type]
        return buffer.getvalue()


def unpack(data: bytes, variant: Variant, origin: str) -> dict[str, ClassIds]:
    """Return a checkpoint's masks in a variant by image. Raises WorkFailed, naming `origin`, if damaged."""
    try:
        with np.load(io.BytesIO(data), allow_pickle=False) as file:
            return {name.partition("/")[2]: file[name] for name in file.files if name.partition("/")[0] == variant}
    except (ValueError, EOFError, zipfile.BadZipFile) as error:
        raise WorkFailed(f"{origin} is not a file of masks ({error}): remove it and evaluate again") from error
