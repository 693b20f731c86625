"""The exit handler of the pipeline: the MLflow run is closed with its true status, and people who wait for it are told,
however the pipeline ended."""

import os
from contextlib import suppress
from typing import Any

from components import progress
from components.errors import UserError, WorkFailed
from components.labeled_ratio import labels_text
from components.runs.webhook import post
from components.step_guard import stopping
from components.storage import keys
from components.storage.client import MissingObject, Store, open_store
from components.storage.lease import Lease, LeaseHeld
from components.storage.settings import object_link
from components.tracking.client import Status, open_run
from components.tracking.delivery import deliver_spooled, delivered_through_store
from components.tracking.published import published_link
from components.tracking.server import TRACKING_VARIABLE

STEP = "finish"
ADDRESS_VARIABLE = "CPS_WEBHOOK_URL"
LONGEST_FAILURE = 500
_OF_ANOTHER_VERSION = (KeyError, TypeError, ValueError)
"""What objects of the store may lead to whose form has changed."""
_ENDED = {"FINISHED": "finished", "FAILED": "failed", "KILLED": "was stopped"}
_PLACES = (("Report", "report"), ("Weights", "weights"), ("MLflow", "mlflow"))


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
        notify(job_id, status, progress.first_failure() or failure)


def _close(job_id: str, status: Status) -> dict[str, Any]:
    store = open_store()
    job = store.find_json(keys.job(job_id))
    if job is None:
        return {}
    run_key = str(job["run_key"])
    left = {"run_key": run_key, "status": status}
    address = os.environ.get(TRACKING_VARIABLE, "")
    deliver_spooled(address)
    if not address or (status != "FINISHED" and _worked_on_by_another(store, run_key)):
        return left
    closed = {"address": address, "status": status, "trained": _trained(store, run_key)}
    if store.find_json(keys.run(run_key, "closed.json")) == closed:
        return left
    with delivered_through_store(store, run_key):
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


def notify(job_id: str, status: str, failure: str) -> None:
    """POST to CPS_WEBHOOK_URL, where that is set, how a job ended. Raises nothing.

    Once for each job; where the store is away and cannot remember it, once for each attempt of the exit handler.

    Args:
        status: FINISHED, FAILED or KILLED.
        failure: what failed, as far as it is known.
    """
    address = os.environ.get(ADDRESS_VARIABLE, "").strip()
    if not address:
        return
    store: Store | None = None
    told: dict[str, Any] = {}
    # A store that is away may be why the job failed: that is told, too, with what is known without it.
    with suppress(UserError, WorkFailed, *_OF_ANOTHER_VERSION):
        store = open_store()
        if store.stat(keys.job_told(job_id)) is not None:
            return
        told = _about_the_run(store, job_id, status)
    document = {"event": "cps.run.ended", "status": status, "job_id": job_id, **told}
    if status == "FAILED":
        document["failure"] = " ".join(failure.split())[:LONGEST_FAILURE]
    try:
        post(address, {"text": message(document), **document}, attempts=1 if stopping() else 2)
    except WorkFailed as error:
        progress.say(STEP, f"the webhook of {ADDRESS_VARIABLE} did not take the message: {error}")
        return
    if store is not None:
        with suppress(UserError, WorkFailed):
            store.put_json(keys.job_told(job_id), {"run_key": told.get("run_key", ""), "status": status})


def message(document: dict[str, Any]) -> str:
    """The text that Slack shows, and others that took over its form."""
    name = f"run {document['run_key']}" if "run_key" in document else f"job {document['job_id']}"
    lines = [f"CPS {name} {_ENDED[document['status']]}"]
    if document.get("best_mIoU") is not None:
        lines[0] += f": {100 * document['best_mIoU']:.1f} % mIoU"
        if document.get("best_mIoU_low") is not None:
            low, high = (100 * document[f"best_mIoU_{end}"] for end in ("low", "high"))
            lines[0] += f" (95 % interval {low:.1f} to {high:.1f} %)"
    if document.get("failure"):
        lines[0] += f": {document['failure']}"
    if "recipe" in document:
        labels = labels_text(document["ratio"])
        lines.append("{dataset}, {labels}, recipe {recipe}, seed {seed}".format(labels=labels, **document))
    lines += [f"{title}: {document[key]}" for title, key in _PLACES if document.get(key)]
    text = "\n".join(lines)
    # The three characters that mean something in Slack's text.
    return text.replace("&", "&amp;").replace("<", "&lt;").replace(">", "&gt;")


def _about_the_run(store: Store, job_id: str, status: str) -> dict[str, Any]:
    """What the run is, and what came of it; without a run, where the job failed before it had one."""
    try:
        run_key = str(store.get_json(keys.job(job_id))["run_key"])
        record = store.get_json(keys.run(run_key, "run.json"))
    except MissingObject:
        return {}
    told = {"run_key": run_key, "dataset": record["dataset"]["name"]}
    told |= {name: record[name] for name in ("recipe", "ratio", "seed")}
    if status == "FINISHED":
        result = store.get_json(keys.run(run_key, "result.json"))
        best = result["best"]
        told |= {f"best_{name}": best[name] for name in ("mIoU", "mIoU_low", "mIoU_high", "epoch", "variant")}
        told |= {name: object_link(uri) or uri for name in ("report", "weights") for uri in [result[name]["uri"]]}
    if link := published_link(store, run_key):
        told["mlflow"] = link
    return told
