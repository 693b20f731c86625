"""Audit of pseudo labels, for unlabelled images whose labels exist but are hidden by the split.

The audit compares a step's pseudo labels with the hidden labels, after the same warp and CutMix. It has no influence on
training: it runs after the pseudo labels are made and uses its own random generators. It costs one label warp per image
and two confusion matrices of the crop, in at most AUDITED_STEPS steps per epoch.
"""

from collections.abc import Sequence
from typing import Any

import numpy as np
import paddle
from numpy.typing import NDArray

from components.dataset.manifest import Manifest
from components.dataset.split import Split
from components.dataset.stored.shared_images import SharedImages
from components.metrics.confusion import confusion_matrix
from components.metrics.scores import class_accuracy, pixel_accuracy
from components.recipes import Recipe
from components.training.batches.augmentation import warp_label
from components.training.batches.data import Share
from components.training.batches.randomness import Stream, generator
from components.training.batches.sampling import unlabeled_pairs
from components.training.cps import Batch
from components.training.group import Group
from components.training.schedule import Plan

AUDITED_STEPS = 50
"""Maximum per epoch, evenly spaced."""
COUNTS = ("labeled", "pixels", "agreed", "common")


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
        self.epochs: list[dict[str, Any]] = []

    @property
    def possible(self) -> bool:
        """Whether the training uses an unlabelled image that has a hidden label."""
        return self._recipe.cps.weight > 0 and bool(self._labels)

    @staticmethod
    def looks_at(step: int, plan: Plan) -> bool:
        return step % plan.steps_per_epoch % -(-plan.steps_per_epoch // AUDITED_STEPS) == 0

    def observe(self, step: int, batch: Batch, pseudo: Sequence[dict[str, paddle.Tensor]]) -> None:
        """Count a step's pseudo labels: one dict per micro-batch, with (B, H, W) labels for left and right."""
        left, right = (np.concatenate([part[name].numpy() for part in pseudo]) for name in ("left", "right"))
        truth = self._truth(step, batch)
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

    def close_epoch(self, epoch: int, group: Group) -> dict[str, Any]:
        """Return the epoch's results over all processes and reset the counts. Every process must call it."""
        counts = self._total(group)
        self._counts = self._zeros()
        matrix = counts["matrix"]
        labeled, pixels, agreed, common = (float(counts[name]) for name in COUNTS)
        found = {
            "epoch": epoch,
            "accuracy": _figure(pixel_accuracy(matrix)),
            "agreement": _figure(agreed / common if common else float("nan")),
            "labeled_share": _figure(labeled / pixels if pixels else float("nan")),
            # Rows are the truth, so a column holds all pixels predicted as a class.
            "precision": [_figure(value) for value in class_accuracy(matrix.T)],
            "recall": [_figure(value) for value in class_accuracy(matrix)],
        }
        self.epochs.append(found)
        return found

    def metrics(self, found: dict[str, Any]) -> dict[str, float]:
        """Return an epoch's results as MLflow metrics."""
        values = {f"pseudo/{name}": found[name] for name in ("accuracy", "agreement", "labeled_share")}
        for kind in ("precision", "recall"):
            values |= {f"pseudo/{kind}/{name}": value for name, value in zip(self._names, found[kind], strict=True)}
        return {name: value for name, value in values.items() if value is not None}

    def record(self) -> dict[str, Any]:
        """Return the results of all finished epochs, for the store."""
        return {"classes": self._names, "images": len(self._labels), "epochs": self.epochs}

    def state(self, group: Group) -> dict[str, Any]:
        """Return the state for a recovery: counts summed over processes. Every process must call it."""
        counts = {name: np.asarray(value).tolist() for name, value in self._total(group).items()}
        return {"counts": counts, "epochs": list(self.epochs)}

    def load_state(self, state: dict[str, Any], *, leads: bool) -> None:
        """Restore what `state` returned; the leading process takes over the counts of all."""
        self.epochs = list(state["epochs"])
        if leads:
            self._counts = {name: np.array(value, np.int64) for name, value in state["counts"].items()}

    def _truth(self, step: int, batch: Batch) -> NDArray[np.uint8]:
        """Return the hidden labels of the mixed images, (B, H, W); void where an image has none."""
        assert batch.mask is not None
        size = self._recipe.training.batch_size
        slots = self._share.slots(size)
        pairs = unlabeled_pairs(len(self._unlabeled), self._seed, step, size)
        streams = (Stream.UNLABELED_IMAGE_A, Stream.UNLABELED_IMAGE_B)
        first, second = (
            np.stack([self._warped(self._unlabeled[pairs[slot][place]], stream, step * size + slot) for slot in slots])
            for place, stream in enumerate(streams)
        )
        return np.where(batch.mask, second, first)

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
        if not group.alone:
            flat = np.rint(np.array(group.means(flat.tolist())) * group.processes).astype(np.int64)
        parts = np.split(flat, np.cumsum([value.size for value in self._counts.values()])[:-1])
        return {
            name: part.reshape(value.shape) for (name, value), part in zip(self._counts.items(), parts, strict=True)
        }


def _figure(value: float) -> float | None:
    return float(value) if np.isfinite(value) else None
