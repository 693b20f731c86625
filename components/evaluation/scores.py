"""The scores of a checkpoint: the pixel counts of each variant that all metrics derive from, in a compressed file.

The confusion matrix is a sum over all images. Of each image, only the counts that IoU needs are kept, for the worst
images and for bootstrap intervals, which resample the images: the matrices of thousands of images with many classes
would not fit in memory.
"""

import io
import json
import zipfile
from collections.abc import Mapping
from dataclasses import asdict, dataclass, fields
from typing import Any

import numpy as np
from numpy.lib.npyio import NpzFile

from components.errors import WorkFailed
from components.evaluation.comparison.blocks import Blocks, image_blocks
from components.inference.sliding import Size, Window
from components.metrics.bootstrap import Bootstrap
from components.metrics.boundary import RATIO, BandCounts
from components.metrics.confusion import ClassCounts, Matrix, class_counts
from components.metrics.scores import mean_iou
from components.runs.result import VARIANTS, Variant

FORMAT = 4
"""Version of the file. Formats 2 and 3 hold a matrix per image, and format 2, of 0.1.0, calls the ensemble `mean`.

Scores in any other format are recomputed.
"""
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
class Counts:
    """What one variant's predictions of N images have in common with the labels, in pixels. All int64."""

    total: Matrix
    """The confusion matrix over all images, (C, C); rows are the truth."""
    by_image: ClassCounts
    """(N, C) each."""
    bands: BandCounts
    """(C, 3): the counts over all images that boundary IoU is computed from."""

    @classmethod
    def of_images(cls, matrices: Matrix, bands: BandCounts) -> "Counts":
        """Return the counts from each image's confusion matrix, (N, C, C), and boundary counts, (N, C, 3)."""
        return cls(matrices.sum(axis=0), class_counts(matrices), bands.sum(axis=0))

    @classmethod
    def zeros(cls, images: int, classes: int) -> "Counts":
        by_image = ClassCounts(*(np.zeros((images, classes), np.int64) for _ in ClassCounts._fields))
        return cls(np.zeros((classes, classes), np.int64), by_image, np.zeros((classes, 3), np.int64))

    def add(self, image: int, matrix: Matrix, bands: BandCounts) -> None:
        """Add an image's confusion matrix (C, C) and boundary counts (C, 3)."""
        np.add(self.total, matrix, out=self.total)
        np.add(self.bands, bands, out=self.bands)
        for counts, values in zip(self.by_image, class_counts(matrix[None]), strict=True):
            counts[image] = values[0]


@dataclass(frozen=True)
class Scores:
    """The scores of one checkpoint on a list of images, in some or all variants."""

    epoch: int
    step: int
    checkpoint_sha256: str
    protocol: Protocol
    images: tuple[str, ...]
    counts: Mapping[Variant, Counts]
    near_copies: tuple[str, ...] = ()
    """Images that are near copies of the frame before them, from `find_near_copies`; unknown to earlier versions."""
    agreement: float | None = None
    """Share of all pixels, labelled or not, for which both networks predict the same class; None if unknown."""

    def bootstrap(self) -> Bootstrap:
        """Return the draws of the images, by blocks of frames if some belong to sequences."""
        return Bootstrap(len(self.images), blocks=self.blocks().of_image)

    def blocks(self) -> Blocks:
        return image_blocks(self.images, frozenset(self.near_copies))

    def total(self, variant: Variant) -> Matrix:
        """Return the confusion matrix (C, C) over all images."""
        return self.counts[variant].total

    def mean_iou(self, variant: Variant) -> float:
        """Return the mIoU over all images, in [0, 1]."""
        return mean_iou(self.total(variant))


def pack(scores: Scores) -> bytes:
    """Return the scores as .npz: arrays of each variant, such as left and bands-left, and `meta`, a JSON text."""
    meta = {
        "format": FORMAT,
        "epoch": scores.epoch,
        "step": scores.step,
        "checkpoint_sha256": scores.checkpoint_sha256,
        "protocol": asdict(scores.protocol),
        "images": scores.images,
        "variants": list(scores.counts),
        "near_copies": scores.near_copies,
        "agreement": scores.agreement,
    }
    buffer = io.BytesIO()
    arrays: dict[str, Any] = {}
    for variant, counts in scores.counts.items():
        by_image = {f"{name}-{variant}": values for name, values in counts.by_image._asdict().items()}
        arrays |= {str(variant): counts.total, f"bands-{variant}": counts.bands, **by_image}
    np.savez_compressed(buffer, meta=np.array(json.dumps(meta)), **arrays)
    return buffer.getvalue()


def unpack(data: bytes, origin: str) -> Scores | None:
    """Return the scores in a file, or None for an unknown format. Raises WorkFailed, naming `origin`, if damaged."""
    try:
        with np.load(io.BytesIO(data), allow_pickle=False) as file:
            meta = json.loads(str(file["meta"]))
            if meta["format"] not in (2, 3, FORMAT):
                return None
            names = _VARIANTS_OF_FORMAT_2 if meta["format"] == 2 else dict(zip(VARIANTS, VARIANTS, strict=True))
            read = _read_counts if meta["format"] == FORMAT else _read_matrices
            counts = {names[stored]: read(file, stored) for stored in meta["variants"]}
        stored = meta["protocol"]
        protocol = {field.name: _frozen(stored[field.name]) for field in fields(Protocol) if field.name in stored}
        return Scores(
            epoch=meta["epoch"],
            step=meta["step"],
            checkpoint_sha256=meta["checkpoint_sha256"],
            protocol=Protocol(**protocol),
            images=tuple(meta["images"]),
            counts=counts,
            near_copies=tuple(meta.get("near_copies", ())),
            agreement=meta.get("agreement"),
        )
    except (KeyError, TypeError, ValueError, EOFError, zipfile.BadZipFile) as error:
        raise WorkFailed(f"{origin} is not a scores file ({error}): remove it and evaluate again") from error


def _read_counts(file: NpzFile, variant: str) -> Counts:
    by_image = ClassCounts(*(file[f"{name}-{variant}"] for name in ClassCounts._fields))
    return Counts(file[variant], by_image, file[f"bands-{variant}"])


def _read_matrices(file: NpzFile, variant: str) -> Counts:
    return Counts.of_images(file[variant], file[f"bands-{variant}"])


def _frozen(value: Any) -> Any:
    """Return a list as a tuple, because JSON has no tuples."""
    return tuple(value) if isinstance(value, list) else value
