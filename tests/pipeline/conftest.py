"""A server for Kubeflow Pipelines, and an environment that names no other; a run; an MLflow that refuses."""

import os
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path

import pytest

from components.training.multi_node.pod_settings import KEYS
from pipeline.cluster import submission
from pipeline.compile import compile_pipeline
from tests.pipeline.kfp_server import KfpServer, running
from tests.pipeline.small_runs import make_run

FOREIGN = ("KF_PIPELINES_", "KFP_", "AWS_", "MLFLOW_")


@pytest.fixture
def kfp_server(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[KfpServer]:
    for name in list(os.environ):
        if name.startswith(FOREIGN):
            monkeypatch.delenv(name)
    # The user's own context, which names a namespace and cookies, and their own clusters are not for tests.
    monkeypatch.setattr("kfp.Client._LOCAL_KFP_CONTEXT", str(tmp_path / "context.json"))
    monkeypatch.setattr("kubernetes.config.kube_config.KUBE_CONFIG_DEFAULT_LOCATION", str(tmp_path / "no-kubeconfig"))
    monkeypatch.setattr(submission, "compile_pipeline", compiled_once)
    with running() as server:
        yield server


_COMPILED: dict[tuple[str, str], bytes] = {}


def compiled_once(path: Path, secret_fields: tuple[str, str] = KEYS) -> Path:
    """The pipeline compiled, a second each time, for the first test that asks; the same bytes for the others."""
    if secret_fields not in _COMPILED:
        _COMPILED[secret_fields] = compile_pipeline(path, secret_fields).read_bytes()
    path.write_bytes(_COMPILED[secret_fields])
    return path


_RECORDED: dict[str, bytes] = {}


@pytest.fixture
def run_key(store, store_environment, tmp_path, monkeypatch) -> str:  # noqa: ARG001 - the steps read it
    """A run that is recorded and not trained: made for the first test that asks, copied for the others."""
    monkeypatch.setenv("CPS_CACHE", str(tmp_path / "cache"))
    if not _RECORDED:
        key = make_run()
        _RECORDED.update({item.key: store.get_bytes(item.key) for item in store.list("")})
        return key
    for name, data in _RECORDED.items():
        store.put_bytes(name, data)
    return next(name.split("/")[1] for name in _RECORDED if name.endswith("/run.json"))


class Refusal(BaseHTTPRequestHandler):
    def do_GET(self) -> None:
        self.send_error(403)

    do_POST = do_GET

    def log_message(self, *_: object) -> None:
        pass


@pytest.fixture
def refusing_tracker() -> Iterator[str]:
    """An MLflow that lets nobody in: what would be logged is dropped at once, where one that is away is waited for."""
    with HTTPServer(("127.0.0.1", 0), Refusal) as server:
        threading.Thread(target=server.serve_forever, args=(0.01,), daemon=True).start()
        yield f"http://127.0.0.1:{server.server_port}"
        server.shutdown()
