"""The TrainJob manifest of a run."""

import os
import re

from components.errors import UserError
from components.training.multi_node.kubernetes_api import Object
from components.training.multi_node.pod_settings import (
    KEYS,
    OPTIONAL_SETTINGS,
    SECRET_FIELDS_VARIABLE,
    SETTINGS,
    TRACKING_LOGIN,
    TRACKING_SECRET,
    Pods,
)

GROUP, VERSION = "trainer.kubeflow.org", "v1alpha1"
RUNTIME = "paddle-distributed"
"""The ClusterTrainingRuntime of manifests/components/trainer."""
JOB_OF_PODS = "node"
"""The runtime's only replicated job, and its container: Kubeflow Trainer recognises these names."""
SHARED_MEMORY = "shared-memory"
"""The runtime's volume for /dev/shm."""
RUN_KEY = "cps-pipeline/run-key"
MANAGER = "cps-pipeline/train"

_TAIL = re.compile(r"[0-9a-f]{12}")


def job_name(run_key: str) -> str:
    """Return the job's name: the same for every attempt at a run, so that a retried step finds the existing job.

    The name is short because pod names, NAME-node-0-RANK-XXXXX, are limited to 63 characters.
    """
    tail = run_key[-12:]
    if not _TAIL.fullmatch(tail):
        raise UserError(f"{run_key!r} is not a run key: a run key ends with 12 hexadecimal digits")
    return f"cps-{tail}"


def trainjob(run_key: str, processes: int, nodes: int, pods: Pods) -> Object:
    """Return the manifest: `processes` on each of `nodes`; settings and keys are references, never values."""
    name = job_name(run_key)
    spec: Object = {
        "runtimeRef": {"apiGroup": GROUP, "kind": "ClusterTrainingRuntime", "name": RUNTIME},
        "trainer": {
            "image": pods.image,
            "command": [
                *("python3", "-m", "components.training.multi_node.node", run_key),
                *("--job", name, f"--nodes={nodes}", f"--processes={processes}", f"--gpus={pods.resources.gpus}"),
            ],
            "numNodes": nodes,
            "env": _environment(pods),
            "resourcesPerNode": _resources(pods),
        },
    }
    placement = _placement(pods)
    if placement:
        job = {"name": JOB_OF_PODS, "template": {"spec": {"template": {"spec": placement}}}}
        patch = {"template": {"spec": {"replicatedJobs": [job]}}}
        spec["runtimePatches"] = [{"manager": MANAGER, "trainingRuntimeSpec": patch}]
    return {
        "apiVersion": f"{GROUP}/{VERSION}",
        "kind": "TrainJob",
        "metadata": {
            "name": name,
            "labels": {"app.kubernetes.io/name": "cps-training", "app.kubernetes.io/part-of": "cps-pipeline"},
            "annotations": {RUN_KEY: run_key},
        },
        "spec": spec,
    }


def _environment(pods: Pods) -> list[Object]:
    def setting(name: str, *, optional: bool) -> Object:
        reference = {"name": pods.settings_config_map, "key": name, "optional": optional}
        return {"name": name, "valueFrom": {"configMapKeyRef": reference}}

    def key(name: str, secret: str, field: str, *, optional: bool) -> Object:
        return {"name": name, "valueFrom": {"secretKeyRef": {"name": secret, "key": field, "optional": optional}}}

    fields = os.environ.get(SECRET_FIELDS_VARIABLE, ",".join(KEYS)).split(",")
    if len(fields) != len(KEYS):
        raise UserError(
            f"{SECRET_FIELDS_VARIABLE} has {len(fields)} names: list those of {', '.join(KEYS)}, comma-separated"
        )
    return [
        *(setting(name, optional=False) for name in SETTINGS),
        *(setting(name, optional=True) for name in OPTIONAL_SETTINGS),
        *(key(name, pods.store_secret, field, optional=False) for name, field in zip(KEYS, fields, strict=True)),
        *(key(name, TRACKING_SECRET, name, optional=True) for name in TRACKING_LOGIN),
    ]


def _resources(pods: Pods) -> Object:
    amounts = {"cpu": pods.resources.cpu, "memory": pods.resources.memory}
    if pods.resources.gpus:
        amounts[pods.resources.accelerator] = str(pods.resources.gpus)
    return {"requests": amounts, "limits": dict(amounts)}


def _placement(pods: Pods) -> Object:
    placement: Object = {}
    if pods.resources.node_selector:
        placement["nodeSelector"] = dict(pods.resources.node_selector)
    if pods.resources.shm:
        shared = {"name": SHARED_MEMORY, "emptyDir": {"medium": "Memory", "sizeLimit": pods.resources.shm}}
        placement["volumes"] = [shared]
    if pods.resources.tolerations:
        placement["tolerations"] = [item.model_dump(exclude_unset=True) for item in pods.resources.tolerations]
    return placement
