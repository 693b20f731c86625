"""A batch on the device, and batches that travel there as bytes, to be normalised and mixed on the device."""

from collections.abc import Sequence
from dataclasses import dataclass, fields, replace
from typing import Any, TypeAlias

import numpy as np
import paddle
from numpy.typing import NDArray

from components.networks.device import pinned, uploaded
from components.recipes.model import Augmentation
from components.training.batches.augmentation import Crop, normalisation


@dataclass(frozen=True)
class DeviceBatch:
    """A batch on the device: see `components.training.cps.Batch`. Labels are int64; `positions` stay on the host."""

    labeled: paddle.Tensor
    labels: paddle.Tensor
    first: paddle.Tensor | None
    second: paddle.Tensor | None
    mixed: paddle.Tensor | None
    mask: paddle.Tensor | None
    void: paddle.Tensor | None
    positions: tuple[int, ...] = ()
    pasted: paddle.Tensor | None = None
    boxes: paddle.Tensor | None = None
    draws: paddle.Tensor | None = None

    @property
    def views(self) -> int:
        """The number of mixed images of each pair of unlabelled images."""
        return 1 if self.mask is None else len(self.mask) // len(self.labeled)

    def each_view(self, tensor: paddle.Tensor) -> paddle.Tensor:
        """Repeat each of B entries for every view of it."""
        return tensor if self.views == 1 else tensor.repeat_interleave(self.views, axis=0)

    def micro_batches(self, parts: int) -> list["DeviceBatch"]:
        """Split the batch into `parts` of equal size."""
        if parts == 1:
            return [self]
        size = len(self.labeled) // parts
        return [self._part(slice(start, start + size)) for start in range(0, size * parts, size)]

    def _part(self, images: slice) -> "DeviceBatch":
        given = {item.name: getattr(self, item.name) for item in fields(self)}
        present = {name: item for name, item in given.items() if item is not None}
        # Mixed images have several views each, one after the other.
        each = {name: len(item) // len(self.labeled) for name, item in present.items()}
        parts = {name: item[images.start * each[name] : images.stop * each[name]] for name, item in present.items()}
        return replace(self, **parts)


Held: TypeAlias = NDArray[Any] | paddle.Tensor
"""Values on the host: an array, or a tensor in page-locked memory."""


@dataclass(frozen=True)
class PackedImages:
    """B warped images as bytes, and the rest of their augmentation.

    `pixels` is (B, H, W, 3) uint8, `colors` (B, 3, 4) float32, `rows` (B, H) and `columns` (B, W) bool: see Crop.
    """

    pixels: Held
    colors: Held | None
    """None if no image's colours change."""
    rows: Held
    columns: Held

    @classmethod
    def of(cls, crops: Sequence[Crop]) -> "PackedImages":
        unchanged = np.eye(3, 4, dtype=np.float32)
        colors = np.stack([unchanged if crop.colors is None else crop.colors for crop in crops])
        changes = any(crop.colors is not None for crop in crops)
        return cls(
            np.stack([crop.pixels for crop in crops]),
            colors if changes else None,
            np.stack([crop.rows for crop in crops]),
            np.stack([crop.columns for crop in crops]),
        )

    def pinned(self) -> "PackedImages":
        """Return the same images in page-locked memory."""
        colors = None if self.colors is None else pinned(self.colors)
        return PackedImages(pinned(self.pixels), colors, pinned(self.rows), pinned(self.columns))

    def normalised(self, settings: Augmentation) -> paddle.Tensor:
        """Return what `augment` returns for each image, (B, 3, H, W) float32.

        Without colour changes it is equal to the bit; with them, up to the rounding of float32.
        """
        planes = uploaded(self.pixels).transpose([0, 3, 1, 2]).astype("float32")
        if self.colors is not None:
            planes = _recolored(planes, uploaded(self.colors))
        mean, scale = (paddle.to_tensor(values.reshape(1, 3, 1, 1)) for values in normalisation(settings))
        planes = (planes - mean) * scale
        rows, columns = uploaded(self.rows), uploaded(self.columns)
        inside = paddle.logical_and(rows[:, None, :, None], columns[:, None, None, :])
        return planes * inside.astype("float32")


@dataclass(frozen=True)
class PackedBatch:
    """A batch that needs a fifth of the bytes of `components.training.cps.Batch`, which has the same fields.

    Labels are uint8. The device mixes `first` and `second`.
    """

    labeled: PackedImages
    labels: Held
    first: PackedImages | None
    second: PackedImages | None
    mask: NDArray[np.bool_] | None
    void: Held | None
    settings: Augmentation
    names: tuple[str, ...]
    positions: tuple[int, ...] = ()

    def pinned(self) -> "PackedBatch":
        """Return the batch in page-locked memory, from which a GPU copies without waiting for the processor.

        The caller must keep it until the step that uses it has ended. The audit reads the mask on the host.
        """
        return replace(
            self,
            labeled=self.labeled.pinned(),
            labels=pinned(self.labels),
            first=self.first and self.first.pinned(),
            second=self.second and self.second.pinned(),
            void=None if self.void is None else pinned(self.void),
        )

    def on_device(self) -> DeviceBatch:
        """Upload everything, normalise the images, and mix the unlabelled ones."""
        labeled, labels = self.labeled.normalised(self.settings), uploaded(self.labels).astype("int64")
        if self.first is None or self.second is None or self.mask is None or self.void is None:
            return DeviceBatch(labeled, labels, None, None, None, None, None)
        first, second = self.first.normalised(self.settings), self.second.normalised(self.settings)
        mask, void = uploaded(self.mask), uploaded(self.void)
        mixed = paddle.where(mask[:, None], second, first)
        return DeviceBatch(labeled, labels, first, second, mixed, mask, void, self.positions)


def _recolored(planes: paddle.Tensor, colors: paddle.Tensor) -> paddle.Tensor:
    """Apply a colour matrix (B, 3, 4) to each image (B, 3, H, W) of values from 0 to 255.

    A matrix product would be rounded to TF32 where that is enabled.
    """
    weights = colors[:, :, :, None, None]
    sums = [
        planes[:, 0] * weights[:, channel, 0]
        + planes[:, 1] * weights[:, channel, 1]
        + planes[:, 2] * weights[:, channel, 2]
        + weights[:, channel, 3]
        for channel in range(3)
    ]
    return paddle.stack(sums, axis=1).clip(0, 255)
