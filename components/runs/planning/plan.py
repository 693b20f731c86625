"""Plan the run that a request describes: its split, its key and its initial record."""

from dataclasses import dataclass
from typing import TYPE_CHECKING

from components.dataset.manifest import Manifest
from components.dataset.split import Split, split_labels
from components.dataset.stored.image_sizes import stored_size
from components.dataset.stored.label_classes import label_classes
from components.dataset.stored.store import stored_manifest
from components.errors import UserError, WorkFailed
from components.networks.image_size import reduced_size
from components.recipes import Recipe
from components.runs.backbone import pin_addresses
from components.runs.key import run_key
from components.runs.planning.auto import choose_settings
from components.runs.record import RunRecord, new_record
from components.runs.request import RunRequest
from components.storage import keys

if TYPE_CHECKING:
    from components.storage.client import Store


@dataclass(frozen=True)
class PlannedRun:
    """The run that a request describes, whether or not it exists."""

    key: str
    manifest: Manifest
    split: Split
    recipe: Recipe
    request: RunRequest
    """Without `auto`."""
    choice: str = ""
    """The reason for the choice of an `auto` recipe."""

    def record(self) -> RunRecord:
        """Return the run's initial run.json."""
        return new_record(self.recipe, self.request.all_overrides, self.manifest, self.split, self.key)


def plan_run(store: "Store", dataset_digest: str, request: RunRequest) -> PlannedRun:
    """Return the run that `request` describes on a stored dataset.

    Writes nothing, except the sha256 of pretrained weights that were not used before.

    Raises:
        UserError: a parameter is wrong, or the dataset has no such split.
        WorkFailed: the dataset is not stored, or the pretrained weights cannot be downloaded.
    """
    manifest = stored_manifest(store, dataset_digest)
    if manifest is None:
        raise WorkFailed(f"no dataset at {store.uri(keys.dataset_manifest(dataset_digest))}: run prepare-dataset again")
    choice = choose_settings(store, manifest, request)
    request = choice.request
    recipe = pin_addresses(request.resolve(), store)
    split = checked_split(store, manifest, recipe, request)
    key = existing_key(store, manifest, split, recipe, request)
    return PlannedRun(key, manifest, split, recipe, request, choice.reason)


def existing_key(store: "Store", manifest: Manifest, split: Split, recipe: Recipe, request: RunRequest) -> str:
    """Return a run's key: the one that version 0.1 gave it if the run exists under that key."""
    parts = manifest.digest, split.fingerprint, request.ratio, request.seed
    old = run_key(recipe, "", *parts)
    return old if store.stat(keys.run(old, "run.json")) is not None else run_key(recipe, manifest.name, *parts)


def checked_split(store: "Store", manifest: Manifest, recipe: Recipe, request: RunRequest) -> Split:
    """Split the labels of a stored dataset. Raises UserError if the recipe cannot be trained on the split."""
    classes = label_classes(store, manifest) if recipe.split.stratify else None
    split = split_labels(manifest, request.ratio, request.seed, recipe.split, classes)
    if len(split.unlabeled) < 2 and recipe.cps.weight > 0:
        left = "one unlabelled image, but training needs two," if split.unlabeled else "no unlabelled images"
        raise UserError(
            f"ratio {split.labeled_ratio} leaves {left} in dataset {manifest.name}: "
            "use a smaller ratio, or set cps.weight=0 to train on labelled images only"
        )
    batch, most = recipe.training.batch_size, max(len(split.labeled), len(split.unlabeled))
    if most < batch:
        raise UserError(
            f"training.batch_size is {batch}, but dataset {manifest.name} has only {len(split.labeled)} labelled and "
            f"{len(split.unlabeled)} unlabelled images at ratio {split.labeled_ratio}: set it to {most} or less"
        )
    _check_crop(store, manifest, recipe, split)
    return split


def _check_crop(store: "Store", manifest: Manifest, recipe: Recipe, split: Split) -> None:
    """Raise UserError if the training crop exceeds every image in both dimensions, even at the largest scale.

    It would show more padding than image. Usually the first image shows that it does not.
    """
    (height, width), largest = recipe.augmentation.crop, recipe.augmentation.scales[1]
    most = 0, 0
    for name in (*(sample.image for sample in split.labeled), *split.unlabeled):
        rows, columns = reduced_size(*stored_size(store, manifest, name), recipe.network.longest_side)
        if rows * largest >= height or columns * largest >= width:
            return
        most = max(most, (rows, columns))
    raise UserError(
        f"augmentation.crop is {width} x {height} pixels, but the largest training image of dataset {manifest.name} is "
        f"{most[1]} x {most[0]} (width x height), and is enlarged at most {largest:g} times: choose a smaller crop, "
        f"such as --set 'augmentation.crop=[{_multiple(most[0])}, {_multiple(most[1])}]' (height, width)"
    )


def _multiple(side: int) -> int:
    """Return the largest multiple of 32, by which networks reduce an image, in a side; at least one."""
    return max(32, side // 32 * 32)
