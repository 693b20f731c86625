"""What the first two steps of the pipeline do: prepare the dataset, split its labels and name the run."""

import json
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path
from typing import TYPE_CHECKING, Any

from components import progress
from components.dataset.backbone import pin_pretrained
from components.dataset.check.balance import missing_classes
from components.dataset.manifest import Manifest
from components.dataset.prepare import prepare
from components.dataset.run import RunRecord, new_record, run_key
from components.dataset.sources.address import check_source, parse_sources
from components.dataset.split import Split, split_labels
from components.dataset.stored.label_classes import label_classes
from components.dataset.stored.store import stored_manifest
from components.errors import UserError, WorkFailed
from components.files import default_cache, work_folder
from components.labeled_ratio import parse_ratio
from components.recipes import Recipe, load_recipe
from components.recipes.model import FOREIGN, PADDLESEG_MODELS
from components.storage import keys

if TYPE_CHECKING:
    from components.storage.client import Store

SPLIT_STEP = "split-labels"
_MOST_SEEDS = 2**31


@dataclass(frozen=True)
class Parameters:
    """A submission's parameters, parsed and found right as far as can be known before any work."""

    source: str
    """One source, or several; `components.dataset.sources.address` reads it."""
    sha256: str
    """Of the sources, or empty."""
    ratio: Fraction
    recipe: Recipe
    overrides: dict[str, Any]
    """By dotted name, epochs and batch size among them."""
    seed: int


def validate_parameters(
    *,
    source: str,
    labeled_ratio: str,
    recipe: str,
    sha256: str = "",
    overrides_json: str = "{}",
    seed: int = 0,
    epochs: int = 0,
    batch_size: int = 0,
    source_is_here: bool = True,
) -> Parameters:
    """Parse and check every parameter; nothing is read but the recipe and its backbone.

    Args:
        overrides_json: a JSON object of dotted names, e.g. {"optimization.learning_rate": 0.01}.
        epochs, batch_size: instead of the recipe's; 0 keeps the recipe's.
        source_is_here: a path must exist on this machine. False when another one is to read it.

    Raises:
        UserError: naming the parameter.
    """
    ratio = parse_ratio(labeled_ratio)
    if not 0 <= seed < _MOST_SEEDS:
        raise UserError(f"seed {seed} is not a whole number from 0 to {_MOST_SEEDS - 1}")
    overrides = _overrides(overrides_json, epochs, batch_size)
    for part in parse_sources(source, sha256):
        check_source(part.text, is_here=source_is_here)
    return Parameters(
        source=source,
        sha256=sha256.lower(),
        ratio=ratio,
        recipe=pin_pretrained(load_recipe(recipe, overrides), is_here=source_is_here),
        overrides=overrides,
        seed=seed,
    )


def prepare_dataset(
    source: str,
    sha256: str,
    labeled_ratio: str,
    recipe: str,
    overrides_json: str,
    seed: int,
    epochs: int,
    batch_size: int,
    pools: str = "",
    work_dir: str = "",
) -> dict[str, Any]:
    """Check every parameter of the run, then have the dataset in the store; returns what to show of it.

    Args:
        pools: further unlabelled pools of the dataset to take, separated by commas.

    Returns:
        digest, name, layout, uri; class_names; the numbers of train, val, test, unlabeled images, and bytes.

    Raises:
        UserError: a parameter or the dataset is wrong, or nothing to train on is left at the ratio.
    """
    from components.storage.client import open_store

    parameters = validate_parameters(
        source=source,
        sha256=sha256,
        labeled_ratio=labeled_ratio,
        recipe=recipe,
        overrides_json=overrides_json,
        seed=seed,
        epochs=epochs,
        batch_size=batch_size,
    )
    store = open_store()
    folder = Path(work_dir) if work_dir else work_folder()
    manifest = prepare(parameters.source, parameters.sha256, store, folder, pools=pools, cache_dir=default_cache())
    _split(store, manifest, parameters)
    return {
        "digest": manifest.digest,
        "name": manifest.name,
        "layout": manifest.layout,
        "uri": store.uri(keys.dataset_manifest(manifest.digest)),
        "class_names": [entry.name for entry in manifest.classes],
        "train": len(manifest.train),
        "val": len(manifest.val),
        "test": len(manifest.test),
        "unlabeled": len(manifest.unlabeled),
        "bytes": sum(shard.size for shard in manifest.shards),
    }


