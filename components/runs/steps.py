"""What the first two steps of the pipeline do: prepare the dataset, split its labels and name the run."""

from pathlib import Path
from typing import TYPE_CHECKING, Any

from components import progress
from components.dataset.check.balance import missing_classes
from components.dataset.manifest import Manifest
from components.dataset.prepare import prepare
from components.dataset.split import Split
from components.dataset.stored.label_classes import label_classes
from components.files import default_cache, work_folder
from components.recipes import Recipe
from components.recipes.model import FOREIGN, PADDLESEG_MODELS
from components.runs.planning import PlannedRun, _split, plan_run
from components.runs.request import validate_parameters
from components.storage import keys

if TYPE_CHECKING:
    from components.storage.client import Store

SPLIT_STEP = "split-labels"


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


def split_labels_step(
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
    run = plan_run(
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
