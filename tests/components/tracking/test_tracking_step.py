"""The exit handler closes the right run with its true status, and does nothing twice."""

import os
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest

from components.errors import UserError
from components.runs.finish import finish_job
from components.storage import client as storage_client
from components.storage import keys
from components.storage.client import Store
from components.storage.lease import Holder, Lease
from components.tracking.client import open_run
from components.tracking.published import mark_published, published, published_link

# MLflow's own use of SQLAlchemy.
pytestmark = pytest.mark.filterwarnings("ignore:The ``noload`` loader strategy")

RUN = "demo-1-8-s0-0123456789ab"

CLOSE_WITHOUT_MLFLOW = """
import sys
from components.runs.finish import finish_job
assert finish_job("job", "SUCCEEDED")["status"] == "FINISHED"
assert "mlflow" not in sys.modules
"""


@pytest.fixture
def job(store: Store, store_environment: dict[str, str], client: Any) -> Store:  # noqa: ARG001
    store.put_json(keys.job("job"), {"job_id": "job", "run_key": RUN, "dataset": "scenes"})
    with open_run(RUN, "scenes", {"seed": "0"}):
        pass
    return store


def status(client: Any) -> str:
    found = client.search_runs([client.get_experiment_by_name("cps/scenes").experiment_id])
    assert len(found) == 1
    return str(found[0].info.status)


@pytest.mark.parametrize(
    ("state", "expected"),
    [("SUCCEEDED", "FINISHED"), ("FAILED", "FAILED"), ("CANCELLED", "KILLED"), ("unheard of", "FAILED")],
)
@pytest.mark.usefixtures("job")
def test_the_run_gets_the_pipelines_status(client: Any, state: str, expected: str) -> None:
    assert status(client) == "RUNNING"
    assert finish_job("job", state) == {"run_key": RUN, "status": expected}
    assert status(client) == expected


@pytest.mark.parametrize("state", ["RUNNING", "UNKNOWN", ""])
def test_where_the_state_is_not_final_the_result_decides(job: Store, client: Any, state: str) -> None:
    finish_job("job", state)
    assert status(client) == "FAILED"
    job.put_json(keys.run(RUN, "result.json"), {"best": 1})
    finish_job("job", state)
    assert status(client) == "FINISHED"


@pytest.mark.usefixtures("job")
def test_a_job_that_was_stopped_was_killed(client: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CPS_STOPPING", "1")
    finish_job("job", "FAILED")
    assert status(client) == "KILLED"


@pytest.mark.usefixtures("job")
def test_the_second_time_mlflow_is_not_even_imported() -> None:
    finish_job("job", "SUCCEEDED")
    environment = {**os.environ, "PYTHONPATH": str(Path(__file__).parents[3])}
    assert subprocess.run([sys.executable, "-c", CLOSE_WITHOUT_MLFLOW], env=environment).returncode == 0


@pytest.mark.parametrize(("state", "waits"), [("SUCCEEDED", True), ("RUNNING", True), ("FAILED", False)])
@pytest.mark.usefixtures("job")
def test_a_store_that_restarts_is_waited_for_unless_the_pipeline_failed(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], state: str, waits: bool
) -> None:
    monkeypatch.setenv("AWS_ENDPOINT_URL", "http://127.0.0.1:1")
    monkeypatch.setattr(storage_client, "RESTART_SECONDS", 0.1)
    with pytest.raises(UserError, match=r"does not answer \(connection refused\)"):
        finish_job("job", state)
    assert ("for it to come back" in capsys.readouterr().err) == waits


def test_a_run_that_was_trained_again_is_closed_again(job: Store, client: Any) -> None:
    job.put_json(keys.checkpoint_index(RUN), {"checkpoints": []})
    finish_job("job", "SUCCEEDED")
    with open_run(RUN, "scenes", {"seed": "0"}):
        pass
    assert status(client) == "RUNNING"
    job.remove(keys.checkpoint_index(RUN))
    finish_job("job", "SUCCEEDED")
    assert status(client) == "FINISHED"


def test_a_run_that_another_job_works_on_is_left_open(job: Store, client: Any) -> None:
    with Lease(job, keys.run(RUN, "lease.json"), Holder(run=RUN)):
        finish_job("job", "FAILED")
        assert status(client) == "RUNNING"
    finish_job("job", "FAILED")
    assert status(client) == "FAILED"


def test_the_lease_of_a_killed_pod_does_not_keep_the_run_open(job: Store, client: Any) -> None:
    """It is valid for a while after the pod is gone, and nobody renews it."""
    record = {"token": "x", "holder": {}, "since": "", "seconds": 2, "process": {"pid": 1, "space": "another node"}}
    job.put_json(keys.run(RUN, "lease.json"), {**record, "renewed": time.time()})
    finish_job("job", "FAILED")
    assert status(client) == "FAILED"


@pytest.mark.usefixtures("job")
def test_a_job_that_never_got_to_a_run_has_nothing_to_close() -> None:
    assert finish_job("another job", "FAILED") == {}


def test_a_published_result_has_its_page(job: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    assert published_link(job, RUN) == ""
    mark_published(job, RUN, "#/experiments/1/runs/2")
    assert published(job, RUN)
    monkeypatch.setenv("CPS_PUBLIC_MLFLOW_URL", "https://mlflow.example.com/")
    assert published_link(job, RUN) == "https://mlflow.example.com/#/experiments/1/runs/2"


def test_a_result_is_published_once_per_server(job: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    job.put_json(keys.run(RUN, "result.json"), {"best": 1})
    assert not published(job, RUN)
    mark_published(job, RUN)
    assert published(job, RUN)
    job.put_json(keys.run(RUN, "result.json"), {"best": 2})
    assert not published(job, RUN)
    mark_published(job, RUN)
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "http://elsewhere")
    assert not published(job, RUN)
    monkeypatch.delenv("MLFLOW_TRACKING_URI")
    assert published(job, RUN)
