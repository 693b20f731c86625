"""Training data: the batch of any step, built from the stored dataset."""

from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any, TypeVar

import cv2
import numpy as np
from numpy.typing import NDArray

from components.dataset.split import Split
from components.dataset.stored.reader import DatasetReader
from components.dataset.stored.shared_images import SharedImages
from components.errors import UserError, WorkFailed
from components.networks.processor import usable_cores
from components.recipes import Recipe
from components.training.batches.augmentation import augment, cutmix_mask
from components.training.batches.colors import augment_strongly
from components.training.batches.randomness import Stream, generator
from components.training.batches.sampling import labeled_indices, unlabeled_pairs
from components.training.cps import Batch

Item = TypeVar("Item")


@dataclass(frozen=True)
class Share:
    """The share of each batch that a process takes: `rank` of `processes`."""

    rank: int = 0
    processes: int = 1

    def slots(self, batch: int) -> range:
        """Return the positions in the batch that this process fills."""
        size = batch // self.processes
        return range(self.rank * size, (self.rank + 1) * size)


class TrainingData:
    """Batches as a function of the step. `batch` is thread-safe."""

    def __init__(self, reader: DatasetReader, split: Split, recipe: Recipe, seed: int, share: Share) -> None:
        if not split.labeled:
            raise UserError("the split has no labelled images")
        if recipe.training.batch_size % share.processes:
            raise UserError(
                f"batch size {recipe.training.batch_size} cannot be divided among {share.processes} processes: "
                f"choose a multiple of {share.processes}"
            )
        if recipe.training.batch_size // share.processes % recipe.training.accumulate:
            raise UserError(
                f"training.accumulate={recipe.training.accumulate} does not divide the "
                f"{recipe.training.batch_size // share.processes} images of each of {share.processes} processes"
            )
        self.reader, self.split, self.recipe, self.seed, self.share = reader, split, recipe, seed, share
        self.ignore_index = reader.manifest.ignore_index
        self.decoded = SharedImages(reader, recipe.network.longest_side)
        if recipe.cps.weight > 0:
            unlabeled_pairs(len(split.unlabeled), seed, 0, 1)  # report fewer than two images before training starts
        self._check_crop()

    def batch(self, step: int) -> Batch:
        """Return this process's share of the step's batch."""
        size = self.recipe.training.batch_size
        slots = self.share.slots(size)
        order = labeled_indices(len(self.split.labeled), self.seed, step, size)
        samples = [self.split.labeled[order[slot]] for slot in slots]
        positions = [step * size + slot for slot in slots]
        augmented = [
            self._augmented(sample.image, sample.label, Stream.LABELED_IMAGE, position)
            for sample, position in zip(samples, positions, strict=True)
        ]
        names = tuple(sample.image for sample in samples)
        images, labels = _stack(augmented)
        if self.recipe.cps.weight == 0:
            return Batch(images, labels.astype(np.int64), None, None, None, None, None, names)
        pairs = unlabeled_pairs(len(self.split.unlabeled), self.seed, step, size)
        return self._with_unlabeled(images, labels, names, [pairs[slot] for slot in slots], positions)

    def class_pixels(self) -> NDArray[np.int64]:
        """Return the number of pixels of each class in the labelled images, (C,). Reads the labels only."""
        labels = [sample.label for sample in self.split.labeled if sample.label]
        counts = np.zeros(256, dtype=np.int64)
        with ThreadPoolExecutor(usable_cores()) as pool:
            for found in pool.map(lambda label: pixels_by_id(self.decoded.label(label)), labels):
                counts += found
        return counts[: len(self.reader.manifest.classes)]

    def _check_crop(self) -> None:
        """Reject a crop that exceeds every image in both dimensions, even at the largest scale."""
        (height, width), largest = self.recipe.augmentation.crop, self.recipe.augmentation.scales[1]
        for name in (*(sample.image for sample in self.split.labeled), *self.split.unlabeled):
            rows, columns = self.decoded.image(name).shape[:2]
            if rows * largest >= height or columns * largest >= width:
                return
        raise UserError(
            f"the crop of {height} x {width} pixels is larger than every image (for example {name}: {rows} x "
            f"{columns}), even at the largest scale, {largest:g}: set augmentation.crop"
        )

    def _with_unlabeled(
        self,
        images: NDArray[np.float32],
        labels: NDArray[np.uint8],
        names: tuple[str, ...],
        pairs: list[tuple[int, int]],
        positions: list[int],
    ) -> Batch:
        unlabeled, cps = self.split.unlabeled, self.recipe.cps
        firsts = [(unlabeled[first], Stream.UNLABELED_IMAGE_A) for first, _ in pairs]
        seconds = [(unlabeled[second], Stream.UNLABELED_IMAGE_B) for _, second in pairs]
        first, first_void = _stack(
            [self._augmented(name, None, stream, at) for (name, stream), at in zip(firsts, positions, strict=True)]
        )
        second, second_void = _stack(
            [self._augmented(name, None, stream, at) for (name, stream), at in zip(seconds, positions, strict=True)]
        )
        crop = self.recipe.augmentation.crop
        mask = np.stack(
            [
                cutmix_mask(generator(self.seed, Stream.CUTMIX, at), crop, cps.cutmix_boxes, cps.cutmix_area)
                for at in positions
            ]
        )
        mixed = np.where(mask[:, None], second, first)
        void = np.where(mask, second_void, first_void) == self.ignore_index
        return Batch(
            labeled=images,
            labels=labels.astype(np.int64),
            first=first,
            second=second,
            mixed=self._strong(mixed, void, positions),
            mask=mask,
            void=void,
            names=(*names, *(name for name, _ in [*firsts, *seconds])),
        )

    def _strong(self, mixed: NDArray[np.float32], void: NDArray[np.bool_], positions: list[int]) -> NDArray[np.float32]:
        chance = self.recipe.cps.strong_augmentation
        if chance == 0:
            return mixed
        changed = [
            augment_strongly(
                image, self.recipe.augmentation, chance, generator(self.seed, Stream.STRONG_AUGMENTATION, at)
            )
            for image, at in zip(mixed, positions, strict=True)
        ]
        # Reset the padding to the mean colour, which is 0 after normalisation.
        return np.stack(changed) * ~void[:, None]

    def _augmented(
        self, image: str, label: str | None, stream: Stream, position: int
    ) -> tuple[NDArray[np.float32], NDArray[np.uint8]]:
        pixels, target = self._read(image, label) if label else (self.decoded.image(image), None)
        rng = generator(self.seed, stream, position)
        return augment(pixels, target, self.recipe.augmentation, self.ignore_index, rng)

    def _read(self, image: str, label: str) -> tuple[NDArray[np.uint8], NDArray[np.uint8]]:
        pixels, target = self.decoded.image(image), self.decoded.label(label)
        if target.shape != pixels.shape[:2]:
            raise WorkFailed(
                f"label {label} is {target.shape}, but its image {image} is {pixels.shape[:2]} (height, width)"
            )
        return pixels, target


