"""The Python API's runs: their names, weights and figures, read from a real store."""

import subprocess
import sys
from pathlib import Path

import pytest

from components import api
from components.errors import UserError
from components.runs.result import CurvePoint, TrainingCurve
from components.storage import keys
from components.storage.client import Store
from tests.components.networks.small_weights import write_weights
from tests.project_files import REPOSITORY
from tests.run_objects import make_checkpoint, make_record, make_result

SLOW = ("paddle", "kfp", "mlflow", "numpy", "pydantic", "minio", "PIL", "rich")


@pytest.mark.parametrize("module", ["components.api", "pipeline.api"])
def test_the_import_loads_nothing_slow(module: str) -> None:
    program = f"import sys, {module}; print(sorted(set(sys.modules) & set({SLOW})))"
    done = subprocess.run([sys.executable, "-c", program], cwd=REPOSITORY, capture_output=True, text=True, check=False)
    assert (done.returncode, done.stdout) == (0, "[]\n"), done.stderr


@pytest.fixture
def runs(store: Store, store_environment: dict[str, str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:  # noqa: ARG001
    """Two runs, of which demo-1 is finished and has weights; return the file of these."""
    monkeypatch.setenv("CPS_HOME", str(tmp_path / "home"))
    for key in ("demo-1", "demo-2"):
        store.put_json(keys.run(key, "run.json"), make_record(key).model_dump(mode="json"))
    store.put_json(keys.job("job"), {"run_key": "demo-1"})
    result = make_result("demo-1", checkpoints=(make_checkpoint(6), make_checkpoint(3)))
    store.put_json(keys.run("demo-1", "result.json"), result.model_dump(mode="json"))
    curve = TrainingCurve(
        steps_per_epoch=4,
        points=(CurvePoint(step=6, loss_supervised=0.5, loss_cross=0.25, learning_rate=0.01),),
    )
    store.put_json(keys.training_curve("demo-1"), curve.model_dump(mode="json"))
    weights = write_weights(tmp_path / "weights.safetensors")
    store.put_file(keys.best_weights("demo-1", pair=True), weights)
    return weights


@pytest.mark.usefixtures("runs")
def test_figures_are_plain_records() -> None:
    assert {run["run_key"]: (run["state"], run["mIoU"]) for run in api.list_runs()} == {
        "demo-1": ("finished", 0.5),
        "demo-2": ("started", None),
    }
    assert api.list_runs("elsewhere") == []
    checkpoints = api.checkpoint_figures()
    assert [(row["run_key"], row["epoch"], row["ensemble"]) for row in checkpoints] == [
        ("demo-1", 3, 0.5),
        ("demo-1", 6, 0.5),
    ]
    assert [(row["name"], row["iou"]) for row in api.class_figures("demo-1")] == [("road", 0.5), ("sky", 0.5)]
    [point] = api.training_curve("@best")
    assert (point["step"], point["epoch"], point["loss_cross"]) == (6, 1.5, 0.25)
    for rows in (api.list_runs(), checkpoints, api.class_figures(), [point]):
        assert all(isinstance(value, (str, int, float, type(None))) for row in rows for value in row.values())
        assert len({tuple(row) for row in rows}) == 1, "every record has the same fields"


@pytest.mark.usefixtures("runs")
def test_a_run_that_has_no_figures_is_one_line() -> None:
    for read in (api.checkpoint_figures, api.class_figures):
        with pytest.raises(UserError, match="run demo-2 is not finished: `cps run --resume demo-2` finishes it"):
            read("demo-2")
    with pytest.raises(UserError, match="run demo-2 has no training curve"):
        api.training_curve("demo-2")
    with pytest.raises(UserError, match="'demo-3' is not a run"):
        api.class_figures("demo-3")


def test_weights_of_a_run_are_downloaded_once_and_again_if_they_changed(
    runs: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("demo-1", "@last", "@best"):
        assert api.load_model(name).class_names == ("road", "sky")
    kept = tmp_path / "home" / "runs" / "demo-1" / "best.safetensors"
    assert kept.read_bytes() == runs.read_bytes()
    with monkeypatch.context() as patch:
        patch.setattr(Store, "get_file", lambda *_: pytest.fail("it is downloaded again"))
        api.load_model("demo-1")
    kept.write_bytes(b"damaged")
    assert api.load_model("demo-1").run_key
    assert kept.read_bytes() == runs.read_bytes()


@pytest.mark.usefixtures("runs")
def test_the_champion_is_asked_for_where_the_environment_says(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)
    with pytest.raises(UserError, match=r"set MLFLOW_TRACKING_URI; or .*pipeline\.api\.connect\(\)"):
        api.load_model("@champion")
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "http://127.0.0.1:1")
    asked = list[tuple[str, ...]]()
    monkeypatch.setattr("components.tracking.registry.champion_key", lambda *found: asked.append(found) or "demo-1")
    assert api.load_model("@champion").run_key
    assert api.find_run_key("@champion") == "demo-1"
    assert asked[0][:2] == ("http://127.0.0.1:1", "scenes")


def test_without_a_store_the_error_says_how_to_get_one(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("AWS_ENDPOINT_URL", "AWS_ENDPOINT_URL_S3"):
        monkeypatch.delenv(name, raising=False)
    for call in (api.list_runs, lambda: api.load_model("demo-1"), lambda: api.find_run_key("demo-1")):
        with pytest.raises(UserError, match=r"set AWS_ENDPOINT_URL.*call pipeline\.api\.connect\(\) first"):
            call()
