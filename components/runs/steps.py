"""The pipeline's first two steps: prepare the dataset, then split its labels and create the run."""

from pathlib import Path
from typing import TYPE_CHECKING

from components import progress
from components.contract import Frozen
from components.dataset.check.balance import missing_classes
from components.dataset.manifest import Manifest
from components.dataset.prepare import prepare
from components.dataset.split import Split
from components.dataset.stored.label_classes import label_classes
from components.disk import default_cache, work_folder
from components.recipes import Recipe
from components.recipes.model import FOREIGN, PADDLESEG_MODELS
from components.runs.planning.auto import choose_settings
from components.runs.planning.plan import PlannedRun, checked_split, plan_run
from components.runs.record import JobRecord
from components.runs.request import RunRequest
from components.storage import keys
from components.tracking.address import check_tracking_address

if TYPE_CHECKING:
    from components.storage.client import Store

SPLIT_STEP = "split-labels"


class StoredDataset(Frozen):
    """The output of the prepare-dataset step."""

    digest: str
    name: str
    layout: str
    uri: str
    """The manifest's URI."""
    class_names: tuple[str, ...]
    train: int
    val: int
    test: int
    unlabeled: int
    """`train`, `val`, `test` and `unlabeled` count images."""
    bytes: int


def prepare_dataset(request: RunRequest, work_dir: str = "") -> StoredDataset:
    """Check the request, then store its dataset unless it is stored already.

    Raises:
        UserError: a parameter or the dataset is invalid, or the ratio leaves too few images to train on.
    """
    from components.storage.client import open_store

    request.check_sources()
    request.resolve()
    check_tracking_address()
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
    request = choose_settings(store, manifest, request).request
    checked_split(store, manifest, request.resolve(), request)
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

    With a `job_id`, also write jobs/<job_id>.json, so that the exit handler finds the run.
    """
    from components.storage.client import reopen_store

    store = reopen_store()
    run = plan_run(store, dataset_digest, request)
    key, manifest, split = run.key, run.manifest, run.split
    _write_run(store, run)
    if run.choice:
        progress.say(SPLIT_STEP, f"recipe auto: {run.choice}")
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
        return  # stored by an earlier version; a warning is not worth downloading the labels
    missing = missing_classes(manifest, split.labeled, label_classes(store, manifest))
    if missing:
        advice = "add one to the list" if split.origin == "lists" else "set split.stratify=true to rank by class"
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
                f"warning: {structure} is not tested with this version of Paddle; tested networks: "
                f"{', '.join(PADDLESEG_MODELS)}",
            )


def _write_run(store: "Store", run: PlannedRun) -> None:
    if store.stat(keys.run(run.key, "split.json")) is None:
        store.put_json(keys.run(run.key, "split.json"), run.split.model_dump(mode="json"))
    if store.stat(keys.run(run.key, "run.json")) is None:
        store.put_json(keys.run(run.key, "run.json"), run.record().model_dump(mode="json"))
