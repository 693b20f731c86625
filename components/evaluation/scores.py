"""The scores of one checkpoint: a confusion matrix for each image and variant, in one compressed file, and the
counts that boundary IoU follows from.

They are kept by image because every figure follows from their sums: mIoU, the worst images, and intervals by
drawing images anew.
"""

import io
import json
import zipfile
from collections.abc import Mapping
from dataclasses import asdict, dataclass, fields
from typing import Any

import numpy as np

from components.errors import WorkFailed
from components.inference.sliding import Size
from components.metrics.boundary import RATIO, BandCounts
from components.metrics.confusion import Matrix
from components.metrics.scores import mean_iou
from components.runs.result import VARIANTS, Variant

FORMAT = 3
"""Of the file. Format 2, of 0.1.0, calls the ensemble `mean`; scores in another format are computed again."""
_VARIANTS_OF_FORMAT_2: Mapping[str, Variant] = {"left": "left", "right": "right", "mean": "ensemble"}


@dataclass(frozen=True)
class Protocol:
    """How images were scored: scores are comparable, and reused, only where all of this is equal."""

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
    """The distance of boundary IoU, as a share of an image's diagonal."""


@dataclass(frozen=True)
class Scores:
    """One checkpoint on a list of images, in all variants or some."""

    epoch: int
    step: int
    checkpoint_sha256: str
    protocol: Protocol
    images: tuple[str, ...]
    matrices: Mapping[Variant, Matrix]
    """(N, C, C) int64 for each variant; rows are the truth."""
    bands: Mapping[Variant, BandCounts]
    """(N, C, 3) int64 for each variant: what boundary IoU follows from."""

    def total(self, variant: Variant) -> Matrix:
        """(C, C) over all images."""
        summed: Matrix = self.matrices[variant].sum(axis=0)
        return summed

    def mean_iou(self, variant: Variant) -> float:
        return mean_iou(self.total(variant))


def pack(scores: Scores) -> bytes:
    """As .npz: arrays left, right and ensemble, their bands-left …, and `meta`, a JSON text with the rest."""
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
    """None for scores in another format. Raises WorkFailed that names `origin` for what is no scores file."""
    try:
        with np.load(io.BytesIO(data), allow_pickle=False) as file:
            meta = json.loads(str(file["meta"]))
            if meta["format"] not in (2, FORMAT):
                return None
            names = _VARIANTS_OF_FORMAT_2 if meta["format"] == 2 else dict(zip(VARIANTS, VARIANTS, strict=True))
            matrices: dict[Variant, Matrix] = {names[stored]: file[stored] for stored in meta["variants"]}
            bands: dict[Variant, BandCounts] = {names[stored]: file[f"bands-{stored}"] for stored in meta["variants"]}
        protocol = {field.name: _frozen(meta["protocol"][field.name]) for field in fields(Protocol)}
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
        raise WorkFailed(f"{origin} is no scores file ({error}): remove it and evaluate again") from error


def _frozen(value: Any) -> Any:
    """JSON has lists where a protocol has tuples."""
    return tuple(value) if isinstance(value, list) else value
