"""The pipeline's steps inside the images, as a cluster runs them: the commands of the compiled pipeline, each with a
hand-written executor input, in a container with a read-only root, without privileges and without root.
"""

import json
import os
import subprocess
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import pytest
import yaml

from components.storage import keys
from components.storage.client import Store
from components.storage.settings import StoreSettings
from pipeline.compile import compile_pipeline
from tests.images.containers import DATA_IMAGE, ENGINE, IMAGE, USER, in_container

BUCKET_ROOT = Path("minio/pipeline-artifacts")  # KFP reads minio://x/y as the mounted path /minio/x/y

# A run that takes seconds: what is tested is that each step works in its image, not what it learns.
SPLIT: dict[str, Any] = {
    "labeled_ratio": "1/2",
    "recipe": "demo",
    "overrides": "{}",
    "seed": 0,
    "epochs": 1,
    "batch_size": 2,
}
SHARING = {"processes": 1, "gpus": 0, "nodes": 1, "eval_shards": 1}
PODS: dict[str, Any] = {
    "cpu": "1",
    "memory": "2Gi",
    "shm": "",
    "accelerator": "nvidia.com/gpu",
    "node_selector": {},
    "tolerations": [],
}
PREPARE = {
    **SPLIT,
    **SHARING,
    **PODS,
    "eval_gpus": 0,
    "dataset": "scenes:train=8,val=2,width=128,height=64,seed=0",
    "dataset_sha256": "",
    "dataset_pools": "",
    "predict_images": "val",
    "predict_limit": 2,
}


Fields = dict[str, Any]
Kinds = dict[str, str]
"""Artifacts by name, with their KFP types."""


@dataclass
class Job:
    """The steps of one pipeline run, and where they leave their artifacts."""

    executors: dict[str, Any]
    folder: Path
    store: Store

    def start(
        self, step: str, image: str, parameters: Fields, inputs: Kinds, outputs: Kinds
    ) -> "subprocess.CompletedProcess[str]":
        """Run a step in its image, by the command that KFP compiled for it."""
        container = self.executors[f"exec-{step}"]["container"]
        executor_input = {
            "inputs": {
                "parameterValues": parameters,
                "artifacts": {name: self._artifact(name, kind) for name, kind in inputs.items()},
            },
            "outputs": {
                "artifacts": {name: self._artifact(name, kind) for name, kind in outputs.items()},
                "outputFile": f"/{BUCKET_ROOT}/{step}.json",
            },
        }
        arguments = [json.dumps(executor_input) if word == "{{$}}" else word for word in container["args"]]
        command = [*container["command"], *arguments]
        return in_container(image, *command, mounts={"/minio": self.folder / "minio"}, store=self.store.settings)

    def run(self, step: str, image: str, parameters: Fields, inputs: Kinds, outputs: Kinds) -> Fields:
        """The same for a step that must succeed; returns its output parameters, and its artifacts as "artifacts"."""
        done = self.start(step, image, parameters, inputs, outputs)
        assert done.returncode == 0, done.stderr
        left = json.loads(self.file(f"{step}.json").read_text())
        return {**left.get("parameterValues", {}), "artifacts": left.get("artifacts", {})}

    def file(self, name: str) -> Path:
        return self.folder / BUCKET_ROOT / name

    def _artifact(self, name: str, kind: str) -> dict[str, Any]:
        uri = f"minio://{BUCKET_ROOT.name}/{name}"
        return {
            "artifacts": [
                {"name": name, "type": {"schemaTitle": f"system.{kind}", "schemaVersion": "0.0.1"}, "uri": uri}
            ]
        }


@pytest.fixture(scope="module")
def job(store_server: StoreSettings, tmp_path_factory: pytest.TempPathFactory) -> Job:
    folder = tmp_path_factory.mktemp("job")
    compiled = compile_pipeline(folder / "cps.yaml")
    pipeline = next(yaml.safe_load_all(compiled.read_text()))
    (folder / BUCKET_ROOT).mkdir(parents=True)
    for path in (folder / "minio", folder / BUCKET_ROOT):
        os.chown(path, USER, USER)
    store = Store(replace(store_server, bucket="images"))
    store.check()
    return Job(pipeline["deploymentSpec"]["executors"], folder, store)


