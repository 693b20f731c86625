"""The exit handler of the pipeline: the MLflow run is closed with its true status, and people who wait for it are told,
however the pipeline ended."""

import os
from typing import Any

from components import progress
from components.notification.ending import tell_ending
from components.step_guard import stopping
from components.storage import keys
from components.storage.client import Store, open_store
from components.storage.lease import Lease, LeaseHeld
from components.tracking.client import Status, open_run
from components.tracking.delivery import carried, deliver_waiting
from components.tracking.published import _json_or_none, published_link
from components.tracking.server import TRACKING_VARIABLE

STEP = "finish"


def finish_job(job_id: str, state: str, failure: str = "") -> dict[str, Any]:
    """Close the MLflow run of the run that a KFP job worked on, and tell the webhook, where there is one.

    `state` is the pipeline's final state in KFP's words (SUCCEEDED, FAILED, CANCELLED), `failure` what it says of an
    error. A job that failed before it knew its run has nothing to close; a run that was closed before in the same way
    is left as it is.

    Returns:
        run_key and status, as far as there are any.
    """
    status = _status(state)
    try:
        return _close(job_id, status)
    finally:
        tell_ending(job_id, status, progress.first_failure() or failure, published_link)


def _close(job_id: str, status: Status) -> dict[str, Any]:
    store = open_store()
    job = _json_or_none(store, keys.job(job_id))
    if job is None:
        return {}
    run_key = str(job["run_key"])
    left = {"run_key": run_key, "status": status}
    address = os.environ.get(TRACKING_VARIABLE, "")
    deliver_waiting(address)
    if not address or (status != "FINISHED" and _worked_on_by_another(store, run_key)):
        return left
    closed = {"address": address, "status": status, "trained": _trained(store, run_key)}
    if _json_or_none(store, keys.run(run_key, "closed.json")) == closed:
        return left
    with carried(store, run_key):
        tracker = open_run(run_key, str(job["dataset"]), {})
        if tracker.finish(status):
            store.put_json(keys.run(run_key, "closed.json"), closed)
            progress.say(STEP, f"MLflow: {tracker.url or address}")
    return left


def _trained(store: Store, run_key: str) -> str:
    """When training was last complete: a run that was trained again has been opened again, too."""
    index = store.stat(keys.checkpoint_index(run_key))
    return index.modified.isoformat() if index else ""


def _status(state: str) -> Status:
    if stopping() or state.upper() in ("CANCELLED", "CANCELED", "CANCELING"):
        return "KILLED"
    return "FINISHED" if state.upper() in ("SUCCEEDED", "COMPLETE", "COMPLETED") else "FAILED"


def _worked_on_by_another(store: Store, run_key: str) -> bool:
    """Whether the training is going on elsewhere: this job's failure then is not the run's."""
    try:
        with Lease(store, keys.run(run_key, "lease.json"), {"run": run_key, "doing": "closing"}):
            return False
    except LeaseHeld:
        return True
