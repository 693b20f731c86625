"""What is logged arrives once and in order, and logging never waits."""

import threading
from pathlib import Path
from typing import Any

import pytest

from components.tracking.client import open_run

# MLflow's own use of SQLAlchemy.
pytestmark = pytest.mark.filterwarnings("ignore:The ``noload`` loader strategy")


def the_run(client: Any, experiment: str = "cps/scenes") -> Any:
    found = client.search_runs([client.get_experiment_by_name(experiment).experiment_id])
    assert len(found) == 1
    return found[0]


def history(client: Any, key: str) -> list[tuple[int, float]]:
    return [(entry.step, entry.value) for entry in client.get_metric_history(the_run(client).info.run_id, key)]


def test_a_run_has_its_params_tags_metrics_and_status(client: Any) -> None:
    with open_run("demo-1-8", "scenes", {"ratio": "1/8", "seed": "3"}, {"recipe": "demo"}) as tracker:
        for step in range(1, 1501):
            tracker.log(step, {"loss": 1 / step})
        assert tracker.finish("FINISHED")
    run = the_run(client)
    assert run.info.run_name == "demo-1-8"
    assert run.info.status == "FINISHED"
    assert run.data.params == {"ratio": "1/8", "seed": "3"}
    assert run.data.tags["cps.run_key"] == "demo-1-8"
    assert run.data.tags["recipe"] == "demo"
    assert history(client, "loss") == [(step, 1 / step) for step in range(1, 1501)]


def test_a_runs_name_begins_with_what_tells_it_from_others_of_its_dataset(client: Any) -> None:
    tags = {"recipe": "camvid-mobilenetv2", "ratio": "1/8", "seed": "1", "method": "supervised"}
    key = "camvid-mobilenetv2-1-8-s1-f7275e7ba693"
    for _ in range(2):  # it is found by its key, and not by its name
        assert open_run(key, "scenes", {"seed": "1"}, tags).finish("FINISHED")
    assert the_run(client).info.run_name == "1/8 s1 supervised camvid-mobilenetv2 f7275e"
    assert open_run(f"again-{key}", "others", {"seed": "1"}, {**tags, "reproduces": key}).finish("FINISHED")
    assert the_run(client, "cps/others").info.run_name == "1/8 s1 again supervised camvid-mobilenetv2 f7275e"


def test_a_resumed_run_is_found_by_its_key_and_logs_no_step_twice(client: Any) -> None:
    with open_run("demo-1-8", "scenes", {"seed": "3"}) as tracker:
        for step in (10, 20, 30):
            tracker.log(step, {"loss": step})
        tracker.finish("KILLED")
    with open_run("demo-1-8", "scenes", {"seed": "3", "added": "later"}) as tracker:
        for step in (20, 30, 40):
            tracker.log(step, {"loss": step})
    run = the_run(client)
    assert run.info.status == "RUNNING"
    assert run.data.params == {"seed": "3", "added": "later"}
    assert history(client, "loss") == [(10, 10), (20, 20), (30, 30), (40, 40)]


def test_adding_to_a_run_leaves_its_status(client: Any) -> None:
    open_run("demo-1-8", "scenes", {"seed": "3"}).finish("FINISHED")
    with open_run("demo-1-8", "scenes", {}) as tracker:
        tracker.log(4, {"best_mIoU": 0.5})
    assert the_run(client).info.status == "FINISHED"
    assert history(client, "best_mIoU") == [(4, 0.5)]


def test_every_checkpoint_is_one_logged_model_that_ranks(client: Any) -> None:
    for _ in range(2):  # training, and the same again after it was resumed
        with open_run("demo-1-8", "scenes", {"seed": "3"}) as tracker:
            tracker.log_checkpoint(1, 100, "s3://cps/a", sha256="aa")
            tracker.log_checkpoint(2, 200, "s3://cps/b", sha256="bb")
    with open_run("demo-1-8", "scenes", {}) as tracker:
        tracker.log_checkpoint(1, 100, "s3://cps/a", {"mIoU": 0.6})
        tracker.log_checkpoint(2, 200, "s3://cps/b", {"mIoU": 0.4})
    experiment = client.get_experiment_by_name("cps/scenes").experiment_id
    ranked = client.search_logged_models([experiment], order_by=[{"field_name": "metrics.mIoU", "ascending": False}])
    assert [(model.name, model.params["uri"], model.params["step"]) for model in ranked] == [
        ("epoch-0001", "s3://cps/a", "100"),
        ("epoch-0002", "s3://cps/b", "200"),
    ]
    assert [metric.value for metric in ranked[0].metrics] == [0.6]
    assert history(client, "mIoU") == [(1, 0.6), (2, 0.4)]


def test_names_that_mlflow_refuses_are_mended(client: Any) -> None:
    with open_run("demo-1-8", "scenes", {}) as tracker:
        tracker.log(1, {"IoU/traffic sign (pole)": 0.5})
    assert history(client, "IoU/traffic sign _pole_") == [(1, 0.5)]


def test_a_report_is_an_artifact(client: Any, tmp_path: Path) -> None:
    page = tmp_path / "report.html"
    page.write_text("<h1>45 %</h1>")
    with open_run("demo-1-8", "scenes", {}) as tracker:
        tracker.log_artifact(page)
    assert [item.path for item in client.list_artifacts(the_run(client).info.run_id)] == ["report.html"]


def test_what_is_refused_is_said_and_the_rest_arrives(
    client: Any, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    with open_run("demo-1-8", "scenes", {}) as tracker:
        tracker.log_artifact(tmp_path / "not there.html")
        tracker.log(1, {"loss": 1.0})
        assert tracker.close()
    assert "rejected an entry" in capsys.readouterr().err
    assert history(client, "loss") == [(1, 1.0)]


def test_the_experiment_can_be_named_and_a_run_of_kfps_is_a_tag(client: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MLFLOW_EXPERIMENT_NAME", "ours")
    monkeypatch.setenv("MLFLOW_RUN_ID", "0123456789abcdef")
    with open_run("demo-1-8", "scenes", {}):
        pass
    assert the_run(client, "ours").data.tags["kfp.mlflow_run_id"] == "0123456789abcdef"


def test_without_an_address_tracking_is_off(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)
    before = threading.active_count()
    with open_run("demo-1-8", "scenes", {}) as tracker:
        tracker.log(1, {"loss": 1.0})
        tracker.log_checkpoint(1, 1, "s3://cps/a")
        tracker.set_tags({"a": "1"})
        assert tracker.finish()
    assert not tracker.on
    assert tracker.url == ""
    assert threading.active_count() == before
    assert capsys.readouterr().err == "[tracking] off: MLFLOW_TRACKING_URI is not set\n"
