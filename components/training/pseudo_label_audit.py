"""Audit of pseudo labels, for unlabelled images whose labels exist but are hidden by the split.

The audit compares a step's pseudo labels with the hidden labels, after the same warp and CutMix. It has no influence on
training: it runs after the pseudo labels are made and uses its own random generators. It costs one label warp per image
and two confusion matrices of the crop, in at most AUDITED_STEPS steps per epoch.
"""

from collections.abc import Sequence

import numpy as np
import paddle
from numpy.typing import NDArray

from components.contract import Frozen
from components.dataset.manifest import Manifest
from components.dataset.split import Split
from components.dataset.stored.shared_images import SharedImages
from components.metrics.confusion import confusion_matrix
from components.metrics.scores import class_accuracy, pixel_accuracy
from components.networks.device import on_gpu
from components.recipes import Recipe
from components.runs.result import PseudoLabelEpoch, PseudoLabelRecord
from components.training.batches.augmentation import warp_label
from components.training.batches.data import Share
from components.training.batches.on_device import PackedBatch
from components.training.batches.randomness import Stream, generator
from components.training.batches.sampling import unlabeled_pairs
from components.training.cps import Batch
from components.training.group import Group
from components.training.schedule import Plan

AUDITED_STEPS = 50
"""Maximum per epoch, evenly spaced."""
COUNTS = ("labeled", "pixels", "agreed", "common")


class AuditState(Frozen):
    """The audit in the middle of an epoch, as a recovery keeps it."""

    counts: dict[str, list[list[int]] | int]
    """The confusion matrix (C, C), and the pixels that COUNTS names."""
    epochs: tuple[PseudoLabelEpoch, ...]


