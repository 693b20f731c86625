"""A run: one recipe trained on one split with one seed, under a key made of what its weights depend on."""

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
    """How a finished run ended, for those who repeat it."""

    mean_iou: float
    epoch: int
    variant: str
    """left, right or ensemble; records of 0.1.0 say mean."""
    weights: dict[int, str]
    """By epoch, the sha256 over both networks' tensors: unlike a checkpoint's own, it is that of a repeated run."""


class JobRecord(Frozen):
    """jobs/<job id>.json: which run a pipeline's job works on."""

    job_id: str
    run_key: str
    dataset: str
    """Its name."""


class RunRecord(Frozen):
    """run.json: everything needed to do the run again, what it was done with, and what it came to."""

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
    """Of the step that began it, whose image need not have Paddle."""
    created: str
    """UTC, ISO 8601."""
    trained_on: tuple[Environment, ...] = ()
    """In their order; more than one where it went on somewhere else."""
    outcome: RunOutcome | None = None

    @model_validator(mode="before")
    @classmethod
    def _read_0_1(cls, value: Any) -> Any:
        return renamed(value, {"ratio": "labeled_ratio"})

    @property
    def reproduces(self) -> str:
        """The run that this one repeats, or empty."""
        return str(self.settings.get("reproduces", ""))


def new_record(recipe: Recipe, overrides: Overrides, manifest: Manifest, split: Split, key: str) -> RunRecord:
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
    """Return which run a job works on; None before it knows. Raises WorkFailed."""
    key = keys.job(job_id)
    value = store.find_json(key)
    return None if value is None else read(JobRecord, value, store.uri(key))


def read_record(store: "Store", key: str) -> RunRecord:
    """Return a run's record. Raises MissingObject, WorkFailed."""
    name = keys.run(key, "run.json")
    return read(RunRecord, store.get_json(name), store.uri(name))


def load_run(store: "Store", key: str) -> tuple[RunRecord, Split]:
    """A run's record and split.

    Raises:
        MissingObject: there is no such run.
        WorkFailed: the objects are not what this version writes, or do not belong together.
    """
    record, split_name = read_record(store, key), keys.run(key, "split.json")
    split = read(Split, store.get_json(split_name), store.uri(split_name))
    if record.split != split.fingerprint:
        raise WorkFailed(f"{store.uri(split_name)} is not the split of run {key}: fingerprints differ")
    return record, split


def note_environment(store: "Store", key: str, environment: Environment) -> None:
    """Add to run.json where the training goes on, unless that is where it was last. Its lease must be held."""
    record, _ = load_run(store, key)
    if record.trained_on[-1:] != (environment,):
        _write(store, record.model_copy(update={"trained_on": (*record.trained_on, environment)}))


def note_outcome(store: "Store", key: str, outcome: RunOutcome) -> None:
    """Add to run.json what the run came to, unless it says so."""
    record, _ = load_run(store, key)
    if record.outcome != outcome:
        _write(store, record.model_copy(update={"outcome": outcome}))


def _write(store: "Store", record: RunRecord) -> None:
    store.put_json(keys.run(record.run_key, "run.json"), record.model_dump(mode="json"))
