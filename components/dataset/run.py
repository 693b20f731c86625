"""A run: one recipe trained on one split with one seed, under a key made of what its weights depend on."""

import hashlib
import re
from datetime import UTC, datetime
from fractions import Fraction
from typing import TYPE_CHECKING, Any

from pydantic import ValidationError

from components.contract import Frozen, canonical_json
from components.dataset.environment import Environment, installed_versions
from components.dataset.manifest import Manifest
from components.dataset.split import Split
from components.errors import WorkFailed
from components.labeled_ratio import ratio_text
from components.recipes.model import Recipe
from components.storage import keys

if TYPE_CHECKING:
    from components.storage.client import Store

METHOD_VERSION = 1
"""Raised by hand when the code changes what weights a recipe gives, or a setting's default: old runs are then not taken
for new."""

# What changes the time or the memory a run needs, and not its weights or scores.
_WITHOUT_EFFECT: dict[str, Any] = {
    "summary": True,
    "evaluation": {"batch": True},
    "training": {"recovery_steps": True},
}


class DatasetName(Frozen):
    digest: str
    name: str


class Outcome(Frozen):
    """What a finished run came to, for those who repeat it."""

    mean_iou: float
    epoch: int
    variant: str
    weights: dict[int, str]
    """By epoch, the sha256 over both networks' tensors: unlike a checkpoint's own, it is that of a repeated run."""


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
    dataset: DatasetName
    split: str
    """The split's fingerprint."""
    method_version: int
    versions: dict[str, str]
    """Of the step that began it, whose image need not have Paddle."""
    created: str
    """UTC, ISO 8601."""
    trained_on: tuple[Environment, ...] = ()
    """In their order; more than one where it went on somewhere else."""
    outcome: Outcome | None = None

    @property
    def reproduces(self) -> str:
        """The run that this one repeats, or empty."""
        return str(self.settings.get("reproduces", ""))


def run_key(recipe: Recipe, dataset_digest: str, fingerprint: str, ratio: Fraction, seed: int) -> str:
    """`<recipe>-1-8-s<seed>-<12 hex>`: equal for equal work, on any machine, with any number of processes.

    It begins with `again-` where the run repeats another one.
    """
    # Without defaults: runs from before there was some setting are the same runs as those that leave it alone.
    settings = recipe.model_dump(mode="json", exclude=_WITHOUT_EFFECT, exclude_defaults=True)
    if recipe.network.pretrained_sha256:
        # The digest says which weights these are; where they lie does not matter.
        settings["network"].pop("pretrained", None)
    if recipe.network.right_pretrained_sha256:
        settings["network"].pop("right_pretrained", None)
    parts = {
        "dataset": dataset_digest,
        "split": fingerprint,
        "recipe": settings,
        "seed": seed,
        "method": METHOD_VERSION,
    }
    digest = hashlib.sha256(canonical_json(parts)).hexdigest()
    name = re.sub(r"[^A-Za-z0-9_.]+", "-", recipe.name).strip("-.") or "recipe"
    if recipe.reproduces:
        name = f"again-{name}"
    return f"{name}-{ratio_text(ratio).replace('/', '-')}-s{seed}-{digest[:12]}"


def new_record(recipe: Recipe, overrides: dict[str, Any], manifest: Manifest, split: Split, key: str) -> RunRecord:
    return RunRecord(
        run_key=key,
        recipe=recipe.name,
        settings=recipe.model_dump(mode="json"),
        overrides=overrides,
        ratio=split.ratio,
        seed=split.seed,
        dataset=DatasetName(digest=manifest.digest, name=manifest.name),
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


def note_outcome(store: "Store", key: str, outcome: Outcome) -> None:
    """Add to run.json what the run came to, unless it says so."""
    record, _ = load_run(store, key)
    if record.outcome != outcome:
        _update(store, record, {"outcome": outcome})


def _update(store: "Store", record: RunRecord, changes: dict[str, Any]) -> None:
    store.put_json(keys.run(record.run_key, "run.json"), record.model_copy(update=changes).model_dump(mode="json"))
