"""Training data: the batch of any step, built from the stored dataset."""

import os
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from functools import partial
from typing import Any, TypeVar

import cv2
import numpy as np
from numpy.typing import NDArray

from components.dataset.split import Split
from components.dataset.stored.reader import DatasetReader
from components.dataset.stored.shared_images import SharedImages
from components.errors import UserError, WorkFailed
from components.networks.device import can_pin, on_gpu
from components.networks.processor import usable_cores
from components.recipes import Recipe
from components.recipes.model import Training
from components.training.batches.augmentation import Crop, cutmix_mask, draw_crop, warp_label
from components.training.batches.colors import augment_strongly
from components.training.batches.intensity import apply_operations
from components.training.batches.on_device import PackedBatch, PackedImages
from components.training.batches.paste import NOT_PASTED, RareClasses
from components.training.batches.randomness import Stream, generator, view_position
from components.training.batches.sampling import labeled_indices, unlabeled_pairs
from components.training.cps import Batch

Item = TypeVar("Item")
LABELED_SHARE = (2.0, 8.0)
"""Beta distribution of the share of a mixed image that a labelled box covers, as in AugSeg's code: 0.2 on average."""
CROP_ATTEMPTS = 10
"""Crops that are tried for one with the class to paste, as in DAFormer (Hoyer et al., CVPR 2022)."""


@dataclass(frozen=True)
class Share:
    """The share of each batch that a process takes: `rank` of `processes`."""

    rank: int = 0
    processes: int = 1

    def slots(self, batch: int, parts: int = 1) -> list[int]:
        """Return the positions in the batch that this process fills: its share of each of `parts` micro-batches.

        Together, the processes see the same micro-batches as one process with the whole batch.
        """
        whole, size = batch // parts, batch // parts // self.processes
        starts = (part * whole + self.rank * size for part in range(parts))
        return [slot for start in starts for slot in range(start, start + size)]


