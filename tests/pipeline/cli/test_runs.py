"""`cps runs` and `cps gc` on a real store: what no run refers to goes, and nothing that anybody works on."""

import json
import re
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner

from components.errors import UserError, WorkFailed
from components.runs.garbage import collect, delete_run, find_garbage
from components.runs.record import DatasetRef, RunOutcome
from components.runs.stored import find_run, find_weights, run_objects, stored_runs, stored_weights
from components.storage import keys
from components.storage.client import Store
from components.storage.lease import Holder, Lease
from pipeline.cli.commands.runs import parse_grace
from pipeline.cli.main import cli
from pipeline.cli.names import complete_run, run_named
from tests.pipeline.small_runs import make_run
from tests.run_objects import make_best, make_record, make_result

NOW = timedelta(0)
OUTCOME = RunOutcome(mean_iou=0.5, epoch=6, variant="ensemble", weights={})
USED, UNUSED = "1" * 64, "2" * 64


def put_run(store: Store, run_key: str, digest: str = USED, *, finished: bool = True) -> None:
    record = make_record(
        run_key, dataset=DatasetRef(name="tiny", digest=digest), created=f"2024-05-0{len(run_key)}T00:00:00+00:00"
    )
    store.put_json(keys.run(run_key, "run.json"), record.model_dump(mode="json"))
    store.put_json(keys.run(run_key, "split.json"), {})
    store.put_bytes(keys.run(run_key, "recovery.0.safetensors"), b"state")
    store.put_json(keys.job(f"job-{run_key}"), {"run_key": run_key})
    if finished:
        store.put_json(keys.checkpoint_index(run_key), {"run_key": run_key, "checkpoints": []})
        result = make_result(run_key, best=make_best(mIoU=0.625))
        store.put_json(keys.run(run_key, "result.json"), result.model_dump(mode="json"))
        store.put_bytes(keys.best_weights(run_key, pair=False), b"weights")


def put_dataset(store: Store, digest: str) -> None:
    shard = {"key": keys.dataset_shard(digest, 0, "a" * 64), "sha256": "a" * 64, "size": 4}
    manifest: dict[str, Any] = {"digest": digest, "name": "tiny", "layout": "lists", "files": {}, "shards": [shard]}
    store.put_bytes(shard["key"], b"tar.")  # type: ignore[arg-type]
    store.put_json(keys.dataset_manifest(digest), manifest | {"classes": [], "train": [], "val": []})
    store.put_json(keys.dataset_source(f"source-{digest}"), {"digest": digest})


def present(store: Store) -> set[str]:
    return {ref.key for ref in store.list("")}


def garbage_keys(store: Store, grace: timedelta = NOW) -> set[str]:
    return {ref.key for part in find_garbage(store, grace).garbage for ref in part.objects}


def test_runs_say_how_far_they_are(store: Store) -> None:
    put_run(store, "done")
    put_run(store, "begun1", finished=False)
    with Lease(store, keys.run("begun1", "lease.json")):
        newest, oldest = stored_runs(store)
    assert (newest.run_key, newest.state, newest.miou) == ("begun1", "running", None)
    assert (oldest.run_key, oldest.state, oldest.miou) == ("done", "finished", 0.625)
    assert oldest.size == sum(ref.size for ref in run_objects(store, "done"))
    assert find_run(store, "beg").state == "started"
    for name, said in (("", "type more of it"), ("none", "available: begun1, done")):
        with pytest.raises(UserError, match=said):
            find_run(store, name)


