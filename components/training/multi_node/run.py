"""Train a run on several nodes, from a pipeline step that waits for them."""

import threading
import time

from components import progress
from components.errors import UserError, WorkFailed
from components.training.multi_node.follow import finished, follow
from components.training.multi_node.kubernetes_api import Cluster, Object, Rejected, this_cluster
from components.training.multi_node.pod_settings import Pods
from components.training.multi_node.trainjob import GROUP, RUN_KEY, VERSION, trainjob

CLEARING_SECONDS = 300.0
"""Time for the pods of a deleted job to save their state and exit."""
CANCEL_SECONDS = 5.0
"""Limit for each of two requests: a terminating pod has 30 s by default, and still has to release its lease."""
POLL_SECONDS = 1.0


def train_on_nodes(run_key: str, processes: int, nodes: int, pods: Pods, lost: threading.Event) -> None:
    """Train the run on `nodes` pods with `processes` each.

    If the run already has a running job, for example from an interrupted attempt, follow it instead of creating one.
    If the step is asked to stop, delete the job: its pods save their state.

    Args:
        lost: set when another process takes over the run; the job then belongs to that process.

    Raises:
        UserError, WorkFailed: the job cannot be created, or it failed.
    """
    cluster = this_cluster()
    body = trainjob(run_key, processes, nodes, pods)
    name = str(body["metadata"]["name"])
    path = cluster.path(f"apis/{GROUP}/{VERSION}", "trainjobs", name)
    try:
        job = _find_or_create(cluster, path, body)
        uid = str(job["metadata"]["uid"])
        failure = follow(cluster, name, uid, lost)
    except Rejected as error:
        raise _explained(error, cluster) from None
    except (SystemExit, KeyboardInterrupt):
        if not lost.is_set():
            _cancel(cluster, path, run_key)
        raise
    if failure is not None:
        _delete_failed(cluster, path, uid)
        raise failure


def _delete_failed(cluster: Cluster, path: str, uid: str) -> None:
    """Delete the job: once the JobSet of a failed TrainJob has expired, Kubeflow Trainer 2.3 makes it again."""
    name = path.rpartition("/")[2]
    try:
        cluster.delete(path, uid)
        progress.say("train", f"deleted TrainJob {name}, which failed")
    except WorkFailed as error:
        progress.say("train", f"delete TrainJob {name}, which failed, or it may start again: {error}")


def _cancel(cluster: Cluster, path: str, run_key: str) -> None:
    """Delete the run's job, even if its creation was interrupted before the answer arrived."""
    name = path.rpartition("/")[2]
    try:
        job = cluster.get(path, patience=CANCEL_SECONDS)
        if _is_of(job, run_key):
            cluster.delete(path, str(job["metadata"]["uid"]), patience=CANCEL_SECONDS)
            progress.say("train", f"stopping: deleting TrainJob {name}, whose pods save their state")
    except WorkFailed as error:
        if not isinstance(error, Rejected) or error.status != 404:
            progress.say("train", f"TrainJob {name} could not be deleted and will end by itself: {error}")


def _find_or_create(cluster: Cluster, path: str, body: Object) -> Object:
    """Return the run's running job, or create one after any finished or deleted job is gone."""
    name, run_key = body["metadata"]["name"], body["metadata"]["annotations"][RUN_KEY]
    deadline, deleted_uid = time.monotonic() + CLEARING_SECONDS, ""
    while True:
        job = _find(cluster, path)
        if job is None:
            created = _create(cluster, path, body)
            if created is not None:
                trainer = body["spec"]["trainer"]
                progress.say("train", f"TrainJob {name}: {trainer['numNodes']} nodes of {trainer['image']}")
                return created
            continue  # another attempt was faster
        if not _is_of(job, run_key):
            raise UserError(f"TrainJob {name} exists but does not belong to run {run_key}: delete or rename it")
        uid = str(job["metadata"]["uid"])
        deleting = "deletionTimestamp" in job["metadata"]
        if not deleting and not finished(job):
            progress.say("train", f"following TrainJob {name}, which is already running")
            return job
        if not deleting and deleted_uid != uid:
            progress.say("train", f"replacing TrainJob {name}, which is {finished(job).lower()}")
            cluster.delete(path, uid)
            deleted_uid = uid
        if time.monotonic() > deadline:
            raise WorkFailed(f"TrainJob {name} still exists {CLEARING_SECONDS:g} s after it was deleted")
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
    """Create the job and return it, or None if one of that name exists."""
    try:
        return cluster.create(path.rpartition("/")[0], body)
    except Rejected as error:
        if error.status == 409:
            return None
        raise


def _explained(error: Rejected, cluster: Cluster) -> UserError:
    if error.status in (401, 403):
        return UserError(
            f"this step's ServiceAccount has no access to TrainJobs in namespace {cluster.namespace} ({error}): give "
            "it the Role cps-trainjobs of manifests/base"
        )
    if error.status == 404:
        return UserError(f"this cluster has no TrainJobs ({error}): install Kubeflow Trainer, or set nodes to 1")
    return UserError(f"the cluster rejected the TrainJob: {error}")