class TrainingData:
    """Batches as a function of the step. `batch` is thread-safe."""

    def __init__(
        self,
        reader: DatasetReader,
        split: Split,
        recipe: Recipe,
        seed: int,
        share: Share,
        *,
        burn_in: int = 0,
        for_gpu: bool | None = None,
    ) -> None:
        """
        Args:
            burn_in: number of first steps without unlabelled images.
            for_gpu: whether batches leave normalising and mixing to a GPU; by default, if this process computes on one.
        """
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
        self.burn_in = burn_in
        self.ignore_index = reader.manifest.ignore_index
        self.decoded = SharedImages(reader, recipe.network.longest_side)
        on_host = recipe.cps.strong_augmentation > 0 or recipe.cps.rare_class_paste > 0 or recipe.cps.adaptive_cutmix
        self._packs = (on_gpu() if for_gpu is None else for_gpu) and not on_host
        pastes = recipe.cps.weight > 0 and recipe.cps.rare_class_paste > 0
        self._rare = RareClasses(self.pixels_by_label()) if pastes else None
        if recipe.cps.weight > 0:
            unlabeled_pairs(len(split.unlabeled), seed, 0, 1)  # report fewer than two images before training starts
        self._check_crop()

    def batch(self, step: int) -> Batch | PackedBatch:
        """Return this process's share of the step's batch.

        A GPU gets it as bytes, and normalises and mixes the images. Strong augmentation of the mixed images and pasting
        onto them run here.
        """
        size = self.recipe.training.batch_size
        slots = self.share.slots(size, self.recipe.training.accumulate)
        order = labeled_indices(len(self.split.labeled), self.seed, step, size)
        samples = [self.split.labeled[order[slot]] for slot in slots]
        positions = [step * size + slot for slot in slots]
        labeled = [
            self._crop(sample.image, sample.label, Stream.LABELED_IMAGE, position)
            for sample, position in zip(samples, positions, strict=True)
        ]
        names = tuple(sample.image for sample in samples)
        if self.recipe.cps.weight == 0 or step < self.burn_in:
            return self._without_unlabeled(labeled, names)
        pairs = unlabeled_pairs(len(self.split.unlabeled), self.seed, step, size)
        return self._with_unlabeled(labeled, names, [pairs[slot] for slot in slots], positions)

    def batches(self, first: int, last: int) -> Iterator[Batch | PackedBatch]:
        """Yield the batches of the steps from `first` to `last` - 1, prepared ahead in threads."""
        workers = loader_workers(self.recipe.training)
        pins = can_pin()

        def prepared(step: int) -> Batch | PackedBatch:
            batch = self.batch(step)
            return batch.pinned() if pins and isinstance(batch, PackedBatch) else batch

        return ahead(prepared, first, last, workers=workers, depth=2 * workers)

    def class_pixels(self) -> NDArray[np.int64]:
        """Return the number of pixels of each class in the labelled images, (C,). Reads the labels only."""
        counts: NDArray[np.int64] = self.pixels_by_label().sum(axis=0)
        return counts

    def pixels_by_label(self) -> NDArray[np.int64]:
        """Return the number of pixels of each class in each labelled image, (images, C). Reads the labels only."""
        labels = [sample.label for sample in self.split.labeled if sample.label]
        with ThreadPoolExecutor(usable_cores()) as pool:
            counts = list(pool.map(lambda label: pixels_by_id(self.decoded.label(label)), labels))
        return np.array(counts)[:, : len(self.reader.manifest.classes)]

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

    def _without_unlabeled(self, labeled: list[Crop], names: tuple[str, ...]) -> Batch | PackedBatch:
        labels, settings = _targets(labeled), self.recipe.augmentation
        if self._packs:
            return PackedBatch(PackedImages.of(labeled), labels, None, None, None, None, settings, names)
        return Batch(self._normalised(labeled), labels.astype(np.int64), None, None, None, None, None, names)

    def _with_unlabeled(
        self, labeled: list[Crop], names: tuple[str, ...], pairs: list[tuple[int, int]], positions: list[int]
    ) -> Batch | PackedBatch:
        unlabeled, cps, settings = self.split.unlabeled, self.recipe.cps, self.recipe.augmentation
        firsts, seconds = ([unlabeled[pair[place]] for pair in pairs] for place in (0, 1))
        names = (*names, *firsts, *seconds)
        first, second = (
            [self._crop(name, None, stream, at) for name, at in zip(images, positions, strict=True)]
            for images, stream in ((firsts, Stream.UNLABELED_IMAGE_A), (seconds, Stream.UNLABELED_IMAGE_B))
        )
        views = [view_position(at, view) for at in positions for view in range(cps.strong_views)]
        generators = (generator(self.seed, Stream.CUTMIX, *at) for at in views)
        mask = np.stack([cutmix_mask(rng, settings.crop, cps.cutmix_boxes, cps.cutmix_area) for rng in generators])
        outside = (self._each_view(_targets(crops)) for crops in (second, first))
        void = np.where(mask, *outside) == self.ignore_index
        labels = _targets(labeled)
        if self._packs:
            images, *pair = (PackedImages.of(crops) for crops in (labeled, first, second))
            return PackedBatch(images, labels, pair[0], pair[1], mask, void, settings, names, tuple(positions))
        one, other = self._normalised(first), self._normalised(second)
        mixed = np.where(mask[:, None], self._each_view(other), self._each_view(one))
        pasted = None if self._rare is None else self._paste(mixed, self._rare, views)
        padding = void if pasted is None else void & (pasted == NOT_PASTED)
        boxes, draws = self._labeled_boxes(views) if cps.adaptive_cutmix else (None, None)
        return Batch(
            self._normalised(labeled),
            labels.astype(np.int64),
            one,
            other,
            self._strong(mixed, padding, views),
            mask,
            void,
            names,
            tuple(positions),
            pasted,
            boxes,
            draws,
        )

    def _normalised(self, crops: list[Crop]) -> NDArray[np.float32]:
        return np.stack([crop.normalised(self.recipe.augmentation) for crop in crops])

    def _each_view(self, images: NDArray[Any]) -> NDArray[Any]:
        """Repeat each image for every strong view of it."""
        views = self.recipe.cps.strong_views
        return images if views == 1 else np.repeat(images, views, axis=0)

    def _paste(self, mixed: NDArray[np.float32], rare: RareClasses, views: list[tuple[int, ...]]) -> NDArray[np.int16]:
        """Paste labelled pixels onto a share of the mixed images, in place; return their labels: see Batch.pasted."""
        height, width = mixed.shape[2:]
        pasted = np.full((len(mixed), height, width), NOT_PASTED, dtype=np.int16)
        for image, labels, at in zip(mixed, pasted, views, strict=True):
            rng = generator(self.seed, Stream.PASTE, *at)
            if rng.random() >= self.recipe.cps.rare_class_paste:
                continue
            crop = self._crop_with_class(*rare.draw(rng), at)
            mask = rare.draw_mask(crop.target, rng)
            np.copyto(image, crop.normalised(self.recipe.augmentation), where=mask)
            np.copyto(labels, crop.target, where=mask)
        return pasted

    def _crop_with_class(self, wanted: int, index: int, at: tuple[int, ...]) -> Crop:
        """Return a crop of a labelled image with the class `wanted`, or the last of CROP_ATTEMPTS without it."""
        settings, (position, view) = self.recipe.augmentation, (*at, 0)[:2]
        sample = self.split.labeled[index]
        assert sample.label is not None, "a labelled image has a label"
        pixels, label = self._read(sample.image, sample.label)
        for attempt in range(CROP_ATTEMPTS):
            draw = partial(generator, self.seed, Stream.PASTED_IMAGE, position, view, attempt)
            if (warp_label(label, settings, self.ignore_index, draw()) == wanted).any():
                break
        return draw_crop(pixels, label, settings, self.ignore_index, draw())

    def _labeled_boxes(self, views: list[tuple[int, ...]]) -> tuple[NDArray[np.bool_], NDArray[np.float32]]:
        """Draw a box for each mixed image, and a number from 0 to 1 to compare with its confidence: see Batch."""
        generators = [generator(self.seed, Stream.LABELED_BOX, *at) for at in views]
        draws = np.array([rng.random() for rng in generators], dtype=np.float32)
        shares = [rng.beta(*LABELED_SHARE) for rng in generators]
        size = self.recipe.augmentation.crop
        boxes = [cutmix_mask(rng, size, 1, (share, share)) for rng, share in zip(generators, shares, strict=True)]
        return np.stack(boxes), draws

    def _strong(
        self, mixed: NDArray[np.float32], void: NDArray[np.bool_], views: list[tuple[int, ...]]
    ) -> NDArray[np.float32]:
        chance, most, settings = (
            self.recipe.cps.strong_augmentation,
            self.recipe.cps.strong_operations,
            self.recipe.augmentation,
        )
        if chance == 0:
            return mixed
        augment = partial(apply_operations, most=most) if most else augment_strongly
        changed = [
            augment(image, settings, chance, generator(self.seed, Stream.STRONG_AUGMENTATION, *at))
            for image, at in zip(mixed, views, strict=True)
        ]
        # Reset the padding to the mean colour, which is 0 after normalisation.
        return np.stack(changed) * ~void[:, None]

    def _crop(self, image: str, label: str | None, stream: Stream, position: int) -> Crop:
        pixels, target = self._read(image, label) if label else (self.decoded.image(image), None)
        rng = generator(self.seed, stream, position)
        return draw_crop(pixels, target, self.recipe.augmentation, self.ignore_index, rng)

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


def _targets(crops: list[Crop]) -> NDArray[np.uint8]:
    return np.stack([crop.target for crop in crops])


def loader_workers(settings: Training) -> int:
    """Return the number of threads with which this process prepares batches.

    On a CPU, more of them would take cores from the networks.
    """
    here = int(os.environ.get("PADDLE_LOCAL_SIZE", "1"))
    return settings.loader_workers or (max(2, usable_cores() // here) if on_gpu() else 2)


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
