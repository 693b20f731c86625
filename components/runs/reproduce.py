"""`cps reproduce RUN`: repeat a run from its run.json alone, and report what differs from the original."""

import json
import re
import tempfile
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import yaml
from pydantic import ValidationError

from components.contract import Frozen, problem_text
from components.dataset.stored.store import stored_manifest
from components.disk import writing
from components.errors import UserError, WorkFailed
from components.files import file_sha256, write_whole
from components.networks.pretrained_weights.installed import IMAGENET
from components.recipes import Recipe
from components.recipes.loader import parse_recipe
from components.runs.environment import Environment
from components.runs.key import METHOD_VERSION, same_work
from components.runs.planning.plan import PlannedRun, plan_run
from components.runs.record import RunOutcome, RunRecord
from components.runs.request import RunRequest
from components.runs.resume import prepared_digest
from components.runs.stored import find_run_key
from components.storage import keys
from components.storage.client import MissingObject, Store

UNKNOWN = "not recorded"
_KEY, _DIGEST = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_.-]*"), re.compile(r"[0-9a-f]{64}")


@dataclass(frozen=True)
class Difference:
    """A difference between the original run and this installation. A `fatal` one rules out a reproduction."""

    what: str
    then: str
    now: str
    fatal: bool = False

    def __str__(self) -> str:
        return f"{self.what}: originally {self.then}; now {self.now}"


@dataclass(frozen=True)
class Reproduction:
    """A planned reproduction: its request, its key, and what differs from the original."""

    original: RunRecord
    run_key: str
    """Empty if a fatal difference rules it out."""
    request: RunRequest
    differences: tuple[Difference, ...]


class Comparison(Frozen):
    """Whether a reproduction matches the original; None where either value is not recorded."""

    mIoU: bool | None  # noqa: N815 - the field's word
    weights: bool | None
    """Of all checkpoints, bit by bit."""
    mIoU_then: float | None = None  # noqa: N815
    mIoU_now: float | None = None  # noqa: N815
    equal_checkpoints: tuple[int, ...] = ()
    checkpoints: tuple[int, ...] = ()
    """Both by epoch."""


def read_record(name: str, store: Store) -> RunRecord:
    """Return the record of the run with this key or unique prefix, or from this file or s3:// URI. Raises UserError."""
    if name.startswith("s3://"):
        text = _object(name, store)
    elif name.endswith(".json") or Path(name).is_file():
        try:
            text = Path(name).read_bytes()
        except OSError as error:
            raise UserError(f"{name} cannot be read: {error.strerror}") from None
    else:
        text = store.get_bytes(keys.run(find_run_key(store, name), "run.json"))
    try:
        record = RunRecord.model_validate(json.loads(text))
    except ValidationError as error:
        problem = error.errors()[0]
        where = ".".join(str(part) for part in problem["loc"])
        raise UserError(
            f"{name} is not a run.json that this version can read: {where} {problem_text(problem)}"
        ) from None
    except ValueError as error:
        raise UserError(f"{name} is not JSON: {error}") from None
    for what, value, form in (("run_key", record.run_key, _KEY), ("dataset.digest", record.dataset.digest, _DIGEST)):
        if not form.fullmatch(value):  # they become parts of paths
            raise UserError(f"{name} is not a run.json that this version can read: {what} is {value!r}")
    return record


def _object(uri: str, store: Store) -> bytes:
    with tempfile.TemporaryDirectory(prefix="cps-record-") as folder:
        try:
            return store.get_uri(uri, Path(folder) / "run.json").read_bytes()
        except MissingObject as error:
            raise UserError(str(error)) from error


def take_dataset(record: RunRecord, store: Store, given: RunRequest) -> None:
    """Store the run's dataset again from the source in `given`. Raises UserError if that is a different dataset."""
    digest = prepared_digest(store, given)
    if digest != record.dataset.digest:
        raise UserError(
            f"--dataset {given.dataset} has digest {digest[:12]}, but run {record.run_key} was trained on "
            f"{record.dataset.name} ({record.dataset.digest[:12]})"
        )


def reproduction(
    record: RunRecord, store: Store, folder: Path, now: Environment, backbones: Sequence[Path] = ()
) -> Reproduction:
    """Plan to repeat the recorded run under a new key, and write its recipe to `folder`.

    Args:
        now: this machine's environment, with the number of processes that was requested.
        backbones: files of pretrained weights that have moved, matched by sha256.

    Raises:
        UserError: this version does not support the recipe.
    """
    recipe, missing = _with_backbones(parse_recipe(record.settings, f"run {record.run_key}"), backbones)
    found = [*missing, *environment_differences(record, now)]
    if stored_manifest(store, record.dataset.digest) is None:
        where = f"not in {store.uri(keys.DATASETS)}: pass its source with --dataset"
        found.append(Difference("dataset", f"{record.dataset.name} ({record.dataset.digest[:12]})", where, fatal=True))
    path = folder / "recipe.yaml"
    request = RunRequest.of_record(record, str(path.absolute()))
    key = ""
    if not any(difference.fatal for difference in found):
        found += _run_differences(record, store, path, recipe, request)
    if not any(difference.fatal for difference in found):
        _write(path, recipe.model_copy(update={"reproduces": record.run_key}))
        key = _planned(store, record, request).key
    return Reproduction(record, key, request, tuple(found))


