"""A run: one recipe trained on one split with one seed, under a key made of what its weights depend on."""

from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

from pydantic import ValidationError

from components.contract import Frozen
from components.dataset.manifest import Manifest
from components.dataset.split import Split
from components.errors import WorkFailed
from components.recipes.model import Recipe
from components.runs.environment import Environment, installed_versions
from components.runs.key import METHOD_VERSION
from components.storage import keys

if TYPE_CHECKING:
    from components.storage.client import Store


class DatasetRef(Frozen):
    digest: str
    name: str


class RunOutcome(Frozen):
    """What a finished run came to, for those who repeat it."""

    mean_iou: float
    epoch: int
    variant: str
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
    settings: dict[str, Any]
    """The resolved recipe; `components.recipes.loader.parse_recipe` reads it back."""
    overrides: dict[str, Any]
    ratio: str
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

    @property
    def reproduces(self) -> str:
        """The run that this one repeats, or empty."""
        return str(self.settings.get("reproduces", ""))


def new_record(recipe: Recipe, overrides: dict[str, Any], manifest: Manifest, split: Split, key: str) -> RunRecord:
    return RunRecord(
        run_key=key,
        recipe=recipe.name,
        settings=recipe.model_dump(mode="json"),
        overrides=overrides,
        ratio=split.ratio,
        seed=split.seed,
        dataset=DatasetRef(digest=manifest.digest, name=manifest.name),
        split=split.fingerprint,
        method_version=METHOD_VERSION,
        versions=installed_versions(),
        created=datetime.now(UTC).isoformat(timespec="seconds"),
    )


def load_run(store: "Store", key: str) -> tuple[RunRecord, Split]:
    """A run's record and split.

    Raises:
        MissingObject: there is no such run.
        WorkFailed: the objects are not what this version writes, or do not belong together.
    """
    record_name, split_name = keys.run(key, "run.json"), keys.run(key, "split.json")
    try:
        record = RunRecord.model_validate(store.get_json(record_name))
        split = Split.model_validate(store.get_json(split_name))
    except ValidationError as error:
        problem = error.errors()[0]
        where = ".".join(str(part) for part in problem["loc"])
        raise WorkFailed(
            f"run {key} was not written by this version: {where}: {problem['msg']} ({store.uri(record_name)})"
        ) from None
    if record.split != split.fingerprint:
        raise WorkFailed(f"{store.uri(split_name)} is not the split of run {key}: fingerprints differ")
    return record, split


def note_environment(store: "Store", key: str, environment: Environment) -> None:
    """Add to run.json where the training goes on, unless that is where it was last. Its lease must be held."""
    record, _ = load_run(store, key)
    if record.trained_on[-1:] != (environment,):
        _update(store, record, {"trained_on": (*record.trained_on, environment)})


def note_outcome(store: "Store", key: str, outcome: RunOutcome) -> None:
    """Add to run.json what the run came to, unless it says so."""
    record, _ = load_run(store, key)
    if record.outcome != outcome:
        _update(store, record, {"outcome": outcome})


def _update(store: "Store", record: RunRecord, changes: dict[str, Any]) -> None:
    store.put_json(keys.run(record.run_key, "run.json"), record.model_copy(update=changes).model_dump(mode="json"))
