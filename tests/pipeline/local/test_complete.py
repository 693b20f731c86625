"""A run that was completed before is recognised from the store alone; whatever is missing or has changed is not."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from components.prediction import predict
from components.runs.checkpoints import CheckpointEntry, CheckpointIndex
from components.runs.record import load_run
from components.runs.request import PredictionRequest, Resources
from components.runs.result import RunResult, StoredObject
from components.scenes.generate import generate_scenes, parse_scenes
from components.storage import keys
from components.storage.client import Store
from components.tracking.published import _mark
from pipeline.local.complete import complete_outcome
from pipeline.local.environment import store_of
from pipeline.local.jobs import JobNote
from pipeline.parameters import PipelineParameters
from tests.pipeline.small_runs import REQUEST, ROOT, make_run
from tests.run_objects import make_result

ENVIRONMENT = {"MLFLOW_TRACKING_URI": "http://127.0.0.1:1"}
PARAMETERS = PipelineParameters(REQUEST, Resources(), PredictionRequest(limit=1))


@pytest.fixture
def home(tmp_path: Path) -> Path:
    return tmp_path / "home"


@pytest.fixture
def completed(run_key: str, store: Store, home: Path) -> RunResult:
    """A recorded run with the objects that the later steps leave, and the note of its request."""
    complete(run_key, store)
    note(run_key, home)
    return RunResult.model_validate(store.get_json(keys.run(run_key, "result.json")))


def note(run_key: str, home: Path, parameters: PipelineParameters = PARAMETERS) -> None:
    JobNote(home, home / "run.log", parameters.run.dataset, parameters.run).write(run_key, "scenes")


def complete(run_key: str, store: Store) -> None:
    record, split = load_run(store, run_key)
    saved = store.put_bytes(keys.checkpoint(run_key, 6), b"both networks")
    entry = CheckpointEntry(epoch=6, step=60, key=saved.key, sha256=saved.sha256, size=saved.size)
    index = CheckpointIndex(run_key=run_key, checkpoints=(entry,))
    store.put_json(keys.checkpoint_index(run_key), index.model_dump(mode="json"))
    weights = store.put_bytes(keys.best_weights(run_key, pair=True), b"the best")
    report = store.put_bytes(keys.run(run_key, "report.html"), b"<!doctype html>")
    result = make_result(
        run_key,
        dataset=record.dataset,
        split=split.fingerprint,
        weights=StoredObject(uri=weights.uri, sha256=weights.sha256, size=weights.size),
        report=StoredObject(uri=report.uri),
    )
    result = result.model_copy(
        update={"protocol": result.protocol.model_copy(update={"checkpoint_sha256": saved.sha256})}
    )
    store.put_json(keys.run(run_key, "result.json"), result.model_dump(mode="json"))
    batch = predict._batch(result, "val", predict._select("val", 1, split, "scenes", store))
    store.put_bytes(keys.prediction(run_key, batch, "gallery.html"), b"<!doctype html>")
    made = predict.PredictionSummary(
        run_key=run_key, batch=batch, images=1, refused=(), gallery="s3://gallery", predictions="s3://predictions"
    )
    store.put_json(keys.prediction(run_key, batch, "predictions.json"), made.model_dump(mode="json"))
    store.put_json(keys.run(run_key, "published.json"), {**_mark(store, run_key, ENVIRONMENT), "page": ""})
    trained = store.stat(keys.checkpoint_index(run_key))
    assert trained
    closed = {"address": "http://127.0.0.1:1", "status": "FINISHED", "trained": trained.modified.isoformat()}
    store.put_json(keys.run(run_key, "closed.json"), closed)


def test_what_is_complete_is_found_and_nothing_is_written(
    completed: RunResult, store: Store, home: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    before = {ref.key: ref.modified for ref in store.list("")}
    outcome = complete_outcome(PARAMETERS, store, home, ENVIRONMENT)
    assert outcome
    assert (outcome.exit_code, outcome.run_key) == (0, completed.run_key)
    assert outcome.results["predict"]["gallery"] == "s3://gallery"
    assert {ref.key: ref.modified for ref in store.list("")} == before
    said = f"[run] already complete: {completed.run_key}; `cps reproduce {completed.run_key}` would train it again\n"
    assert capsys.readouterr().err.endswith(said)


GONE: dict[str, Callable[[str], bool]] = {
    "a checkpoint": lambda key: key.endswith("epoch-0006.safetensors"),
    "the result": lambda key: key.endswith("result.json"),
    "the report": lambda key: key.endswith("report.html"),
    "the weights": lambda key: key.endswith("best-pair.safetensors"),
    "the predictions": lambda key: key.endswith("predictions.json"),
    "the gallery": lambda key: key.endswith("gallery.html"),
    "MLflow's copy": lambda key: key.endswith("published.json"),
    "its end in MLflow": lambda key: key.endswith("closed.json"),
    "the split": lambda key: key.endswith("split.json"),
    "a shard of the dataset": keys.is_dataset_shard,
    "the dataset": lambda key: key.endswith("manifest.json"),
    "the source of the dataset": lambda key: key.startswith(keys.SOURCES),
}


@pytest.mark.usefixtures("completed")
def test_what_lacks_anything_is_left_to_the_pipeline(store: Store, home: Path) -> None:
    objects = {ref.key: store.get_bytes(ref.key) for ref in store.list("")}
    for what, is_gone in GONE.items():
        [gone] = [key for key in objects if is_gone(key)]
        store.remove(gone)
        assert complete_outcome(PARAMETERS, store, home, ENVIRONMENT) is None, what
        store.put_bytes(gone, objects[gone])
        assert complete_outcome(PARAMETERS, store, home, ENVIRONMENT), what
    index = next(key for key in objects if key.endswith("index.json"))
    store.put_bytes(index, objects[index])
    assert complete_outcome(PARAMETERS, store, home, ENVIRONMENT) is None, "trained again since MLflow closed the run"


def test_damage_is_left_to_the_step_that_explains_it(completed: RunResult, store: Store, home: Path) -> None:
    for name in ("result.json", "run.json"):
        key = keys.run(completed.run_key, name)
        whole = store.get_bytes(key)
        for damaged in (b"{", b"{}"):
            store.put_bytes(key, damaged)
            assert complete_outcome(PARAMETERS, store, home, ENVIRONMENT) is None, (name, damaged)
        store.put_bytes(key, whole)


@pytest.mark.usefixtures("completed")
def test_another_request_or_another_mlflow_is_another_matter(store: Store, home: Path) -> None:
    changes: dict[str, Any] = {"epochs": 1, "seed": 6, "labeled_ratio": "1/2", "dataset": "scenes:train=9"}
    for name, value in changes.items():
        other = PipelineParameters(REQUEST.model_copy(update={name: value}), Resources(), PARAMETERS.prediction)
        assert complete_outcome(other, store, home, ENVIRONMENT) is None, name
    more = PipelineParameters(REQUEST, Resources(), PredictionRequest(limit=2))
    assert complete_outcome(more, store, home, ENVIRONMENT) is None
    assert complete_outcome(PARAMETERS, store, home, {}) is None, "the embedded MLflow has yet to get the run"
    assert complete_outcome(PARAMETERS, store, home, {"MLFLOW_TRACKING_URI": "http://127.0.0.1:2"}) is None


def test_a_changed_file_is_noticed(
    store: Store, store_environment: dict[str, str], home: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("CPS_CACHE", str(tmp_path / "cache"))
    folder, recipe = tmp_path / "photos", tmp_path / "mine.yaml"
    generate_scenes(folder, parse_scenes("scenes:train=8,val=2,width=128,height=64"))
    recipe.write_text((ROOT / "components" / "recipes" / "demo.yaml").read_text())
    request = REQUEST.model_copy(update={"dataset": str(folder), "recipe": str(recipe)})
    parameters = PipelineParameters(request, Resources(), PARAMETERS.prediction)
    key = make_run(request)
    complete(key, store)
    note(key, home, parameters)
    assert complete_outcome(parameters, store_of(store_environment), home, ENVIRONMENT)
    label = next(folder.rglob("*/train/*_0*.png"))
    whole = label.read_bytes()
    label.write_bytes(whole + b"\0")
    assert complete_outcome(parameters, store, home, ENVIRONMENT) is None
    label.write_bytes(whole)
    assert complete_outcome(parameters, store, home, ENVIRONMENT)
    recipe.write_text(recipe.read_text().replace("learning_rate: 0.", "learning_rate: 0.9"))
    assert complete_outcome(parameters, store, home, ENVIRONMENT) is None