class Audit:
    """Counts of the current epoch, and the results of finished epochs."""

    def __init__(
        self, images: SharedImages, manifest: Manifest, split: Split, recipe: Recipe, seed: int, share: Share
    ) -> None:
        self._images, self._recipe, self._seed, self._share = images, recipe, seed, share
        self._names = [item.name for item in manifest.classes]
        self._ignore_index = manifest.ignore_index
        self._unlabeled = split.unlabeled
        known = manifest.train_labels()
        self._labels = {name: known[name] for name in split.unlabeled if name in known}
        self._counts = self._zeros()
        self._on_device: paddle.Tensor | None = None
        """Counts that have not left the GPU yet: those of `_counts`, flat int64."""
        self.epochs: list[PseudoLabelEpoch] = []

    @property
    def possible(self) -> bool:
        """Whether the training uses an unlabelled image that has a hidden label."""
        return self._recipe.cps.weight > 0 and bool(self._labels)

    @staticmethod
    def looks_at(step: int, plan: Plan) -> bool:
        return step % plan.steps_per_epoch % -(-plan.steps_per_epoch // AUDITED_STEPS) == 0

    def observe(self, step: int, batch: Batch | PackedBatch, pseudo: Sequence[dict[str, paddle.Tensor]]) -> None:
        """Count a step's pseudo labels: one dict per micro-batch, with (B, H, W) labels for left and right."""
        truth, views = self._truth(step, batch), self._recipe.cps.strong_views
        if on_gpu():
            found = self._counted_on_device(truth, *(_joined(pseudo, name)[::views] for name in ("left", "right")))
            self._on_device = found if self._on_device is None else self._on_device + found
            return
        left, right = (_joined(pseudo, name).numpy()[::views] for name in ("left", "right"))
        labeled = [labels != self._ignore_index for labels in (left, right)]
        known, classes = truth != self._ignore_index, len(self._names)
        for labels, has_label in zip((left, right), labeled, strict=True):
            both = known & has_label
            self._counts["matrix"] += confusion_matrix(truth[both], labels[both], classes, self._ignore_index)
            self._counts["labeled"] += both.sum()
            self._counts["pixels"] += known.sum()
        common = labeled[0] & labeled[1]
        self._counts["agreed"] += (left == right)[common].sum()
        self._counts["common"] += common.sum()

    def close_epoch(self, epoch: int, group: Group) -> PseudoLabelEpoch:
        """Return the epoch's results over all processes and reset the counts. Every process must call it."""
        counts = self._total(group)
        self._counts, self._on_device = self._zeros(), None
        matrix = counts["matrix"]
        labeled, pixels, agreed, common = (float(counts[name]) for name in COUNTS)
        found = PseudoLabelEpoch(
            epoch=epoch,
            accuracy=_figure(pixel_accuracy(matrix)),
            agreement=_figure(agreed / common if common else float("nan")),
            labeled_share=_figure(labeled / pixels if pixels else float("nan")),
            # Rows are the truth, so a column holds all pixels predicted as a class.
            precision=tuple(_figure(value) for value in class_accuracy(matrix.T)),
            recall=tuple(_figure(value) for value in class_accuracy(matrix)),
        )
        self.epochs.append(found)
        return found

    def metrics(self, found: PseudoLabelEpoch) -> dict[str, float]:
        """Return an epoch's results as MLflow metrics."""
        values = {f"pseudo/{name}": getattr(found, name) for name in ("accuracy", "agreement", "labeled_share")}
        for kind in ("precision", "recall"):
            by_class = zip(self._names, getattr(found, kind), strict=True)
            values |= {f"pseudo/{kind}/{name}": value for name, value in by_class}
        return {name: value for name, value in values.items() if value is not None}

    def record(self) -> PseudoLabelRecord:
        """Return the results of all finished epochs, for the store."""
        return PseudoLabelRecord(classes=tuple(self._names), images=len(self._labels), epochs=tuple(self.epochs))

    def state(self, group: Group) -> "AuditState":
        """Return the state for a recovery: counts summed over processes. Every process must call it."""
        counts = {name: np.asarray(value).tolist() for name, value in self._total(group).items()}
        return AuditState(counts=counts, epochs=tuple(self.epochs))

    def load_state(self, state: "AuditState", *, leads: bool) -> None:
        """Restore what `state` returned; the leading process takes over the counts of all."""
        self.epochs = list(state.epochs)
        if leads:
            self._counts = {name: np.array(value, np.int64) for name, value in state.counts.items()}

    def _counted_on_device(self, truth: NDArray[np.uint8], left: paddle.Tensor, right: paddle.Tensor) -> paddle.Tensor:
        """Return what `observe` counts, without waiting for the device; on a CPU numpy is faster."""
        classes, void = len(self._names), self._ignore_index
        hidden = paddle.to_tensor(truth)
        known, rows = hidden != void, hidden.astype("int64") * classes
        # The last bin takes the pixels that do not count.
        matrix, labeled = paddle.zeros([classes**2 + 1], "int64"), paddle.zeros([], "int64")
        for labels in (left, right):
            both = paddle.logical_and(known, labels != void)
            bins = paddle.where(both, rows + labels, paddle.full_like(rows, classes**2)).reshape([-1, 1])
            matrix = paddle.scatter_nd_add(matrix, bins, paddle.ones([bins.shape[0]], "int64"))
            labeled = labeled + both.sum()
        common = paddle.logical_and(left != void, right != void)
        agreed = paddle.logical_and(common, left == right).sum()
        return paddle.concat([matrix[:-1], paddle.stack([labeled, known.sum() * 2, agreed, common.sum()])])

    def _truth(self, step: int, batch: Batch | PackedBatch) -> NDArray[np.uint8]:
        """Return the hidden labels of the mixed images' first views, (B, H, W); void where an image has none."""
        assert batch.mask is not None
        size = self._recipe.training.batch_size
        slots = self._share.slots(size, self._recipe.training.accumulate)
        pairs = unlabeled_pairs(len(self._unlabeled), self._seed, step, size)
        streams = (Stream.UNLABELED_IMAGE_A, Stream.UNLABELED_IMAGE_B)
        first, second = (
            np.stack([self._warped(self._unlabeled[pairs[slot][place]], stream, step * size + slot) for slot in slots])
            for place, stream in enumerate(streams)
        )
        return np.where(batch.mask[:: self._recipe.cps.strong_views], second, first)

    def _warped(self, image: str, stream: Stream, position: int) -> NDArray[np.uint8]:
        label = self._labels.get(image)
        hidden = None if label is None else self._images.label(label)
        if hidden is None or hidden.shape != self._images.image(image).shape[:2]:
            return np.full(self._recipe.augmentation.crop, self._ignore_index, np.uint8)
        rng = generator(self._seed, stream, position)
        warped = warp_label(hidden, self._recipe.augmentation, self._ignore_index, rng)
        # Errors in a hidden label must not make the training fail.
        warped[warped >= len(self._names)] = self._ignore_index
        return warped

    def _zeros(self) -> dict[str, NDArray[np.int64]]:
        classes = len(self._names)
        return {"matrix": np.zeros((classes, classes), np.int64), **{name: np.zeros((), np.int64) for name in COUNTS}}

    def _total(self, group: Group) -> dict[str, NDArray[np.int64]]:
        flat = np.concatenate([value.ravel() for value in self._counts.values()])
        if self._on_device is not None:
            flat = flat + self._on_device.numpy()
        parts = np.split(group.totals(flat), np.cumsum([value.size for value in self._counts.values()])[:-1])
        return {
            name: part.reshape(value.shape) for (name, value), part in zip(self._counts.items(), parts, strict=True)
        }


def _joined(pseudo: Sequence[dict[str, paddle.Tensor]], name: str) -> paddle.Tensor:
    return paddle.concat([part[name] for part in pseudo])


def _figure(value: float) -> float | None:
    return float(value) if np.isfinite(value) else None
