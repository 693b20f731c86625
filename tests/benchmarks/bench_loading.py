"""Training batches against paddleseg's transforms and paddle.io.DataLoader, at equal output, on CamVid.

python -m tests.benchmarks.bench_loading [--rounds 9]

Both give, for every step, B labelled images with labels and two streams of B unlabelled images with what is void in
them, each scaled, cropped, flipped, distorted in colour and normalised, a CutMix mask, and the mixed images. Ours
has two threads, theirs three worker processes.
"""

import argparse
import itertools
import os
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import paddle
from paddleseg import transforms

from components.dataset.layouts import read_layout
from components.dataset.split import Split, split_labels
from components.dataset.stored.reader import DatasetReader
from components.dataset.stored.store import store_dataset
from components.recipes import Recipe, load_recipe
from components.training.batches.augmentation import cutmix_mask
from components.training.batches.data import Share, TrainingData
from tests.benchmarks.measure import object_store, paired

STEPS = 40
ENDLESS = 10**9


class Images(paddle.io.Dataset):
    """A list of images, over and over, through paddleseg's transforms of the same augmentation."""

    def __init__(self, folder: Path, samples: list[tuple[str, str | None]], recipe: Recipe) -> None:
        super().__init__()
        self.folder, self.samples = folder, samples
        settings = recipe.augmentation
        height, width = settings.crop
        self.transform = transforms.Compose(
            [
                transforms.ResizeStepScaling(*settings.scales, scale_step_size=0),
                transforms.RandomPaddingCrop(crop_size=(width, height)),
                transforms.RandomHorizontalFlip(settings.flip),
                transforms.RandomDistort(
                    brightness_range=settings.brightness,
                    brightness_prob=settings.distort,
                    contrast_range=settings.contrast,
                    contrast_prob=settings.distort,
                    saturation_range=settings.saturation,
                    saturation_prob=settings.distort,
                    hue_prob=0,
                    sharpness_prob=0,
                ),
                transforms.Normalize(list(settings.mean), list(settings.std)),
            ]
        )

    def __len__(self) -> int:
        return 1_000_000

    def __getitem__(self, index: int) -> tuple[Any, Any]:
        image, label = self.samples[index % len(self.samples)]
        data: dict[str, Any] = {"img": str(self.folder / image), "gt_fields": ["label"]}
        # An unlabelled image has a label of zeros, so that padding shows in it as void.
        data["label"] = str(self.folder / label) if label else None
        if label is None:
            import cv2

            data["img"] = np.asarray(cv2.imread(data["img"]), np.float32)
            data["label"] = np.zeros(data["img"].shape[:2], np.uint8)
        data = self.transform(data)
        return data["img"], data["label"].astype(np.int64)


def theirs(folder: Path, split: Split, recipe: Recipe) -> Iterator[Any]:
    labeled = [(sample.image, sample.label) for sample in split.labeled]
    unlabeled: list[tuple[str, str | None]] = [(name, None) for name in split.unlabeled]
    streams = [
        iter(
            paddle.io.DataLoader(
                Images(folder, samples, recipe),
                batch_size=recipe.training.batch_size,
                shuffle=True,
                drop_last=True,
                num_workers=workers,
                return_list=True,
            )
        )
        for samples, workers in ((labeled, 1), (unlabeled, 1), (unlabeled, 1))
    ]
    rng, settings = np.random.default_rng(0), recipe.cps
    while True:
        (images, labels), (first, first_void), (second, second_void) = (
            [tensor.numpy() for tensor in next(stream)] for stream in streams
        )
        masks = [
            cutmix_mask(rng, recipe.augmentation.crop, settings.cutmix_boxes, settings.cutmix_area) for _ in images
        ]
        mask = np.stack(masks)
        mixed = np.where(mask[:, None], second, first)
        yield images, labels, first, second, mixed, mask, np.where(mask, second_void, first_void) == 255


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=9)
    rounds = parser.parse_args().rounds
    folder = Path(os.environ["CPS_TEST_DATA"]) / "camvid"
    recipe = load_recipe("camvid-mobilenetv2", {"network.pretrained": ""})
    with object_store() as store, tempfile.TemporaryDirectory() as cache:
        manifest = store_dataset(read_layout(folder), store)
        split = split_labels(manifest, "1/8", 0)
        with DatasetReader(store, manifest.digest, Path(cache)) as reader:
            other = theirs(folder, split, recipe)
            check_shapes(TrainingData(reader, split, recipe, 0, Share()), next(other))
            compare(reader, split, recipe, other, rounds)


def check_shapes(data: TrainingData, expected: Any) -> None:
    batch = data.batch(0)
    parts = (batch.labeled, batch.labels, batch.first, batch.second, batch.mixed, batch.mask, batch.void)
    shapes = [np.asarray(part).shape for part in parts]
    assert shapes == [np.asarray(part).shape for part in expected], "not the same output"


def compare(reader: DatasetReader, split: Split, recipe: Recipe, other: Iterator[Any], rounds: int) -> None:
    images = 3 * recipe.training.batch_size * STEPS

    def run(batches: Iterator[Any]) -> None:
        for _ in itertools.islice(batches, STEPS):
            pass

    def first_pass() -> None:
        data = TrainingData(reader, split, recipe, 1, Share())
        run(data.batches(0, STEPS))

    def against_theirs(name: str, ours: Callable[[], object]) -> None:
        paired(f"{images} images, {name}", ours, lambda: run(other), rounds=rounds, goal=2)

    # Nothing that is decoded outlives the last who uses it: each round begins without.
    against_theirs("every image decoded", first_pass)
    data = TrainingData(reader, split, recipe, 0, Share())
    own = data.batches(0, ENDLESS)
    for _ in range(len(split.unlabeled) // recipe.training.batch_size + 1):
        next(own)
    against_theirs("another process has decoded them", first_pass)
    against_theirs("after the first pass", lambda: run(own))


if __name__ == "__main__":
    main()
