"""The TrainJob manifest of a run."""

import os
import re
from typing import Any

from components.errors import UserError
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


def trainjob(run_key: str, processes: int, nodes: int, pods: Pods) -> dict[str, Any]:
    """Return the manifest: `processes` on each of `nodes`; settings and keys are references, never values."""
    name = job_name(run_key)
    spec: dict[str, Any] = {
        "runtimeRef": {"apiGroup": GROUP, "kind": "ClusterTrainingRuntime", "name": RUNTIME},
        "trainer": {
            "image": pods.image,
            "command": [
                *("python3", "-m", "components.training.multi_node.node", run_key),
                *("--job", name, f"--nodes={nodes}", f"--processes={processes}", f"--gpus={pods.gpus}"),
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


def _environment(pods: Pods) -> list[dict[str, Any]]:
    def setting(name: str, *, optional: bool) -> dict[str, Any]:
        reference = {"name": pods.settings_config_map, "key": name, "optional": optional}
        return {"name": name, "valueFrom": {"configMapKeyRef": reference}}

    def key(name: str, secret: str, field: str, *, optional: bool) -> dict[str, Any]:
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


def _resources(pods: Pods) -> dict[str, Any]:
    amounts = {"cpu": pods.cpu, "memory": pods.memory}
    if pods.gpus:
        amounts[pods.accelerator] = str(pods.gpus)
    return {"requests": amounts, "limits": dict(amounts)}


def _placement(pods: Pods) -> dict[str, Any]:
    placement: dict[str, Any] = {}
    if pods.node_selector:
        placement["nodeSelector"] = dict(pods.node_selector)
    if pods.tolerations:
        placement["tolerations"] = [dict(toleration) for toleration in pods.tolerations]
    return placement
