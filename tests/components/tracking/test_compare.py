"""The comparison of runs: the best first, whatever experiment they are in."""

import threading
import time
from http.server import BaseHTTPRequestHandler, HTTPServer
from typing import Any

import pytest

from components.errors import UserError
from components.tracking.client import open_run
from components.tracking.compare import compare_runs
from pipeline.local.ports import LOOPBACK, free_internal_ports

# MLflow's own use of SQLAlchemy.
pytestmark = pytest.mark.filterwarnings("ignore:The ``noload`` loader strategy")


def train(key: str, dataset: str, miou: float | None, client: Any, **tags: str) -> None:  # noqa: ARG001
    tags = {"recipe": "demo", "ratio": "1/8", "seed": "0", "dataset": dataset, **tags}
    split = tags.pop("split", "5" * 64)
    with open_run(key, dataset, {"recipe": "demo", "split_fingerprint": split}, tags) as tracker:
        if miou is not None:
            tracker.log(3, {"best_mIoU": miou})
            tracker.set_tags({"best_epoch": "3", "best_variant": "left", "weights": f"s3://cps/weights/{key}"})
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


def test_the_best_is_found_among_more_runs_than_asked_for(client: Any, tracking_uri: str) -> None:
    for number, miou in enumerate((0.9, 0.1, 0.2, 0.3)):
        train(f"scenes-{number}", "scenes", miou, client)
    for number, miou in enumerate((0.6, 0.5)):
        train(f"quoted-{number}", "it's", miou, client)
    assert [row.best_miou for row in compare_runs(tracking_uri, limit=2)] == [0.9, 0.6]
    assert [row.best_miou for row in compare_runs(tracking_uri, dataset="it's", limit=2)] == [0.6, 0.5]
    assert compare_runs(tracking_uri, dataset='it\'s a "quote"') == []


def test_the_gain_is_over_the_best_supervised_run_of_the_same_recipe_and_split(client: Any, tracking_uri: str) -> None:
    train("cps", "scenes", 0.5, client, method="cps")
    train("other-split", "scenes", 0.45, client, method="cps", split="6" * 64)
    train("best-baseline", "scenes", 0.4, client, method="supervised")
    train("baseline", "scenes", 0.3, client, method="supervised")
    train("other-recipe", "scenes", 0.49, client, method="supervised", recipe="photos")
    [best] = compare_runs(tracking_uri, limit=1)
    assert best.gain == pytest.approx(0.1), "the baseline is outside of the list"
    assert (best.baseline, best.method, best.split) == ("best-baseline", "cps", "5" * 64)
    gains = {row.run_key: row.gain for row in compare_runs(tracking_uri) if row.gain is not None}
    assert list(gains) == ["cps"]


@pytest.mark.slow
def test_a_plain_server_answers_as_the_client_does(
    tracking_server: Any, monkeypatch: pytest.MonkeyPatch, tmp_path: Any
) -> None:
    monkeypatch.setenv("CPS_CACHE", str(tmp_path / "cache"))
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setenv("MLFLOW_TRACKING_URI", tracking_server.address)
    tracking_server.start()
    tracking_server.wait()
    for key, miou in (("a", 0.3), ("b", None), ("c", 0.5)):
        train(key, "scenes", miou, None, method="supervised" if key == "a" else "cps")
    directly = compare_runs(tracking_server.address)
    monkeypatch.setenv("MLFLOW_TRACKING_INSECURE_TLS", "false")  # a setting that only the client knows
    assert compare_runs(tracking_server.address) == directly
    assert [(row.run_key, row.gain) for row in directly] == [("c", pytest.approx(0.2)), ("a", None), ("b", None)]


def test_a_server_that_is_no_mlflow_is_one_line() -> None:
    class Other(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            self.send_response(self.server.status)  # type: ignore[attr-defined]
            self.end_headers()
            self.wfile.write(b"<html>")

        def log_message(self, *_: object) -> None:
            pass

    with HTTPServer((LOOPBACK, 0), Other) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        for status, reason in ((200, "it is no MLflow server"), (403, "HTTP 403: <html>")):
            server.status = status  # type: ignore[attr-defined]
            with pytest.raises(UserError, match=reason):
                compare_runs(f"http://{LOOPBACK}:{server.server_port}")
        server.shutdown()


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
