"""Which run a request makes: its split, its key, and the record that it begins with."""

from dataclasses import dataclass
from typing import TYPE_CHECKING

from components.dataset.manifest import Manifest
from components.dataset.split import Split, split_labels
from components.dataset.stored.label_classes import label_classes
from components.dataset.stored.store import stored_manifest
from components.errors import UserError, WorkFailed
from components.runs.key import run_key
from components.runs.record import RunRecord, new_record
from components.runs.request import Parameters, validate_parameters
from components.storage import keys

if TYPE_CHECKING:
    from components.storage.client import Store


@dataclass(frozen=True)
class PlannedRun:
    """What a run with some parameters would be, whether or not there is one."""

    key: str
    manifest: Manifest
    split: Split
    parameters: Parameters

    def record(self) -> RunRecord:
        """The run.json that it would begin with."""
        parameters = self.parameters
        return new_record(parameters.recipe, parameters.overrides, self.manifest, self.split, self.key)


def plan_run(
    store: "Store",
    dataset_digest: str,
    *,
    labeled_ratio: str,
    seed: int,
    recipe: str,
    overrides_json: str = "{}",
    epochs: int = 0,
    batch_size: int = 0,
) -> PlannedRun:
    """The run that these parameters make; nothing is written.

    Raises UserError for a parameter that is wrong, and WorkFailed where the dataset is not stored.
    """
    parameters = _of_stored_dataset(labeled_ratio, seed, recipe, overrides_json, epochs, batch_size)
    manifest = _stored(store, dataset_digest)
    split = _split(store, manifest, parameters)
    return PlannedRun(_key(manifest, split, parameters), manifest, split, parameters)


def _of_stored_dataset(
    labeled_ratio: str, seed: int, recipe: str, overrides_json: str, epochs: int, batch_size: int
) -> Parameters:
    return validate_parameters(
        source="scenes",  # the dataset is prepared by now; where it came from does not matter
        labeled_ratio=labeled_ratio,
        recipe=recipe,
        overrides_json=overrides_json,
        seed=seed,
        epochs=epochs,
        batch_size=batch_size,
    )


def _stored(store: "Store", dataset_digest: str) -> Manifest:
    manifest = stored_manifest(store, dataset_digest)
    if manifest is None:
        raise WorkFailed(f"no dataset at {store.uri(keys.dataset_manifest(dataset_digest))}: prepare it again")
    return manifest


def _key(manifest: Manifest, split: Split, parameters: Parameters) -> str:
    return run_key(parameters.recipe, manifest.digest, split.fingerprint, parameters.ratio, parameters.seed)


def _split(store: "Store", manifest: Manifest, parameters: Parameters) -> Split:
    settings = parameters.recipe.split
    classes = label_classes(store, manifest) if settings.stratify else None
    split = split_labels(manifest, parameters.ratio, parameters.seed, settings, classes)
    if len(split.unlabeled) < 2 and parameters.recipe.cps.weight > 0:
        left = "one unlabelled image, and two are mixed," if split.unlabeled else "no unlabelled image"
        raise UserError(
            f"ratio {split.ratio} leaves {left} in dataset {manifest.name}: "
            "give a smaller ratio, or train without them by cps.weight=0"
        )
    batch, most = parameters.recipe.training.batch_size, max(len(split.labeled), len(split.unlabeled))
    if most < batch:
        raise UserError(
            f"a batch of {batch} images is more than dataset {manifest.name} has at ratio {split.ratio}: "
            f"{len(split.labeled)} labelled and {len(split.unlabeled)} unlabelled; set training.batch_size to {most} "
            "at most"
        )
    return split
