"""Objects that version 0.1.0 stored stay readable: a finished run, and one that was killed with MLflow away.

tests/golden/objects-0.1.0 has the small objects of both as they were in the store, the metadata of the large ones, and
what waited on disk for MLflow.
"""

import json
import shutil
from pathlib import Path

import numpy as np
import pytest
from safetensors.numpy import save

from components.dataset.manifest import content_digest, parse_manifest
from components.evaluation.scores import unpack
from components.inference.checkpoint import read_description
from components.runs.checkpoints import read_index
from components.runs.record import load_run
from components.runs.result import VARIANTS, read_result
from components.runs.stored import find_run, stored_runs
from components.storage import keys
from components.storage.client import Store
from components.storage.lease import held_by
from components.tracking.spool import Spool, run_folder
from components.training.recovery import newest_recovery, recovery_key

OBJECTS = Path(__file__).parent / "golden" / "objects-0.1.0"
FINISHED, KILLED = "demo-1-4-s0-b777e5f7e626", "demo-1-4-s0-e5bdadef1f79"
DATASET = "d38ea84b49ea4a202d24123215ba7c519d1fd36d3812233fd85eee9c0138e72c"


@pytest.fixture
def old_store(store: Store) -> Store:
    folder = OBJECTS / "store"
    for path in sorted(path for path in folder.rglob("*") if path.is_file()):
        store.put_file(path.relative_to(folder).as_posix(), path)
    return store


@pytest.fixture(scope="module")
def metadata() -> dict[str, dict[str, str]]:
    found: dict[str, dict[str, str]] = json.loads((OBJECTS / "metadata.json").read_text())
    return found


@pytest.mark.parametrize(("key", "finished"), [(FINISHED, True), (KILLED, False)])
def test_a_runs_record_and_split(old_store: Store, key: str, *, finished: bool) -> None:
    record, split = load_run(old_store, key)
    assert (record.run_key, record.recipe, record.labeled_ratio, record.seed) == (key, "demo", "1/4", 0)
    assert (record.dataset.name, record.dataset.digest) == ("scenes", DATASET)
    assert (len(split.labeled), len(split.unlabeled), len(split.val)) == (4, 12, 4)
    assert (record.outcome is not None) is finished


def test_a_datasets_manifest(old_store: Store) -> None:
    key = keys.dataset_manifest(DATASET)
    manifest = parse_manifest(old_store.get_json(key), key)
    hashes = {name: entry.sha256 for name, entry in manifest.files.items()}
    assert content_digest(hashes, manifest) == manifest.digest == DATASET


def test_checkpoints_scores_and_result_agree(old_store: Store) -> None:
    result = read_result(old_store, FINISHED)
    assert (result.format, result.labeled_ratio, result.best.variant) == (3, "1/4", "left")
    index = read_index(old_store, FINISHED)
    assert [entry.epoch for entry in index] == [1, 2]
    for entry, row in zip(index, result.checkpoints, strict=True):
        key = keys.scores(FINISHED, entry.epoch)
        scores = unpack(old_store.get_bytes(key), key)
        assert scores is not None
        assert (scores.epoch, scores.checkpoint_sha256) == (entry.epoch, entry.sha256)
        for variant in VARIANTS:
            assert scores.mean_iou(variant) == pytest.approx(row.mean_iou(variant), abs=1e-12)


def test_the_average_of_both_networks_is_read_as_the_ensemble(old_store: Store) -> None:
    key = keys.run(FINISHED, "result.json")
    stored = old_store.get_json(key)
    won = {**stored, "best": {**stored["best"], "variant": "mean"}}
    old_store.put_json(key, won)
    result = read_result(old_store, FINISHED)
    assert result.best.variant == "ensemble"
    assert [row.ensemble for row in result.checkpoints] == [row["mean"] for row in stored["checkpoints"]]
    assert "ensemble" in {lead.over.variant for lead in result.variants}


def test_runs_are_listed_with_their_state(old_store: Store) -> None:
    states = {run.run_key: run.state for run in stored_runs(old_store)}
    assert states[FINISHED] == "finished"
    assert states[KILLED] == "interrupted", "its lease was never removed"
    best = old_store.get_json(keys.run(FINISHED, "result.json"))["best"]
    assert find_run(old_store, "demo-1-4-s0-b7").miou == best["mIoU"]


def test_a_lease_says_who_held_it(old_store: Store) -> None:
    lease = old_store.get_json(keys.run(KILLED, "lease.json"))
    old_store.put_json(keys.run(KILLED, "lease.json"), {**lease, "renewed": lease["renewed"] * 2})
    holder = held_by(old_store, keys.run(KILLED, "lease.json"))
    assert holder is not None
    assert (holder.run, holder.host) == (KILLED, "host")


def test_a_recovery(old_store: Store, metadata: dict[str, dict[str, str]]) -> None:
    state = save({"left.network.x": np.zeros(1, np.float32)}, metadata["recovery"])
    old_store.put_bytes(recovery_key(KILLED, 1), state)
    listed = json.loads(metadata["recovery"]["notes"])["checkpoints"]
    for entry in listed:
        old_store.put_bytes(entry["key"], b"weights")
    recovery = newest_recovery(old_store, KILLED)
    assert recovery is not None
    assert recovery.step == int(metadata["recovery"]["step"]) > 0
    assert recovery.notes["checkpoints"] == listed
    assert list(recovery.arrays) == ["left.network.x"]


@pytest.mark.parametrize("name", ["checkpoint", "weights"])
def test_what_weights_say_of_themselves(metadata: dict[str, dict[str, str]], name: str) -> None:
    description = read_description(metadata[name], name)
    assert len(description.classes) == 11
    assert (description.crop, description.stride) == ((64, 64), (64, 64))
    assert description.run_key == FINISHED


def test_what_waits_for_mlflow(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CPS_CACHE", str(tmp_path))
    shutil.copytree(OBJECTS / "spool" / KILLED, run_folder(KILLED))
    [path] = run_folder(KILLED).iterdir()
    spool = Spool.take(path)
    assert spool is not None
    with_kinds = [entry["kind"] for entry in spool.read()]
    spool.close()
    assert set(with_kinds) == {"dataset", "metrics", "checkpoint"}
    assert spool.header is not None
    assert spool.header.run.run_key == KILLED