def test_a_list_reads_only_the_records_of_new_and_changed_runs(
    store: Store, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("CPS_CACHE", str(tmp_path / "cache"))
    for key in ("one", "two", "gone"):
        put_run(store, key, finished=False)
    store.put_json(keys.run("odd", "run.json"), {"of": "another version"})
    read = list[str]()
    get = Store.get_bytes
    monkeypatch.setattr(Store, "get_bytes", lambda self, key: read.append(key) or get(self, key))
    first = stored_runs(store)
    assert len(first) == 4
    delete_run(store, "gone")
    put_run(store, "new1", finished=False)
    outcome = make_record("two", outcome=OUTCOME, dataset=DatasetRef(name="tiny", digest=USED))
    store.put_json(keys.run("two", "run.json"), outcome.model_dump(mode="json"))
    store.put_json(keys.run("two", "result.json"), {})
    read.clear()
    runs = {run.run_key: run for run in stored_runs(store)}
    assert sorted(read) == sorted(keys.run(key, "run.json") for key in ("new1", "odd", "two"))
    assert (runs["two"].state, runs["two"].miou, runs["odd"].state) == ("finished", 0.5, "unreadable")
    assert runs["one"] == next(run for run in first if run.run_key == "one")
    [kept] = (tmp_path / "cache" / "runs").iterdir()
    kept.write_text("damaged")
    assert {run.run_key: run for run in stored_runs(store)} == runs
    monkeypatch.setenv("CPS_CACHE", "/proc/none")
    assert {run.run_key: run for run in stored_runs(store)} == runs, "where the cache cannot be written"


def test_a_run_is_found_without_reading_any_other(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    for key in ("one", "other1", "other2"):
        put_run(store, key)
    read, get = list[str](), Store.get_with_etag
    monkeypatch.setattr(Store, "get_with_etag", lambda self, key: read.append(key) or get(self, key))
    assert find_run(store, "on").miou == 0.625
    assert find_weights(store, "on").run_key == "one"
    assert {key.split("/")[1] for key in read} == {"one"}


def test_the_folder_of_a_removed_run_is_no_run(store: Store) -> None:
    put_run(store, "kept-a")
    store.put_bytes(keys.run("kept-b", "report.html"), b"left")  # as an interrupted deletion leaves it
    assert find_run(store, "kept").run_key == "kept-a"
    with pytest.raises(UserError, match=r"available: kept-a$"):
        find_run(store, "kept-b")


def test_names_that_stand_for_a_run(store: Store) -> None:
    with pytest.raises(UserError, match=r"there is no run in .* yet: start one with `cps run`"):
        run_named(store, "@last")
    for key, miou in (("one", 0.2), ("better", 0.9), ("third", 0.4)):
        put_run(store, key)
        result = make_result(key, best=make_best(mIoU=miou))
        store.put_json(keys.run(key, "result.json"), result.model_dump(mode="json"))
        store.remove(keys.job(f"job-{key}"))  # the store's times are in whole seconds
    store.put_json(keys.job("resumed"), {"run_key": "one"})
    assert run_named(store, "@last") == "one"
    assert run_named(store, "@best") == "better"
    assert run_named(store, "thi") == "thi"
    with pytest.raises(UserError, match=r"'@lats' is not one of @last, @best, @champion; did you mean '@last'\?"):
        run_named(store, "@lats")
    store.remove(keys.run("one", "run.json"))
    assert run_named(store, "@last") == "better", "a job may outlive its run"


@pytest.mark.usefixtures("store_environment")
def test_the_names_of_runs_are_completed_and_nothing_is_started(store: Store, tmp_path: Path) -> None:
    for key in ("one", "other"):
        put_run(store, key)

    def completed(text: str) -> list[str]:
        return [item.value for item in complete_run(None, None, text)]  # type: ignore[arg-type]

    assert completed("o") == ["one", "other"]
    assert completed("ot") == ["other"]
    assert completed("@b") == ["@best"]
    with pytest.MonkeyPatch.context() as patch:
        patch.delenv("AWS_ENDPOINT_URL")
        patch.setenv("CPS_HOME", str(tmp_path / "home"))
        assert completed("o") == []
        assert not (tmp_path / "home").exists()
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("AWS_ENDPOINT_URL", "nowhere")
        assert completed("o") == []


def test_weights_are_listed_with_what_they_are(store: Store) -> None:
    put_dataset(store, USED)
    put_run(store, "one")
    record = make_record("one", dataset=DatasetRef(name="tiny", digest=USED), outcome=OUTCOME)
    store.put_json(keys.run("one", "run.json"), record.model_dump(mode="json"))
    store.put_bytes(keys.best_weights("gone", pair=True), b"weights")
    found = {entry.run_key: entry.as_dict() for entry in stored_weights(store)}
    assert {name: found["one"][name] for name in ("dataset", "mIoU", "classes", "size")} == {
        "dataset": "tiny",
        "mIoU": 0.5,
        "classes": 0,
        "size": 7,
    }
    assert (found["gone"]["mIoU"], found["gone"]["classes"]) == (None, None)


def test_a_deleted_run_leaves_nothing_but_its_dataset(store: Store) -> None:
    put_dataset(store, USED)
    before = present(store)
    put_run(store, "a")
    put_run(store, "b")
    delete_run(store, "a")
    assert not [key for key in present(store) if "/a/" in key]
    assert [run.run_key for run in stored_runs(store)] == ["b"]
    delete_run(store, "b")
    assert present(store) == before | {keys.job("job-a"), keys.job("job-b")}


def test_a_run_that_is_worked_on_is_not_deleted(store: Store) -> None:
    put_run(store, "a")
    before = present(store)
    with Lease(store, keys.run("a", "lease.json")), pytest.raises(UserError, match="run a is in use"):
        delete_run(store, "a")
    assert present(store) == before


def test_garbage_is_what_no_run_refers_to(store: Store) -> None:
    for digest in (USED, UNUSED):
        put_dataset(store, digest)
    put_run(store, "a")
    put_run(store, "bb", finished=False)
    store.put_bytes(keys.dataset_shard(USED, 7, "b" * 64), b"stray")
    store.put_bytes(keys.best_weights("gone", pair=True), b"weights")
    store.put_bytes(keys.run("gone", "scores/epoch-0001.npz"), b"scores")
    store.put_json(keys.job("gone"), {"run_key": "gone"})
    expected = {
        keys.dataset_manifest(UNUSED),
        keys.dataset_shard(UNUSED, 0, "a" * 64),
        keys.dataset_source(f"source-{UNUSED}"),
        keys.dataset_shard(USED, 7, "b" * 64),
        keys.best_weights("gone", pair=True),
        keys.run("gone", "scores/epoch-0001.npz"),
        keys.job("gone"),
        keys.run("a", "recovery.0.safetensors"),
    }
    assert garbage_keys(store) == expected
    before, found = present(store), find_garbage(store, NOW)
    removed, left = collect(store, found)
    assert present(store) == before - expected
    assert (removed, left) == (found.size, ())
    assert garbage_keys(store) == set()


def test_what_is_young_is_kept(store: Store) -> None:
    put_dataset(store, UNUSED)
    assert garbage_keys(store, timedelta(hours=1)) == set()
    [line, _] = find_garbage(store, timedelta(hours=1)).kept
    assert line == f"datasets/{UNUSED}/ (no run uses this dataset): younger than the grace period"


def test_what_a_held_lease_works_on_is_kept(store: Store) -> None:
    put_dataset(store, UNUSED)
    store.put_bytes(keys.run("gone", "report.html"), b"report")
    store.put_bytes(keys.best_weights("gone", pair=False), b"weights")
    found = find_garbage(store, NOW)
    source = keys.dataset_source(f"source-{UNUSED}")
    with (
        Lease(store, keys.dataset_lease(UNUSED), Holder(doing="prepare-dataset")),
        Lease(store, keys.run("gone", "lease.json"), Holder(doing="training")),
    ):
        assert garbage_keys(store) == {source}
        # Begun between the look and the removal: left alone all the same.
        _, left = collect(store, found)
        assert len(left) == 3
        kept = present(store)
    assert keys.dataset_manifest(UNUSED) in kept
    assert keys.best_weights("gone", pair=False) in kept


def test_a_dataset_that_a_run_took_up_meanwhile_is_kept(store: Store) -> None:
    put_dataset(store, UNUSED)
    found = find_garbage(store, NOW)
    put_run(store, "a", UNUSED)
    collect(store, found)
    assert keys.dataset_manifest(UNUSED) in present(store)
    assert keys.dataset_source(f"source-{UNUSED}") in present(store)


def test_a_run_that_cannot_be_read_stops_the_collection(store: Store) -> None:
    put_dataset(store, UNUSED)
    store.put_json(keys.run("a", "run.json"), {"recipe": "demo"})
    with pytest.raises(WorkFailed, match=r"runs/a/run\.json does not say which dataset it uses"):
        find_garbage(store, NOW)


@pytest.mark.usefixtures("store_environment")
def test_what_is_in_use_stays_as_it_is(store: Store) -> None:
    run_key = make_run()
    digest = store.get_json(keys.run(run_key, "run.json"))["dataset"]["digest"]
    store.put_bytes(f"datasets/{digest}/of-a-newer-version.json", b"{}")
    store.put_json(keys.job("job"), {"run_key": run_key})
    store.put_json(keys.job_notified("job"), {"run_key": run_key})
    for name in ("recovery.0.safetensors", "checkpoints/epoch-0001.safetensors", "scores/epoch-0001.npz"):
        store.put_bytes(keys.run(run_key, name), b"content")
    before = {ref.key: (ref.size, ref.modified) for ref in store.list("")}
    assert keys.dataset_label_classes(digest) in before
    assert CliRunner().invoke(cli, ["gc", "--grace", "0s", "--yes"]).exit_code == 0
    assert {ref.key: (ref.size, ref.modified) for ref in store.list("")} == before


def test_the_recovery_of_a_run_that_lost_a_checkpoint_is_kept(store: Store) -> None:
    put_dataset(store, USED)
    put_run(store, "a")
    lost = {"epoch": 1, "step": 2, "key": keys.checkpoint("a", 1), "sha256": "0" * 64, "size": 4}
    store.put_json(keys.checkpoint_index("a"), {"run_key": "a", "checkpoints": [lost]})
    assert garbage_keys(store) == set()
    store.put_bytes(lost["key"], b"four")  # type: ignore[arg-type]
    assert garbage_keys(store) == {keys.run("a", "recovery.0.safetensors")}


def test_the_upload_of_somebody_at_work_is_kept(store: Store) -> None:
    client, bucket = store._client, store.settings.bucket
    for key in ("runs/a/big", "weights/a/best.safetensors", f"datasets/{USED}/shard-00000-aa.tar"):
        client._create_multipart_upload(bucket, key, {})
    found = find_garbage(store, NOW)
    assert len(found.uploads) == 3
    with Lease(store, keys.run("a", "lease.json")), Lease(store, keys.dataset_lease(USED)):
        assert find_garbage(store, NOW).uploads == ()
        _, left = collect(store, found)
        assert len(left) == 3
    collect(store, find_garbage(store, NOW))
    assert find_garbage(store, NOW).uploads == ()


def test_unfinished_uploads_are_found_and_freed(store: Store) -> None:
    client, bucket = store._client, store.settings.bucket
    upload_id = client._create_multipart_upload(bucket, "runs/a/big", {})
    client._upload_part(bucket, "runs/a/big", bytes(5 << 20), None, upload_id, 1)
    assert find_garbage(store, timedelta(hours=1)).uploads == ()
    found = find_garbage(store, NOW)
    assert [upload.key for upload in found.uploads] == ["runs/a/big"]
    collect(store, found)
    assert find_garbage(store, NOW).uploads == ()


@pytest.mark.usefixtures("store_environment")
def test_the_commands(store: Store, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CPS_HOME", str(tmp_path))
    for run_key in ("a", "b"):
        (tmp_path / "runs" / run_key).mkdir(parents=True)
    put_dataset(store, UNUSED)
    put_run(store, "a")
    cps = CliRunner()
    [run] = json.loads(cps.invoke(cli, ["runs", "list", "--json"]).stdout)
    assert (run["run_key"], run["miou"]) == ("a", 0.625)
    assert "62.5 %" in cps.invoke(cli, ["runs", "list"]).stdout
    shown = cps.invoke(cli, ["runs", "show", "a"]).stdout
    assert keys.best_weights("a", pair=False) in shown
    assert re.search(rf"^recipe     demo\nseed       \d\ndataset    stored:{USED}$", shown, re.MULTILINE)
    store.put_bytes("runs/a/predictions/val/1.png", b"12")
    store.put_bytes("runs/a/predictions/val/2.png", b"345")
    assert re.search(
        r"^ +5 B  runs/a/predictions/ \(2 objects\)$", cps.invoke(cli, ["runs", "show", "a"]).stdout, re.MULTILINE
    )
    told = json.loads(cps.invoke(cli, ["runs", "show", "a", "--json"]).stdout)
    assert {"key": "runs/a/predictions/val/2.png", "size": 3} in told["keys"]
    assert (told["run_key"], told["recipe"], told["dataset_digest"]) == ("a", "demo", USED)

    before = present(store)
    assert "nothing to delete" in cps.invoke(cli, ["gc"]).stdout
    listed = cps.invoke(cli, ["gc", "--grace", "0s"]).stdout
    assert keys.dataset_manifest(UNUSED) in listed
    assert "`cps gc --yes` deletes it" in listed
    assert cps.invoke(cli, ["runs", "delete", "a"], input="n\n").exit_code != 0
    assert present(store) == before

    assert "deleted" in cps.invoke(cli, ["gc", "--grace", "0s", "--yes"]).stdout
    assert cps.invoke(cli, ["runs", "delete", "a", "--yes"]).exit_code == 0
    assert [folder.name for folder in (tmp_path / "runs").iterdir()] == ["b"]
    assert present(store) == {keys.job("job-a")}


def test_the_grace_period() -> None:
    assert parse_grace("0s") == timedelta(0)
    assert parse_grace("7d") == timedelta(days=7)
    with pytest.raises(UserError, match="--grace 'soon'"):
        parse_grace("soon")
