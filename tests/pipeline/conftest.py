"""A server for Kubeflow Pipelines, and an environment that names no other."""

import os
from collections.abc import Iterator
from pathlib import Path

import pytest
from kfp_server import KfpServer, running

from pipeline.cluster import compile_pipeline, submission
from pipeline.placement import KEYS

FOREIGN = ("KF_PIPELINES_", "KFP_", "AWS_", "MLFLOW_")


@pytest.fixture
def kfp_server(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[KfpServer]:
    for name in list(os.environ):
        if name.startswith(FOREIGN):
            monkeypatch.delenv(name)
    # The user's own context, which names a namespace and cookies, is not for tests.
    monkeypatch.setattr("kfp.Client._LOCAL_KFP_CONTEXT", str(tmp_path / "context.json"))
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
