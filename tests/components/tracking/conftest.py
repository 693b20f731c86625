"""MLflow for the tests: a database of its own for each, and one real server for the session."""

import os
import secrets
import shutil
import subprocess
import sys
import time
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from filelock import FileLock

from pipeline.local.ports import LOOPBACK, reserve_internal_port

QUIET = {"MLFLOW_DISABLE_TELEMETRY": "true", "MLFLOW_SUPPRESS_PRINTING_URL_TO_STDOUT": "true"}


@pytest.fixture(scope="session")
def fresh_database(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An MLflow database without runs: making one takes seconds, copying it nothing. Test processes share it."""
    folder = tmp_path_factory.getbasetemp()
    if "PYTEST_XDIST_WORKER" in os.environ:
        folder = folder.parent
    path = folder / "mlflow" / "fresh.db"
    path.parent.mkdir(exist_ok=True)
    with FileLock(f"{path}.lock"):
        if not path.exists():
            making = path.with_suffix(".part")
            _make_database(making)
            making.rename(path)
    return path


def _make_database(path: Path) -> None:
    code = "import sys; from mlflow import MlflowClient; MlflowClient('sqlite:///' + sys.argv[1]).search_experiments()"
    subprocess.run(
        [sys.executable, "-W", "ignore", "-c", code, str(path)],
        env={**os.environ, **QUIET},
        cwd=path.parent,
        check=True,
        capture_output=True,
    )


@pytest.fixture
def tracking_uri(fresh_database: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    """MLFLOW_TRACKING_URI, set to a database of this test's own: the same client, without a server in between."""
    database = shutil.copy(fresh_database, tmp_path / "mlflow.db")
    uri = f"sqlite:///{database}"
    monkeypatch.setenv("CPS_CACHE", str(tmp_path / "cache"))
    monkeypatch.chdir(tmp_path)  # where the artifacts of such a database go
    monkeypatch.setenv("MLFLOW_TRACKING_URI", uri)
    for name in ("MLFLOW_EXPERIMENT_NAME", "MLFLOW_RUN_ID"):
        monkeypatch.delenv(name, raising=False)
    return uri


@pytest.fixture
def client(tracking_uri: str) -> Any:
    """A client of our own to look with."""
    from components.tracking.server import connect

    return connect(tracking_uri)


class TrackingServer:
    """A real MLflow server that a test can start when it wants to."""

    def __init__(self, folder: Path, database: Path) -> None:
        self.folder = folder
        self.database = shutil.copy(database, folder / f"{secrets.token_hex(4)}.db")
        self._reservation = reserve_internal_port()  # MLflow listens seconds after its start
        self.port = self._reservation.port
        self.address = f"http://{LOOPBACK}:{self.port}"
        self._process: subprocess.Popen[bytes] | None = None

    def start(self) -> None:
        command = [sys.executable, "-m", "mlflow", "server", "--workers", "1", "--host", LOOPBACK]
        command += ["--port", str(self.port), "--backend-store-uri", f"sqlite:///{self.database}"]
        command += ["--artifacts-destination", str(self.folder / "artifacts")]
        environment = {**os.environ, **QUIET, "MLFLOW_SERVER_ENABLE_JOB_EXECUTION": "false"}
        environment.pop("MLFLOW_TRACKING_URI", None)
        with (self.folder / "server.log").open("wb") as log:
            self._process = subprocess.Popen(
                command, stdout=log, stderr=log, env=environment, cwd=self.folder, start_new_session=True
            )

    def wait(self, seconds: float = 120) -> None:
        deadline = time.monotonic() + seconds
        while time.monotonic() < deadline:
            try:
                with urllib.request.urlopen(f"{self.address}/health", timeout=2) as answer:
                    if answer.status == 200:
                        return
            except OSError:
                time.sleep(0.2)
        pytest.fail(f"MLflow did not start: {(self.folder / 'server.log').read_text()[-2000:]}")

    def stop(self) -> None:
        if self._process is not None:
            os.killpg(self._process.pid, 9)
            self._process.wait()

    def close(self) -> None:
        self.stop()
        os.close(self._reservation.handle)


@pytest.fixture
def tracking_server(fresh_database: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[TrackingServer]:
    """Not started yet."""
    for name in ("MLFLOW_HTTP_REQUEST_TIMEOUT", "MLFLOW_HTTP_REQUEST_MAX_RETRIES"):
        monkeypatch.delenv(name, raising=False)  # MLflow's client has got them from another test
    server = TrackingServer(tmp_path, fresh_database)
    yield server
    server.close()