def split_step(
    dataset_digest: str,
    labeled_ratio: str,
    seed: int,
    recipe: str,
    overrides_json: str,
    epochs: int,
    batch_size: int,
    job_id: str,
) -> str:
    """Split the labels, write the run's run.json and split.json unless they are there, and return its key.

    jobs/<job_id>.json says which run the job works on, for the step that ends it whatever happened.
    """
    from components.storage.client import open_store

    store = open_store()
    run = planned_run(
        store,
        dataset_digest,
        labeled_ratio=labeled_ratio,
        seed=seed,
        recipe=recipe,
        overrides_json=overrides_json,
        epochs=epochs,
        batch_size=batch_size,
    )
    key, manifest, split = run.key, run.manifest, run.split
    _write_run(store, run)
    if job_id:
        store.put_json(keys.job(job_id), {"job_id": job_id, "run_key": key, "dataset": manifest.name})
    _warn_of_missing_classes(store, manifest, split)
    _warn_of_untested_structures(run.parameters.recipe)
    origin = "the dataset's own lists" if split.origin == "lists" else f"by seed {split.seed}"
    counts = f"{len(split.labeled)} labelled, {len(split.unlabeled)} unlabelled, {len(split.val)} val images"
    progress.say(SPLIT_STEP, f"{key}: {counts} ({origin})")
    return key


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


def planned_run(
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


def _warn_of_missing_classes(store: "Store", manifest: Manifest, split: Split) -> None:
    if store.stat(keys.dataset_label_classes(manifest.digest)) is None:
        return  # stored by an earlier version: not worth fetching its labels
    missing = missing_classes(manifest, split.labeled, label_classes(store, manifest))
    if missing:
        advice = "mend the list" if split.origin == "lists" else "split.stratify=true ranks by class"
        progress.say(
            SPLIT_STEP,
            f"warning: at ratio {split.ratio} no labelled image shows {', '.join(missing)}; {advice}",
        )


def _warn_of_untested_structures(recipe: Recipe) -> None:
    for structure in dict.fromkeys(recipe.network.structures.values()):
        name = structure.removeprefix(FOREIGN)
        if structure.startswith(FOREIGN) and name not in PADDLESEG_MODELS:
            progress.say(
                SPLIT_STEP,
                f"warning: {structure} is none of the networks that are tested with this version of Paddle: "
                f"{', '.join(PADDLESEG_MODELS)}",
            )


def _write_run(store: "Store", run: PlannedRun) -> None:
    if store.stat(keys.run(run.key, "split.json")) is None:
        store.put_json(keys.run(run.key, "split.json"), run.split.model_dump(mode="json"))
    if store.stat(keys.run(run.key, "run.json")) is None:
        store.put_json(keys.run(run.key, "run.json"), run.record().model_dump(mode="json"))


def _overrides(text: str, epochs: int, batch_size: int) -> dict[str, Any]:
    try:
        overrides = json.loads(text or "{}")
    except ValueError as error:
        raise UserError(f"overrides {text!r} are not JSON ({error}); {_OVERRIDES_EXAMPLE}") from None
    if not isinstance(overrides, dict):
        raise UserError(f"overrides {text!r} are not a JSON object; {_OVERRIDES_EXAMPLE}")
    for name, value, setting in (
        ("epochs", epochs, "training.epochs"),
        ("batch_size", batch_size, "training.batch_size"),
    ):
        if value < 0:
            raise UserError(f"{name} is {value}: give a whole number above 0, or 0 for the recipe's own")
        if value:
            overrides[setting] = value
    return overrides


_OVERRIDES_EXAMPLE = 'write for example {"optimization.learning_rate": 0.01}'