def test_images_say_what_they_are_and_swallow_no_command() -> None:
    for image in (DATA_IMAGE, IMAGE):
        inspected = subprocess.run([*ENGINE, "image", "inspect", image], capture_output=True, text=True, check=True)
        config = json.loads(inspected.stdout)[0]["Config"]
        assert not config.get("Entrypoint")
        assert config["User"].split(":")[0].isdigit()
        assert int(config["User"].split(":")[0]) > 0
        labels = {name.removeprefix("org.opencontainers.image.") for name in config["Labels"]}
        assert {"title", "description", "licenses", "version", "revision"} <= labels


def test_the_data_image_has_its_steps_and_no_paddle() -> None:
    program = """if True:
        import importlib.util, json
        import components.runs.steps, components.runs.finish
        from mlflow import MlflowClient
        from pycocotools import mask
        print(json.dumps([name for name in ("paddle", "paddleseg", "cv2", "pytest") if importlib.util.find_spec(name)]))
    """
    done = in_container(DATA_IMAGE, "python3", "-c", program)
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout) == []


def test_the_image_computes_with_paddle() -> None:
    program = "import paddle; print(float(paddle.nn.Conv2D(3, 1, 3)(paddle.ones([1, 3, 8, 8])).shape[-1]))"
    done = in_container(IMAGE, "python3", "-c", program)
    assert done.returncode == 0, done.stderr
    assert done.stdout.split()[-1] == "6.0"


def test_the_image_has_an_mlflow_server() -> None:
    done = in_container(IMAGE, "mlflow", "server", "--help")
    assert done.returncode == 0, done.stderr
    assert "--allowed-hosts" in done.stdout


def test_a_step_cannot_write_outside_its_folders() -> None:
    done = in_container(DATA_IMAGE, "sh", "-c", "id -u; touch /tmp/here; touch /opt/cps/app/there")
    assert done.stdout.split() == [str(USER)]
    assert done.returncode != 0


def test_a_step_reaches_the_store_and_nothing_else(store_server: StoreSettings) -> None:
    program = f"""if True:
        import socket, urllib.request
        print([name for _, name in socket.if_nameindex()])
        print(urllib.request.urlopen("{store_server.endpoint}/healthz").status)
        try:
            socket.create_connection(("192.0.2.1", 80), timeout=5)
        except OSError as error:
            print(error.strerror)
    """
    done = in_container(DATA_IMAGE, "python3", "-c", program)
    assert done.returncode == 0, done.stderr
    assert done.stdout.splitlines() == ["['lo']", "200", "Network is unreachable"]


def test_the_users_mistake_ends_a_step_with_code_2_and_one_line(job: Job) -> None:
    outputs = {"prepared": "Dataset"}
    done = job.start("prepare-dataset", DATA_IMAGE, {**PREPARE, "labeled_ratio": "3/2"}, {}, outputs)
    assert done.returncode == 2
    assert "3/2" in done.stderr.splitlines()[-1]
    assert "Traceback" not in done.stderr


def test_the_data_images_steps(job: Job) -> None:
    """Those of the other image run in test_docker_runner.py."""
    prepared = job.run("prepare-dataset", DATA_IMAGE, PREPARE, {}, {"prepared": "Dataset"})
    digest = prepared["digest"]
    described = json.loads(job.file("prepared").read_text())
    assert described["digest"] == digest
    assert (described["train"], described["val"]) == (8, 2)
    assert job.store.stat(keys.dataset_manifest(digest))

    run_key = split(job, digest, prepared["request"])
    assert job.store.get_json(keys.job("job-1"))["run_key"] == run_key

    status = {"state": "SUCCEEDED", "pipelineTaskName": "x", "pipelineJobResourceName": "y", "error": {}}
    job.run("finish", DATA_IMAGE, {"status": status, "job_id": "job-1"}, {}, {})


def split(job: Job, digest: str, request: str) -> str:
    pods = {"gpus": 0, "nodes": 1, "eval_gpus": 0, "node_selector": {}}
    parameters = {"request": request, **pods, "dataset_digest": digest, "job_id": "job-1"}
    done = job.run("split-labels", DATA_IMAGE, parameters, {"prepared": "Dataset"}, {"split": "Artifact"})
    assert (done["pod_gpus"], done["eval_pod_gpus"], done["eval_node_selector"]) == ("0", "0", {})
    return str(done["run_key"])
