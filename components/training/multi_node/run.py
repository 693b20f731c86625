"""Training a run on several nodes, from a step that waits for them."""

import threading
import time

from components import progress
from components.errors import UserError, WorkFailed
from components.training.multi_node.follow import finished, follow
from components.training.multi_node.kubernetes_api import Cluster, Object, Rejected, this_cluster
from components.training.multi_node.pod_settings import Pods
from components.training.multi_node.trainjob import GROUP, RUN_KEY, VERSION, trainjob

CLEARING_SECONDS = 300.0
"""For the pods of a job that is deleted to save their state and go."""
CANCEL_SECONDS = 5.0
"""For each of two requests: a pod that is told to stop has 30 s by default, and gives its lease back after this."""
POLL_SECONDS = 1.0


def train_on_nodes(run_key: str, processes: int, nodes: int, pods: Pods, lost: threading.Event) -> None:
    """Train on `nodes` pods of `processes` each until the run is trained.

    A job of the run that goes on already, as after an attempt that was interrupted, is followed instead of a second
    one. When the step is told to stop, the job is deleted: its pods save their state.

    Args:
        lost: set when another took the run over; the job is then left to it.

    Raises:
        UserError, WorkFailed: why there is no job, or why it failed.
    """
    cluster = this_cluster()
    body = trainjob(run_key, processes, nodes, pods)
    name = str(body["metadata"]["name"])
    path = cluster.path(f"apis/{GROUP}/{VERSION}", "trainjobs", name)
    try:
        job = _find_or_create(cluster, path, body)
        follow(cluster, name, str(job["metadata"]["uid"]), lost)
    except Rejected as error:
        raise _explained(error, cluster) from None
    except (SystemExit, KeyboardInterrupt):
        if not lost.is_set():
            _cancel(cluster, path, run_key)
        raise


def _cancel(cluster: Cluster, path: str, run_key: str) -> None:
    """Delete the run's job, also one whose creation was interrupted before its answer came."""
    name = path.rpartition("/")[2]
    try:
        job = cluster.get(path, patience=CANCEL_SECONDS)
        if _is_of(job, run_key):
            cluster.delete(path, str(job["metadata"]["uid"]), patience=CANCEL_SECONDS)
            progress.say("train", f"told to stop: TrainJob {name} is being deleted, and its pods save their state")
    except WorkFailed as error:
        if not isinstance(error, Rejected) or error.status != 404:
            progress.say("train", f"TrainJob {name} could not be deleted, and ends by itself: {error}")


def _find_or_create(cluster: Cluster, path: str, body: Object) -> Object:
    """The run's job: one that goes on, else a new one, once what is left of an old one is gone."""
    name, run_key = body["metadata"]["name"], body["metadata"]["annotations"][RUN_KEY]
    deadline, asked = time.monotonic() + CLEARING_SECONDS, ""
    while True:
        there = _find(cluster, path)
        if there is None:
            created = _create(cluster, path, body)
            if created is not None:
                trainer = body["spec"]["trainer"]
                progress.say("train", f"TrainJob {name}: {trainer['numNodes']} nodes of {trainer['image']}")
                return created
            continue  # another attempt was quicker
        if not _is_of(there, run_key):
            raise UserError(f"there is a TrainJob {name} that is not of run {run_key}: delete it, or rename it")
        uid = str(there["metadata"]["uid"])
        leaving = "deletionTimestamp" in there["metadata"]
        if not leaving and not finished(there):
            progress.say("train", f"following TrainJob {name}, which goes on already")
            return there
        if not leaving and asked != uid:
            progress.say("train", f"removing TrainJob {name}, which is {finished(there).lower()}, for a new one")
            cluster.delete(path, uid)
            asked = uid
        if time.monotonic() > deadline:
            raise WorkFailed(f"TrainJob {name} is not gone {CLEARING_SECONDS:g} s after it was deleted")
        time.sleep(POLL_SECONDS)


def _is_of(job: Object, run_key: str) -> bool:
    return bool(job["metadata"].get("annotations", {}).get(RUN_KEY) == run_key)


def _find(cluster: Cluster, path: str) -> Object | None:
    try:
        return cluster.get(path)
    except Rejected as error:
        if error.status == 404:
            return None
        raise


def _create(cluster: Cluster, path: str, body: Object) -> Object | None:
    """The new job; None where there is one of its name."""
    try:
        return cluster.create(path.rpartition("/")[0], body)
    except Rejected as error:
        if error.status == 409:
            return None
        raise


def _explained(error: Rejected, cluster: Cluster) -> UserError:
    if error.status in (401, 403):
        return UserError(
            f"this step's ServiceAccount may not work with TrainJobs in namespace {cluster.namespace} ({error}): give "
            "it the Role cps-trainjobs of manifests/base"
        )
    if error.status == 404:
        return UserError(f"this cluster has no TrainJobs ({error}): install Kubeflow Trainer, or set nodes to 1")
    return UserError(f"the cluster takes no such TrainJob: {error}")
