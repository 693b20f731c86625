"""The record of a run, which is one recipe trained on one split with one seed."""

from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

from pydantic import JsonValue, model_validator

from components.contract import Frozen, read, renamed
from components.dataset.manifest import Manifest
from components.dataset.split import Split
from components.errors import WorkFailed
from components.recipes import Overrides, Recipe
from components.runs.environment import Environment, installed_versions
from components.runs.key import METHOD_VERSION
from components.storage import keys

if TYPE_CHECKING:
    from components.storage.client import Store


class DatasetRef(Frozen):
    digest: str
    name: str


class RunOutcome(Frozen):
    """The outcome of a finished run, to compare a reproduction with."""

    mean_iou: float
    epoch: int
    variant: str
    """left, right or ensemble; records of 0.1.0 say mean."""
    weights: dict[int, str]
    """By epoch, the sha256 over both networks' tensors, which an exact reproduction shares; file digests differ."""


class JobRecord(Frozen):
    """jobs/<job id>.json: the run that a pipeline job works on."""

    job_id: str
    run_key: str
    dataset: str
    """The dataset's name."""


class RunRecord(Frozen):
    """run.json: everything needed to reproduce the run, the environments it was trained in, and its outcome."""

    run_key: str
    recipe: str
    """The recipe's name."""
    settings: dict[str, JsonValue]
    """The resolved recipe; `components.recipes.loader.parse_recipe` reads it back."""
    overrides: dict[str, JsonValue]
    labeled_ratio: str
    seed: int
    dataset: DatasetRef
    split: str
    """The split's fingerprint."""
    method_version: int
    versions: dict[str, str]
    """Package versions in the step that created the run, whose image may lack Paddle."""
    created: str
    """UTC, ISO 8601."""
    trained_on: tuple[Environment, ...] = ()
    """In order; several if training resumed in a different environment."""
    outcome: RunOutcome | None = None

    @model_validator(mode="before")
    @classmethod
    def _read_0_1(cls, value: Any) -> Any:
        return renamed(value, {"ratio": "labeled_ratio"})

    @property
    def reproduces(self) -> str:
        """Return the key of the run that this one repeats, or an empty string."""
        return str(self.settings.get("reproduces", ""))


def new_record(recipe: Recipe, overrides: Overrides, manifest: Manifest, split: Split, key: str) -> RunRecord:
    """Return the record of a run that has not been trained."""
    return RunRecord(
        run_key=key,
        recipe=recipe.name,
        settings=recipe.model_dump(mode="json"),
        overrides=dict(overrides),
        labeled_ratio=split.labeled_ratio,
        seed=split.seed,
        dataset=DatasetRef(digest=manifest.digest, name=manifest.name),
        split=split.fingerprint,
        method_version=METHOD_VERSION,
        versions=installed_versions(),
        created=datetime.now(UTC).isoformat(timespec="seconds"),
    )


def find_job(store: "Store", job_id: str) -> JobRecord | None:
    """Return the record of a job; None if its run is not known yet. Raises WorkFailed."""
    key = keys.job(job_id)
    value = store.find_json(key)
    return None if value is None else read(JobRecord, value, store.uri(key))


def read_record(store: "Store", key: str) -> RunRecord:
    """Return a run's record. Raises MissingObject, WorkFailed."""
    name = keys.run(key, "run.json")
    return read(RunRecord, store.get_json(name), store.uri(name))


def load_run(store: "Store", key: str) -> tuple[RunRecord, Split]:
    """Return a run's record and split.

    Raises:
        MissingObject: the run does not exist.
        WorkFailed: this version cannot read the objects, or they do not belong together.
    """
    record, split_name = read_record(store, key), keys.run(key, "split.json")
    split = read(Split, store.get_json(split_name), store.uri(split_name))
    if record.split != split.fingerprint:
        raise WorkFailed(
            f"{store.uri(split_name)} is not the split of run {key} (the fingerprints differ): "
            "delete the run and start it again"
        )
    return record, split


def note_environment(store: "Store", key: str, environment: Environment) -> None:
    """Add the training environment to run.json unless it is the last one there. Requires the run's lease."""
    record, _ = load_run(store, key)
    if record.trained_on[-1:] != (environment,):
        _write(store, record.model_copy(update={"trained_on": (*record.trained_on, environment)}))


def note_outcome(store: "Store", key: str, outcome: RunOutcome) -> None:
    """Write the run's outcome to run.json unless it is already there."""
    record, _ = load_run(store, key)
    if record.outcome != outcome:
        _write(store, record.model_copy(update={"outcome": outcome}))


def _write(store: "Store", record: RunRecord) -> None:
    store.put_json(keys.run(record.run_key, "run.json"), record.model_dump(mode="json"))
