"""Runs whose processes were killed: the next command records it, in the store and for MLflow."""

import json
import subprocess
import sys
import time
from pathlib import Path

import pytest

from components.runs.finish import close_interrupted_run
from components.runs.stored import find_run
from components.storage import keys
from components.storage.client import Store
from components.storage.lease import Holder, Lease
from components.tracking.spool import run_folder, spool_files
from pipeline.local.jobs import JobNote, any_jobs, close_interrupted, is_running
from tests.run_objects import make_record, make_result

MLFLOW = {"MLFLOW_TRACKING_URI": "http://127.0.0.1:5000"}
CODE = """
import os, signal, sys
from pathlib import Path
from pipeline.local.jobs import JobNote
home = Path(sys.argv[1])
JobNote(home, home / "log", "scenes").write("demo", "scenes")
os.kill(os.getpid(), signal.SIGKILL)
"""


@pytest.fixture(autouse=True)
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CPS_CACHE", str(tmp_path / "cache"))


@pytest.fixture
def run(store: Store) -> str:
    store.put_json(keys.run("demo", "run.json"), make_record("demo").model_dump(mode="json"))
    return "demo"


def spooled(run_key: str) -> list[dict[str, object]]:
    return [json.loads(line) for path in spool_files(run_folder(run_key)) for line in path.read_text().splitlines()]


def test_a_killed_run_is_interrupted_for_the_next_command(run: str, store: Store, tmp_path: Path) -> None:
    ended = subprocess.run([sys.executable, "-c", CODE, str(tmp_path)], check=False)
    assert ended.returncode == -9
    assert any_jobs(tmp_path)
    assert not is_running(tmp_path, run)
    close_interrupted(tmp_path, store, MLFLOW)
    assert not any_jobs(tmp_path)
    assert find_run(store, run).state == "interrupted"
    header, status = spooled(run)
    assert header["run"]["tags"] == {"interrupted": "killed"}  # type: ignore[index]
    assert status["status"] == "KILLED"


def test_a_run_in_progress_is_left_alone(run: str, store: Store, tmp_path: Path) -> None:
    note = JobNote(tmp_path, tmp_path / "log", "scenes")
    note.write(run, "scenes")
    assert is_running(tmp_path, run)
    close_interrupted(tmp_path, store, MLFLOW)
    assert any_jobs(tmp_path)
    note.remove()
    assert not any_jobs(tmp_path)
    assert find_run(store, run).state == "started"


def test_who_continues_a_killed_run_takes_over_its_note(run: str, store: Store, tmp_path: Path) -> None:
    subprocess.run([sys.executable, "-c", CODE, str(tmp_path)], check=False)
    other, own = (JobNote(tmp_path, tmp_path / "log", "scenes") for _ in range(2))
    other.write("another", "scenes")
    other.remove()
    assert any_jobs(tmp_path), "another run has nothing to do with it"
    with Lease(store, keys.run(run, "lease.json"), Holder(run=run)):
        close_interrupted(tmp_path, store, MLFLOW)
        assert any_jobs(tmp_path), "the lease of a killed process has not run out yet"
        own.write(run, "scenes")
    own.remove()
    assert not any_jobs(tmp_path)


def test_a_run_that_others_work_on_or_have_closed_is_not_interrupted(run: str, store: Store) -> None:
    with Lease(store, keys.run(run, "lease.json")):
        assert not close_interrupted_run(store, run, "scenes", 0.0, MLFLOW)
    store.put_json(keys.run(run, "closed.json"), {"status": "FAILED"})
    assert close_interrupted_run(store, run, "scenes", time.time() - 60, MLFLOW), "by its exit handler"
    assert spooled(run) == []
    assert find_run(store, run).state == "failed"
    assert close_interrupted_run(store, run, "scenes", time.time() + 60, MLFLOW), "resumed since, and killed"
    assert find_run(store, run).state == "interrupted"
    store.put_json(keys.run(run, "result.json"), make_result(run).model_dump(mode="json"))
    assert find_run(store, run).state == "finished"
    assert close_interrupted_run(store, "gone", "scenes", 0.0, MLFLOW)
    assert spooled("gone") == []


def test_a_lease_that_a_killed_process_has_left_shows_an_interrupted_run(run: str, store: Store) -> None:
    code = (
        "import os, sys; from components.storage.client import open_store; from components.storage.lease import Lease;"
        "Lease(open_store(), sys.argv[1]).__enter__(); os.kill(os.getpid(), 9)"
    )
    settings = store.settings
    environment = {
        "AWS_ENDPOINT_URL": settings.endpoint,
        "AWS_ACCESS_KEY_ID": settings.access_key,
        "AWS_SECRET_ACCESS_KEY": settings.secret_key,
        "CPS_BUCKET": settings.bucket,
        "PYTHONPATH": str(Path(__file__).parents[3]),
    }
    subprocess.run([sys.executable, "-c", code, keys.run(run, "lease.json")], env=environment, check=False)
    assert find_run(store, run).state == "interrupted"
