"""`cps run --resume RUN`: the parameters that make the pipeline go on with exactly that run, from its run.json."""

import os
import tempfile
from collections.abc import Mapping
from dataclasses import dataclass, field
from fractions import Fraction
from pathlib import Path
from typing import Any

import yaml

from components.dataset.prepare import prepare
from components.dataset.sources.address import STORED
from components.errors import UserError, find_one
from components.files import default_cache
from components.labeled_ratio import parse_ratio, ratio_text
from components.recipes import load_recipe
from components.recipes.loader import parse_recipe
from components.runs.backbone import pin_pretrained
from components.runs.key import METHOD_VERSION, run_key
from components.runs.record import RunRecord, load_run
from components.storage import keys
from components.storage.client import Store


@dataclass(frozen=True)
class Given:
    """What the command line gave beside --resume; None is what it did not give."""

    recipe: str | None = None
    ratio: str | None = None
    seed: int | None = None
    settings: Mapping[str, Any] = field(default_factory=dict)
    """By dotted name, epochs and batch size among them."""


def recorded_run(store: Store, name: str) -> RunRecord:
    """The record of the run `name`, which is a run key or an unambiguous beginning of one.

    Raises UserError, which names the nearest run, or says that this version would train another one.
    """
    names = sorted({ref.key.split("/")[1] for ref in store.list(keys.RUNS) if ref.key.endswith("/run.json")})
    record, split = load_run(store, find_one(name, names, f"run in {store.uri(keys.RUNS)}"))
    recipe = parse_recipe(record.settings, f"run {record.run_key}")
    ratio = Fraction(record.ratio)
    if run_key(recipe, record.dataset.digest, split.fingerprint, ratio, record.seed) != record.run_key:
        raise UserError(
            f"--resume {record.run_key}: this version would train another run from it (its method version is "
            f"{record.method_version}, this one's {METHOD_VERSION}): use the version that its run.json names"
        )
    return record


def resumed_parameters(record: RunRecord, folder: Path, given: Given) -> dict[str, Any]:
    """The pipeline's parameters that say which run it is; the run's resolved recipe is written into `folder`.

    Raises UserError, naming every difference, where `given` is not what was recorded.
    """
    folder.mkdir(parents=True, exist_ok=True)
    recipe = folder / "recipe.yaml"
    recipe.write_text(yaml.safe_dump(record.settings, sort_keys=False, allow_unicode=True))
    found = [*_of_split(record, given), *_of_recipe(record, given, str(recipe))]
    if found:
        raise _another_run(record, "; ".join(found))
    return {
        "dataset": f"{STORED}{record.dataset.digest}",
        "dataset_sha256": "",
        "dataset_pools": "",
        "labeled_ratio": record.ratio,
        "recipe": str(recipe.absolute()),
        "overrides": "{}",
        "seed": record.seed,
        "epochs": 0,
        "batch_size": 0,
    }


def check_dataset(record: RunRecord, store: Store, dataset: str, sha256: str, pools: str) -> None:
    """Prepare the dataset that was given, to know what it is. Raises UserError where it is not the recorded one."""
    digest = prepared_digest(store, dataset, sha256, pools)
    if digest != record.dataset.digest:
        recorded = f"{record.dataset.name} ({record.dataset.digest[:12]}) recorded"
        raise _another_run(record, f"dataset {dataset}, which is {digest[:12]}, given, {recorded}")


def prepared_digest(store: Store, dataset: str, sha256: str, pools: str) -> str:
    """The digest of a dataset, which is in the store then."""
    with tempfile.TemporaryDirectory(prefix="cps-dataset-", dir=os.environ.get("CPS_WORK")) as folder:
        return prepare(dataset, sha256, store, Path(folder), pools=pools, cache_dir=default_cache()).digest


def _another_run(record: RunRecord, differences: str) -> UserError:
    return UserError(
        f"--resume {record.run_key}: what is given makes another run: {differences}; "
        "leave that out, or leave --resume out"
    )


def _of_split(record: RunRecord, given: Given) -> list[str]:
    found = []
    if given.ratio is not None and ratio_text(parse_ratio(given.ratio)) != record.ratio:
        found.append(f"ratio {given.ratio} given, {record.ratio} recorded")
    if given.seed is not None and given.seed != record.seed:
        found.append(f"seed {given.seed} given, {record.seed} recorded")
    return found


def _of_recipe(record: RunRecord, given: Given, recorded_recipe: str) -> list[str]:
    if given.recipe is None and not given.settings:
        return []
    recipe = pin_pretrained(load_recipe(given.recipe or recorded_recipe, given.settings), is_here=True)
    # Read back first: a record from before there was some setting has its default.
    before = parse_recipe(record.settings, f"run {record.run_key}")
    wanted, recorded = _flat(recipe.model_dump(mode="json")), _flat(before.model_dump(mode="json"))
    ignored, digest = {"summary"}, recipe.network.pretrained_sha256
    if digest and digest == recorded.get("network.pretrained_sha256"):
        ignored.add("network.pretrained")  # the same weights, wherever they lie
    return [
        f"{'recipe' if name == 'name' else name} {wanted.get(name)} given, {recorded.get(name)} recorded"
        for name in {**recorded, **wanted}
        if name not in ignored and wanted.get(name) != recorded.get(name)
    ]


def _flat(settings: Mapping[str, Any]) -> dict[str, Any]:
    """Settings by dotted name."""
    found: dict[str, Any] = {}
    for name, value in settings.items():
        if isinstance(value, Mapping) and value:
            found.update({f"{name}.{inner}": item for inner, item in _flat(value).items()})
        else:
            found[name] = value
    return found
