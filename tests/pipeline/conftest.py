"""A server for Kubeflow Pipelines, and an environment that names no other."""

import os
from collections.abc import Iterator
from pathlib import Path

import pytest
from kfp_server import KfpServer, running

FOREIGN = ("KF_PIPELINES_", "KFP_", "AWS_", "MLFLOW_")


@pytest.fixture
def kfp_server(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[KfpServer]:
    for name in list(os.environ):
        if name.startswith(FOREIGN):
            monkeypatch.delenv(name)
    # The user's own context, which names a namespace and cookies, is not for tests.
    monkeypatch.setattr("kfp.Client._LOCAL_KFP_CONTEXT", str(tmp_path / "context.json"))
    with running() as server:
        yield server
