"""The patches of Kubeflow Pipelines: what it sets stays, steps are retried, and its store takes our buckets."""

import os
import subprocess
import time
import urllib.error
import urllib.request
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import yaml

from pipeline.local.object_store import GRPC_OFFSET, weed
from pipeline.local.ports import LOOPBACK, free_internal_ports

REPOSITORY = Path(__file__).parents[2]
KUBECTL = REPOSITORY / "build/ci-tools/bin/kubectl"
OVERLAY = REPOSITORY / "manifests/overlays/kubeflow-pipelines"
PATCHES = {"ConfigMap": ("merge", "retries.yaml"), "Deployment": ("strategic", "store.yaml")}
"""The patch of the object of each kind, and its type."""
BEFORE = Path(__file__).with_name("kubeflow_pipelines.yaml")

ASKS = {"limit": "3", "backoff": {"duration": "30", "factor": "2", "maxDuration": "31536000"}}
"""The retryStrategy that Kubeflow Pipelines' compiler makes of set_retry."""


def of_kind(kind: str, text: str) -> dict[str, Any]:
    [found] = [item for item in yaml.safe_load_all(text) if item["kind"] == kind]
    return dict(found)


def before(kind: str) -> dict[str, Any]:
    return of_kind(kind, BEFORE.read_text())


def overlay(kind: str, _folder: Path) -> dict[str, Any]:
    return of_kind(kind, Path(os.environ["CPS_TEST_MANIFESTS"], "kubeflow-pipelines", "built.yaml").read_text())


def patched(kind: str, folder: Path) -> dict[str, Any]:
    """As the guide patches an existing installation."""
    (folder / "before.yaml").write_text(yaml.safe_dump(before(kind)))
    how, patch = PATCHES[kind]
    command: list[str | Path] = [KUBECTL, "patch", "--local", "-f", folder / "before.yaml", "--type", how]
    command += ["--patch-file", OVERLAY / patch, "-o", "yaml"]
    return of_kind(kind, subprocess.run(command, capture_output=True, text=True, check=True).stdout)


Made = Callable[[str, Path], dict[str, Any]]


@pytest.mark.parametrize("made", [overlay, patched])
def test_only_retries_change(made: Made, tmp_path: Path) -> None:
    old, after = before("ConfigMap")["data"], made("ConfigMap", tmp_path)["data"]
    defaults, kept = (yaml.safe_load(data.pop("workflowDefaults"))["spec"] for data in (after, old))
    assert after == old
    assert defaults["ttlStrategy"] == kept["ttlStrategy"]
    strategy = defaults["templateDefaults"]["retryStrategy"]
    # Argo merges the defaults into every template, whose own fields win: a step's, and also a DAG's, which has none.
    assert {**strategy, **ASKS} == {**ASKS, "retryPolicy": "Always"}
    assert strategy["limit"] == "0", "a DAG that is retried repeats all of its steps"


@pytest.mark.parametrize("made", [overlay, patched])
def test_only_the_number_of_volumes_changes(made: Made, tmp_path: Path) -> None:
    old, after = before("Deployment"), made("Deployment", tmp_path)
    assert arguments(after) == [*arguments(old), "-volume.max=100"]
    arguments(after).pop()
    assert after["spec"]["template"] == old["spec"]["template"]


def arguments(deployment: dict[str, Any]) -> list[str]:
    [container] = deployment["spec"]["template"]["spec"]["containers"]
    given: list[str] = container["args"]
    return given


@pytest.mark.parametrize(("made", "taken"), [(lambda kind, _folder: before(kind), False), (overlay, True)])
def test_the_store_takes_other_buckets(made: Made, taken: bool, tmp_path: Path) -> None:
    ports = dict(zip(("master", "volume", "filer", "s3"), free_internal_ports(4, GRPC_OFFSET), strict=True))
    command = [weed(), *arguments(made("Deployment", tmp_path)), f"-dir={tmp_path}", f"-ip={LOOPBACK}"]
    command += [f"-ip.bind={LOOPBACK}", *(f"-{server}.port={port}" for server, port in ports.items())]
    with (tmp_path / "log").open("w") as log, subprocess.Popen(command, stdout=log, stderr=log) as server:
        try:
            store, body = f"http://{LOOPBACK}:{ports['s3']}", os.urandom(100_000)
            wait_until(lambda: put(f"{store}/mlpipeline"))
            # What belongs to no bucket, such as the filer's own journal, takes seven volumes.
            wait_until(lambda: put(f"http://{LOOPBACK}:{ports['filer']}/journal", body))
            assert put(f"{store}/mlpipeline/a", body)
            for bucket in ("cps", "mlflow", "mlflow-backups"):
                assert put(f"{store}/{bucket}")
                assert put(f"{store}/{bucket}/a", body) == taken
        finally:
            server.kill()


def put(url: str, body: bytes = b"") -> bool:
    try:
        with urllib.request.urlopen(urllib.request.Request(url, body, method="PUT"), timeout=30) as answer:
            return bool(answer.status < 300)
    except urllib.error.HTTPError as error:
        if error.code < 500:
            raise
        return False


def wait_until(done: Callable[[], bool]) -> None:
    for _ in range(300):
        try:
            if done():
                return
        except OSError:
            pass
        time.sleep(0.1)
    raise AssertionError("the store did not start within 30 s")
