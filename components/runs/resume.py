"""`cps run --resume RUN`: rebuild a run's request from its run.json, so that the pipeline resumes exactly that run."""

import os
import tempfile
from collections.abc import Mapping
from fractions import Fraction
from pathlib import Path
from typing import Any

import yaml

from components.dataset.prepare import prepare
from components.disk import default_cache, writing
from components.errors import UserError
from components.files import write_whole
from components.recipes.loader import parse_recipe
from components.runs.key import METHOD_VERSION, run_key, same_work, without_effect
from components.runs.record import RunRecord, load_run
from components.runs.request import RunRequest
from components.runs.stored import find_run_key
from components.storage.client import Store


def recorded_run(store: Store, name: str) -> RunRecord:
    """Return the record of the run with the key or unique prefix `name`.

    Raises:
        UserError: no or several runs match, or this version would train a different run.
    """
    record, split = load_run(store, find_run_key(store, name))
    recipe = parse_recipe(record.settings, f"run {record.run_key}")
    ratio = Fraction(record.labeled_ratio)
    dataset = record.dataset
    key = run_key(recipe, dataset.name, dataset.digest, split.fingerprint, ratio, record.seed)
    if not same_work(key, record.run_key):
        raise UserError(
            f"--resume {record.run_key}: this version would train a different run (the run's method version is "
            f"{record.method_version}, this one's is {METHOD_VERSION}); use the cps-pipeline version in its run.json"
        )
    return record


def resumed_request(record: RunRecord, folder: Path, given: RunRequest) -> RunRequest:
    """Return the request that repeats the recorded run, and write its resolved recipe to `folder`.

    Args:
        given: the command line's other parameters; only the fields that were set count.

    Raises:
        UserError: `given` differs from the record. The message lists every difference.
    """
    recipe = folder / "recipe.yaml"
    with writing(recipe):
        write_whole(recipe, yaml.safe_dump(record.settings, sort_keys=False, allow_unicode=True))
    found = [*_split_differences(record, given), *_recipe_differences(record, given, str(recipe))]
    if found:
        raise _another_run(record, "; ".join(found))
    return RunRequest.of_record(record, str(recipe.absolute()))


def check_dataset(record: RunRecord, store: Store, given: RunRequest) -> None:
    """Prepare the given dataset to get its digest. Raises UserError if it is not the recorded dataset."""
    digest = prepared_digest(store, given)
    if digest != record.dataset.digest:
        recorded = f"{record.dataset.name} ({record.dataset.digest[:12]}) recorded"
        raise _another_run(record, f"dataset {given.dataset} ({digest[:12]}) given, {recorded}")


def prepared_digest(store: Store, request: RunRequest) -> str:
    """Store the dataset of a request, unless the store has it, and return its digest."""
    with tempfile.TemporaryDirectory(prefix="cps-dataset-", dir=os.environ.get("CPS_WORK")) as folder:
        sources, pools = (request.dataset, request.dataset_sha256), request.dataset_pools
        return prepare(*sources, store, Path(folder), pools=pools, cache_dir=default_cache()).digest


def _another_run(record: RunRecord, differences: str) -> UserError:
    return UserError(
        f"--resume {record.run_key}: these parameters describe a different run: {differences}; "
        "omit them, or omit --resume"
    )


def _split_differences(record: RunRecord, given: RunRequest) -> list[str]:
    found = []
    if "labeled_ratio" in given.model_fields_set and given.labeled_ratio != record.labeled_ratio:
        found.append(f"ratio {given.labeled_ratio} given, {record.labeled_ratio} recorded")
    if "seed" in given.model_fields_set and given.seed != record.seed:
        found.append(f"seed {given.seed} given, {record.seed} recorded")
    return found


def _recipe_differences(record: RunRecord, given: RunRequest, recorded_recipe: str) -> list[str]:
    if "recipe" not in given.model_fields_set:
        if not given.all_overrides:
            return []
        given = given.model_copy(update={"recipe": recorded_recipe})
    recipe = given.resolve()
    # Parse the record, so that settings added since then have their defaults.
    before = parse_recipe(record.settings, f"run {record.run_key}")
    wanted, recorded = _flat(recipe.model_dump(mode="json")), _flat(before.model_dump(mode="json"))
    # Defaults of settings without effect may have changed since the run was recorded.
    ignored, digest = without_effect() - {*given.all_overrides}, recipe.network.pretrained_sha256
    if digest and digest == recorded.get("network.pretrained_sha256"):
        ignored.add("network.pretrained")  # the same weights at a different path
    return [
        f"{'recipe' if name == 'name' else name} {wanted.get(name)} given, {recorded.get(name)} recorded"
        for name in {**recorded, **wanted}
        if name not in ignored and wanted.get(name) != recorded.get(name)
    ]


def _flat(settings: Mapping[str, Any]) -> dict[str, Any]:
    """Return nested settings as a flat mapping by dotted name."""
    found: dict[str, Any] = {}
    for name, value in settings.items():
        if isinstance(value, Mapping) and value:
            found.update({f"{name}.{inner}": item for inner, item in _flat(value).items()})
        else:
            found[name] = value
    return found
