"""The whole compiled pipeline by KFP's own DockerRunner: each step a container that KFP starts by Docker's API.

The engine that answers is podman, which speaks that API too.
"""

import json
import os
import subprocess
import tempfile
import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from kfp import components, local

from components.storage import keys
from components.storage.client import Store
from components.storage.settings import StoreSettings
from pipeline.compile import compile_pipeline
from pipeline.local.child import _without_retries
from tests.images.containers import DATA_IMAGE, ENGINE, IMAGE, USER, store_environment

PARAMETERS = {
    "dataset": "scenes:train=8,val=2,width=128,height=64,seed=0",
    "labeled_ratio": "1/2",
    "epochs": 1,
    "batch_size": 2,
    "eval_shards": 1,
    "predict_limit": 2,
}


@pytest.fixture
def docker(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """DOCKER_HOST, where an engine answers that has our images."""
    with tempfile.TemporaryDirectory() as folder:
        address = f"unix://{folder}/docker.sock"
        with subprocess.Popen([*ENGINE, "system", "service", "--time", "0", address]) as service:
            try:
                while not Path(folder, "docker.sock").exists():
                    assert service.poll() is None
                    time.sleep(0.1)
                monkeypatch.setenv("DOCKER_HOST", address)
                yield
            finally:
                service.terminate()


# KFP warns of every setting that means nothing to a local run.
@pytest.mark.filterwarnings("ignore")
@pytest.mark.usefixtures("docker")
def test_the_whole_pipeline_by_kfps_docker_runner(store_server: StoreSettings, tmp_path: Path) -> None:
    store = Store(replace(store_server, bucket="docker"))
    store.check()
    artifacts = tmp_path / "artifacts"
    artifacts.mkdir()
    os.chown(artifacts, USER, USER)
    runner = local.DockerRunner(
        environment=store_environment(store.settings),
        network_mode="host",  # of the engine, which is in the tests' own
        user=f"{USER}:{USER}",
        read_only=True,
        tmpfs={"/tmp": "rw,mode=1777"},
        cap_drop=["all"],
        security_opt=["no-new-privileges"],
        mem_limit="4g",
        ipc_mode="private",
        shm_size="512m",
    )
    local.init(runner, pipeline_root=str(artifacts), raise_on_error=True)
    components.load_component_from_text(_with_images(compile_pipeline(tmp_path / "cps.yaml")))(**PARAMETERS)

    # A container that is gone before KFP looks counts as one that succeeded, so what the steps left is what counts.
    [run_key] = {item.key.split("/")[1] for item in store.list("runs/")}
    index = store.get_json(keys.checkpoint_index(run_key))
    assert [entry["epoch"] for entry in index["checkpoints"]] == [1]
    result = store.get_json(keys.run(run_key, "result.json"))
    assert 0 < result["best"]["mIoU"] < 1
    assert store.stat(keys.run(run_key, "report.html"))
    for name in ("report", "gallery"):
        [page] = artifacts.rglob(name)
        assert "<html" in page.read_text()
    assert _output(artifacts, "train")["parameterValues"]["shards"] == [{"run_key": run_key, "shard": "0/1"}]
    assert _output(artifacts, "select")["artifacts"]["metrics"]["artifacts"][0]["metadata"]
    assert len([item for item in store.list(keys.run(run_key, "predictions/")) if item.key.endswith(".png")]) >= 2


def _output(artifacts: Path, step: str) -> dict[str, Any]:
    """What a step told KFP."""
    [path] = artifacts.rglob(f"{step}/executor_output.json")
    told: dict[str, Any] = json.loads(path.read_text())
    return told


def _with_images(compiled: Path) -> str:
    """The pipeline with the images in place of its parameters for them, which KFP's local runs do not fill in."""
    text = _without_retries(compiled.read_text())
    for name, image in (("image", IMAGE), ("data_image", DATA_IMAGE)):
        placeholder = f"{{{{$.inputs.parameters[''pipelinechannel--{name}'']}}}}"
        assert placeholder in text
        text = text.replace(placeholder, image)
    return text
