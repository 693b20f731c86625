"""The scores of a checkpoint: a confusion matrix and boundary counts for each image and variant, in a compressed file.

They are stored per image because every metric derives from them: mIoU, the worst images, and bootstrap intervals, which
resample the images.
"""

import io
import json
import zipfile
from collections.abc import Mapping
from dataclasses import asdict, dataclass, fields
from typing import Any

import numpy as np

from components.errors import WorkFailed
from components.inference.sliding import Size, Window
from components.metrics.boundary import RATIO, BandCounts
from components.metrics.confusion import Matrix
from components.metrics.scores import mean_iou
from components.runs.result import VARIANTS, Variant

FORMAT = 3
"""Version of the file. Format 2, of 0.1.0, calls the ensemble `mean`; scores in any other format are recomputed."""
_VARIANTS_OF_FORMAT_2: Mapping[str, Variant] = {"left": "left", "right": "right", "mean": "ensemble"}


@dataclass(frozen=True)
class Protocol:
    """How images were scored. Scores are only comparable, and only reused, if their protocols are equal."""

    split: str
    """The split's fingerprint."""
    classes: tuple[str, ...]
    ignore_index: int
    crop: Size
    stride: Size
    engine: str
    scales: tuple[float, ...] = (1.0,)
    flip: bool = False
    boundary_ratio: float = RATIO
    """The boundary IoU's distance, as a share of the image's diagonal."""
    longest_side: int = 0
    """Number of pixels along the longer side to which larger images are reduced; 0 keeps their size."""

    def window(self, batch: int) -> Window:
        """Return the sliding window, with `batch` windows per network call."""
        return Window(self.crop, self.stride, batch, self.scales, self.flip, self.longest_side)


@dataclass(frozen=True)
class Scores:
    """The scores of one checkpoint on a list of images, in some or all variants."""

    epoch: int
    step: int
    checkpoint_sha256: str
    protocol: Protocol
    images: tuple[str, ...]
    matrices: Mapping[Variant, Matrix]
    """(N, C, C) int64 for each variant; rows are the truth."""
    bands: Mapping[Variant, BandCounts]
    """(N, C, 3) int64 for each variant: the counts that boundary IoU is computed from."""

    def total(self, variant: Variant) -> Matrix:
        """Return the confusion matrix (C, C) over all images."""
        summed: Matrix = self.matrices[variant].sum(axis=0)
        return summed

    def mean_iou(self, variant: Variant) -> float:
        """Return the mIoU over all images, in [0, 1]."""
        return mean_iou(self.total(variant))


def pack(scores: Scores) -> bytes:
    """Return the scores as .npz: an array per variant, such as left and bands-left, and `meta`, a JSON text."""
    meta = {
        "format": FORMAT,
        "epoch": scores.epoch,
        "step": scores.step,
        "checkpoint_sha256": scores.checkpoint_sha256,
        "protocol": asdict(scores.protocol),
        "images": scores.images,
        "variants": list(scores.matrices),
    }
    buffer = io.BytesIO()
    arrays: dict[str, Any] = {str(variant): matrix for variant, matrix in scores.matrices.items()}
    arrays.update({f"bands-{variant}": counts for variant, counts in scores.bands.items()})
    np.savez_compressed(buffer, meta=np.array(json.dumps(meta)), **arrays)
    return buffer.getvalue()


def unpack(data: bytes, origin: str) -> Scores | None:
    """Return the scores in a file, or None for an unknown format. Raises WorkFailed, naming `origin`, if damaged."""
    try:
        with np.load(io.BytesIO(data), allow_pickle=False) as file:
            meta = json.loads(str(file["meta"]))
            if meta["format"] not in (2, FORMAT):
                return None
            names = _VARIANTS_OF_FORMAT_2 if meta["format"] == 2 else dict(zip(VARIANTS, VARIANTS, strict=True))
            matrices: dict[Variant, Matrix] = {names[stored]: file[stored] for stored in meta["variants"]}
            bands: dict[Variant, BandCounts] = {names[stored]: file[f"bands-{stored}"] for stored in meta["variants"]}
        stored = meta["protocol"]
        protocol = {field.name: _frozen(stored[field.name]) for field in fields(Protocol) if field.name in stored}
        return Scores(
            epoch=meta["epoch"],
            step=meta["step"],
            checkpoint_sha256=meta["checkpoint_sha256"],
            protocol=Protocol(**protocol),
            images=tuple(meta["images"]),
            matrices=matrices,
            bands=bands,
        )
    except (KeyError, TypeError, ValueError, EOFError, zipfile.BadZipFile) as error:
        raise WorkFailed(f"{origin} is not a scores file ({error}): remove it and evaluate again") from error


def _frozen(value: Any) -> Any:
    """Return a list as a tuple, because JSON has no tuples."""
    return tuple(value) if isinstance(value, list) else value
