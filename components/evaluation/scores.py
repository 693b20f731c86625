"""The scores of one checkpoint: a confusion matrix for each image and variant, in one compressed file.

Matrices are kept by image because every figure follows from their sums: mIoU, the worst images, and intervals
by drawing images anew.
"""

import io
import json
import zipfile
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any, Literal, get_args

import numpy as np

from components.errors import WorkFailed
from components.inference.sliding import Size
from components.metrics.confusion import Matrix
from components.metrics.scores import mean_iou

Variant = Literal["left", "right", "mean"]
VARIANTS: tuple[Variant, ...] = get_args(Variant)
"""The two networks, and the average of their softmax probabilities."""


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


@dataclass(frozen=True)
class Scores:
    """One checkpoint on all validation images."""

    epoch: int
    step: int
    checkpoint_sha256: str
    protocol: Protocol
    images: tuple[str, ...]
    matrices: Mapping[Variant, Matrix]
    """(N, C, C) int64 for each variant; rows are the truth."""

    def total(self, variant: Variant) -> Matrix:
        """(C, C) over all images."""
        summed: Matrix = self.matrices[variant].sum(axis=0)
        return summed

    def mean_iou(self, variant: Variant) -> float:
        return mean_iou(self.total(variant))


def pack(scores: Scores) -> bytes:
    """As .npz: arrays left, right and mean, and `meta`, a JSON text with the rest."""
    meta = {
        "format": 1,
        "epoch": scores.epoch,
        "step": scores.step,
        "checkpoint_sha256": scores.checkpoint_sha256,
        "protocol": asdict(scores.protocol),
        "images": scores.images,
    }
    buffer = io.BytesIO()
    arrays: dict[str, Any] = {variant: scores.matrices[variant] for variant in VARIANTS}
    np.savez_compressed(buffer, meta=np.array(json.dumps(meta)), **arrays)
    return buffer.getvalue()


def unpack(data: bytes, origin: str) -> Scores:
    """Raises WorkFailed that names `origin` for what is no scores file."""
    try:
        with np.load(io.BytesIO(data), allow_pickle=False) as file:
            meta = json.loads(str(file["meta"]))
            matrices: dict[Variant, Matrix] = {variant: file[variant] for variant in VARIANTS}
        protocol = meta["protocol"]
        return Scores(
            epoch=meta["epoch"],
            step=meta["step"],
            checkpoint_sha256=meta["checkpoint_sha256"],
            protocol=Protocol(
                split=protocol["split"],
                classes=tuple(protocol["classes"]),
                ignore_index=protocol["ignore_index"],
                crop=tuple(protocol["crop"]),
                stride=tuple(protocol["stride"]),
                engine=protocol["engine"],
            ),
            images=tuple(meta["images"]),
            matrices=matrices,
        )
    except (KeyError, TypeError, ValueError, EOFError, zipfile.BadZipFile) as error:
        raise WorkFailed(f"{origin} is no scores file ({error}): remove it and evaluate again") from error
