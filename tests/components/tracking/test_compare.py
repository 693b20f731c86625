"""The comparison of runs: the best first, whatever experiment they are in."""

import time
from typing import Any

import pytest

from components.errors import UserError
from components.tracking.client import open_run
from components.tracking.compare import compare_runs
from pipeline.local.ports import LOOPBACK, free_internal_ports

# MLflow's own use of SQLAlchemy.
pytestmark = pytest.mark.filterwarnings("ignore:The ``noload`` loader strategy")


def train(key: str, dataset: str, miou: float | None, client: Any) -> None:  # noqa: ARG001
    tags = {"recipe": "demo", "ratio": "1/8", "seed": 0, "dataset": dataset}
    with open_run(key, dataset, {"recipe": "demo"}, tags) as tracker:
        if miou is not None:
            tracker.log(3, {"best_mIoU": miou})
            tracker.set_tags({"best_epoch": 3, "best_variant": "left", "weights": f"s3://cps/weights/{key}"})
        tracker.finish("FINISHED" if miou is not None else "FAILED")


def test_the_best_comes_first_and_the_unscored_last(client: Any, tracking_uri: str) -> None:
    for key, dataset, miou in [("a", "scenes", 0.3), ("b", "scenes", None), ("c", "camvid", 0.5)]:
        train(key, dataset, miou, client)
    client.create_run("0")  # somebody else's, in the same MLflow
    rows = compare_runs(tracking_uri)
    assert [(row.run_key, row.best_miou, row.status) for row in rows] == [
        ("c", 0.5, "FINISHED"),
        ("a", 0.3, "FINISHED"),
        ("b", None, "FAILED"),
    ]
    assert (rows[0].epoch, rows[0].variant, rows[0].weights) == ("3", "left", "s3://cps/weights/c")
    assert rows[0].as_dict()["best_mIoU"] == 0.5
    assert {row.labeled_ratio for row in rows} == {"1/8"}, "as version 0.1 has tagged it"
    assert [row.run_key for row in compare_runs(tracking_uri, dataset="scenes")] == ["a", "b"]
    assert [row.run_key for row in compare_runs(tracking_uri, limit=1)] == ["c"]


def test_a_server_that_does_not_answer_is_one_line_within_seconds() -> None:
    [port] = free_internal_ports(1)
    began = time.monotonic()
    with pytest.raises(UserError, match=r"does not answer .*: correct MLFLOW_TRACKING_URI"):
        compare_runs(f"http://{LOOPBACK}:{port}")
    assert time.monotonic() - began < 30


def test_a_proxy_on_the_way_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    [port] = free_internal_ports(1)
    monkeypatch.setenv("HTTP_PROXY", f"http://me:secret@{LOOPBACK}:{port}")
    monkeypatch.delenv("NO_PROXY", raising=False)
    monkeypatch.delenv("no_proxy", raising=False)
    with pytest.raises(UserError) as caught:
        compare_runs("http://mlflow.invalid:5000")
    assert f"MLflow at http://mlflow.invalid:5000 does not answer through the proxy http://{LOOPBACK}:{port} (" in str(
        caught.value
    )
    assert str(caught.value).endswith(": correct MLFLOW_TRACKING_URI, or list its host in NO_PROXY")
    assert "secret" not in str(caught.value)