def environment_differences(record: RunRecord, now: Environment) -> Iterator[Difference]:
    """Yield the differences between the environment that the run was trained in and this one."""
    then = record.trained_on[-1] if record.trained_on else None
    versions = then.versions if then else record.versions
    for name in sorted({*versions, *now.versions}):
        yield from _differs(name, versions.get(name, "none"), now.versions.get(name, "none"))
    if then is None:
        yield Difference("code and machine", UNKNOWN, f"{now.processor}, {now.threads} threads")
        return
    if then.code != now.code:  # not the commit, which also changes when only documentation does
        yield Difference("code", _code(then), _code(now))
    for name in ("system", "processor", "cores", "threads", "processes"):
        yield from _differs(name, str(getattr(then, name)), str(getattr(now, name)))
    if then.device and now.device:
        yield from _differs("device", then.device, now.device)
    if len(record.trained_on) > 1:
        yield Difference("environments", f"{len(record.trained_on)} of them, of which the last is compared", "one")


def comparison(original: RunOutcome | None, again: RunOutcome | None) -> Comparison:
    """Return whether both runs gave the same mIoU and weights; None where either is not recorded."""
    if original is None or again is None:
        return Comparison(mIoU=None, weights=None)
    epochs = sorted({*original.weights, *again.weights})
    equal = [epoch for epoch in epochs if original.weights.get(epoch) == again.weights.get(epoch)]
    return Comparison(
        mIoU=original.mean_iou == again.mean_iou,
        weights=equal == epochs if epochs else None,
        mIoU_then=original.mean_iou,
        mIoU_now=again.mean_iou,
        equal_checkpoints=tuple(equal),
        checkpoints=tuple(epochs),
    )


def comparison_lines(record: RunRecord, found: Comparison) -> list[str]:
    """Return the comparison with the original run as text, one line for the mIoU and one for the weights."""
    if found.mIoU_then is None or found.mIoU_now is None:
        return [f"{record.run_key} was not finished when its run.json was written, so there is nothing to compare with"]
    then, now = 100 * found.mIoU_then, 100 * found.mIoU_now
    gap = "equal" if found.mIoU else f"{now - then:+.2f} points"
    count = len(found.checkpoints)
    if found.weights is None:
        weights = "the original run did not record its weights' digests, so the weights are not compared"
    elif found.weights:
        weights = f"the weights of all {count} checkpoints are bit-identical"
    else:
        weights = f"the weights of {len(found.equal_checkpoints)} of {count} checkpoints are bit-identical"
    return [f"best mIoU {then:.2f} % originally, {now:.2f} % now: {gap}", weights]


def _differs(what: str, then: str, now: str) -> list[Difference]:
    return [] if then == now else [Difference(what, then, now)]


def _code(environment: Environment) -> str:
    return environment.code + (f" (commit {environment.commit})" if environment.commit else "")


def _with_backbones(recipe: Recipe, files: Sequence[Path]) -> tuple[Recipe, list[Difference]]:
    """Return the recipe with the current paths of pretrained weights, and a difference for each missing file."""
    given = {file_sha256(path): str(path.absolute()) for path in files}
    network, missing = recipe.network, []
    for setting in ("pretrained", "right_pretrained"):
        source, sha256 = getattr(network, setting), getattr(network, f"{setting}_sha256")
        if sha256 in given:
            network = network.model_copy(update={setting: given[sha256]})
        elif source not in ("", IMAGENET) and "://" not in source and not _is_file(Path(source), sha256):
            now = "missing: pass the file with --pretrained"
            missing.append(Difference(f"network.{setting}", f"{source} ({sha256[:12]})", now, fatal=True))
    return recipe.model_copy(update={"network": network}), missing


def _is_file(path: Path, sha256: str) -> bool:
    return path.is_file() and file_sha256(path) == sha256


def _run_differences(
    record: RunRecord, store: Store, path: Path, recipe: Recipe, request: RunRequest
) -> list[Difference]:
    """Return how the run that this version would train differs from the original in split, method or key."""
    _write(path, recipe)
    planned = _planned(store, record, request)
    if planned.split.fingerprint != record.split:
        then, now = record.split[:12], f"{planned.split.fingerprint[:12]}, because this version splits differently"
        return [Difference("split", then, now, fatal=True)]
    if record.method_version != METHOD_VERSION:
        return [Difference("method version", str(record.method_version), str(METHOD_VERSION))]
    if not same_work(planned.key, record.run_key):
        return [Difference("run key", record.run_key, f"{planned.key}: run.json was edited, or a default has changed")]
    return []


def _planned(store: Store, record: RunRecord, request: RunRequest) -> PlannedRun:
    try:
        return plan_run(store, record.dataset.digest, request)
    except WorkFailed as error:
        raise UserError(str(error)) from error


def _write(path: Path, recipe: Recipe) -> None:
    with writing(path):
        write_whole(path, yaml.safe_dump(recipe.model_dump(mode="json"), sort_keys=False, allow_unicode=True))