def pixels_by_id(label: NDArray[np.uint8]) -> NDArray[np.int64]:
    """Return how many pixels of a label, (H, W), have each id, (256,).

    OpenCV is ten times as fast as np.bincount, which converts all pixels to 64 bits, and releases Python's lock. Its
    32-bit floats are exact below 16 million pixels of one class in one image.
    """
    counts: NDArray[np.int64] = cv2.calcHist([label], [0], None, [256], [0, 256]).ravel().astype(np.int64)
    return counts


def _stack(pairs: list[tuple[Any, Any]]) -> tuple[NDArray[np.float32], NDArray[np.uint8]]:
    images, labels = zip(*pairs, strict=True)
    return np.stack(images), np.stack(labels)


def ahead(make: Callable[[int], Item], first: int, last: int, *, workers: int, depth: int) -> Iterator[Item]:
    """Yield make(first) to make(last - 1) in order, prefetching up to `depth` of them in threads.

    An error in `make` is raised when its item is due, and stops the threads.
    """
    with ThreadPoolExecutor(workers, thread_name_prefix="loader") as pool:
        pending: list[Future[Item]] = []
        try:
            for number in range(first, last):
                while len(pending) < depth and number + len(pending) < last:
                    pending.append(pool.submit(make, number + len(pending)))
                yield pending.pop(0).result()
        finally:
            for future in pending:
                future.cancel()
