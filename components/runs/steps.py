"""What the first two steps of the pipeline do: prepare the dataset, split its labels and name the run."""

from pathlib import Path
from typing import TYPE_CHECKING

from components import progress
from components.contract import Frozen
from components.dataset.check.balance import missing_classes
from components.dataset.manifest import Manifest
from components.dataset.prepare import prepare
from components.dataset.split import Split
from components.dataset.stored.label_classes import label_classes
from components.files import default_cache, work_folder
from components.recipes import Recipe
from components.recipes.model import FOREIGN, PADDLESEG_MODELS
from components.runs.planning import PlannedRun, checked_split, plan_run
from components.runs.record import JobRecord
from components.runs.request import RunRequest
from components.storage import keys

if TYPE_CHECKING:
    from components.storage.client import Store

SPLIT_STEP = "split-labels"


class StoredDataset(Frozen):
    """A prepared dataset as the prepare-dataset step shows it."""

    digest: str
    name: str
    layout: str
    uri: str
    """Of its manifest."""
    class_names: tuple[str, ...]
    train: int
    val: int
    test: int
    unlabeled: int
    """Numbers of images."""
    bytes: int


def prepare_dataset(request: RunRequest, work_dir: str = "") -> StoredDataset:
    """Check the request, then store its dataset unless the store has it.

    Raises:
        UserError: a parameter or the dataset is wrong, or the ratio leaves nothing to train on.
    """
    from components.storage.client import open_store

    request.check_sources()
    recipe = request.resolve()
    store = open_store()
    folder = Path(work_dir) if work_dir else work_folder()
    manifest = prepare(
        request.dataset,
        request.dataset_sha256,
        store,
        folder,
        pools=request.dataset_pools,
        cache_dir=default_cache(),
    )
    checked_split(store, manifest, recipe, request)
    return StoredDataset(
        digest=manifest.digest,
        name=manifest.name,
        layout=manifest.layout,
        uri=store.uri(keys.dataset_manifest(manifest.digest)),
        class_names=tuple(entry.name for entry in manifest.classes),
        train=len(manifest.train),
        val=len(manifest.val),
        test=len(manifest.test),
        unlabeled=len(manifest.unlabeled),
        bytes=sum(shard.size for shard in manifest.shards),
    )


def split_labels_step(dataset_digest: str, request: RunRequest, job_id: str = "") -> str:
    """Split the labels, write the run's run.json and split.json unless they exist, and return its key.

    jobs/<job_id>.json names the run that the job works on, for the step that ends it whatever happened.
    """
    from components.storage.client import open_store

    store = open_store()
    run = plan_run(store, dataset_digest, request)
    key, manifest, split = run.key, run.manifest, run.split
    _write_run(store, run)
    if job_id:
        job = JobRecord(job_id=job_id, run_key=key, dataset=manifest.name)
        store.put_json(keys.job(job_id), job.model_dump())
    _warn_of_missing_classes(store, manifest, split)
    _warn_of_untested_structures(run.recipe)
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
            f"warning: at ratio {split.labeled_ratio} no labelled image shows {', '.join(missing)}; {advice}",
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
