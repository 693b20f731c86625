"""The exit handler of the pipeline: the MLflow run is closed with its true status, and people who wait for it are told,
however the pipeline ended."""

import os
from typing import Any

from components import progress
from components.notification.ending import tell_ending
from components.public import tracking_link
from components.running import stopping
from components.storage import keys
from components.storage.client import MissingObject, Store, open_store
from components.storage.lease import Lease, LeaseHeld
from components.tracking.carried import carried
from components.tracking.client import TRACKING_VARIABLE, Status, open_run
from components.tracking.delivery import deliver_waiting

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


def published(store: Store, run_key: str) -> bool:
    """Whether this result is in this MLflow already, so that a second run of the same need not ask MLflow.

    Also true where tracking is off: then there is nothing to do.
    """
    mark = _mark(store, run_key)
    left = _json_or_none(store, keys.run(run_key, "published.json")) or {}
    return not mark["address"] or {**left, **mark} == left


def mark_published(store: Store, run_key: str, page: str = "") -> None:
    """To be called when all of the result has been delivered; `page` is the run's, below MLflow's address."""
    store.put_json(keys.run(run_key, "published.json"), {**_mark(store, run_key), "page": page})


def published_link(store: Store, run_key: str) -> str:
    """Where a person sees the run in MLflow; empty where it is not known."""
    left = _json_or_none(store, keys.run(run_key, "published.json")) or {}
    return tracking_link(os.environ.get(TRACKING_VARIABLE, ""), str(left.get("page", "")))


def _mark(store: Store, run_key: str) -> dict[str, str]:
    result = store.stat(keys.run(run_key, "result.json"))
    return {"address": os.environ.get(TRACKING_VARIABLE, ""), "result": result.sha256 if result else ""}


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


def _json_or_none(store: Store, key: str) -> Any:
    try:
        return store.get_json(key)
    except MissingObject:
        return None
