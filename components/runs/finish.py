"""The exit handler of the pipeline: the MLflow run is closed with its true status, and people who wait for it are told,
however the pipeline ended.
"""

import json
import os
from contextlib import suppress

from components import progress
from components.contract import Frozen
from components.errors import UserError, WorkFailed
from components.labeled_ratio import labels_text
from components.runs.record import find_job, read_record
from components.runs.result import read_result
from components.runs.webhook import post
from components.step_guard import stopping
from components.storage import keys
from components.storage.client import MissingObject, Store, open_store
from components.storage.lease import Holder, Lease, LeaseHeld
from components.storage.settings import object_link
from components.tracking.client import Status, open_run
from components.tracking.delivery import deliver_spooled, delivered_through_store
from components.tracking.published import published_link
from components.tracking.server import TRACKING_VARIABLE

STEP = "finish"
ADDRESS_VARIABLE = "CPS_WEBHOOK_URL"
LONGEST_FAILURE = 500
_ENDED = {"FINISHED": "finished", "FAILED": "failed", "KILLED": "was stopped"}
_PLACES = (("Report", "report"), ("Weights", "weights"), ("MLflow", "mlflow"))


class RunEnding(Frozen):
    """What the webhook is sent; fields without a value are left out."""

    event: str = "cps.run.ended"
    status: str = ""
    """FINISHED, FAILED or KILLED."""
    job_id: str = ""
    run_key: str | None = None
    dataset: str | None = None
    recipe: str | None = None
    labeled_ratio: str | None = None
    seed: int | None = None
    best_mIoU: float | None = None  # noqa: N815 - the field's word
    best_mIoU_low: float | None = None  # noqa: N815
    best_mIoU_high: float | None = None  # noqa: N815
    best_epoch: int | None = None
    best_variant: str | None = None
    report: str | None = None
    weights: str | None = None
    mlflow: str | None = None
    failure: str | None = None


def finish_job(job_id: str, state: str, failure: str = "") -> dict[str, str]:
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


def _close(job_id: str, status: Status) -> dict[str, str]:
    store = open_store()
    job = find_job(store, job_id)
    if job is None:
        return {}
    run_key = job.run_key
    left: dict[str, str] = {"run_key": run_key, "status": status}
    address = os.environ.get(TRACKING_VARIABLE, "")
    deliver_spooled(address)
    if not address or (status != "FINISHED" and _worked_on_by_another(store, run_key)):
        return left
    closed = {"address": address, "status": status, "trained": _trained(store, run_key)}
    if store.find_json(keys.run(run_key, "closed.json")) == closed:
        return left
    with delivered_through_store(store, run_key):
        tracker = open_run(run_key, job.dataset, {})
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
        with Lease(store, keys.run(run_key, "lease.json"), Holder(run=run_key, doing="closing")):
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
    told = RunEnding()
    # A store that is away may be why the job failed: that is told, too, with what is known without it.
    with suppress(UserError, WorkFailed):
        store = open_store()
        if store.stat(keys.job_told(job_id)) is not None:
            return
        told = _about_the_run(store, job_id, status)
    reason = " ".join(failure.split())[:LONGEST_FAILURE] if status == "FAILED" else None
    told = told.model_copy(update={"status": status, "job_id": job_id, "failure": reason})
    document = told.model_dump(mode="json", exclude_none=True)
    if told.labeled_ratio:
        document["ratio"] = told.labeled_ratio  # its name in 0.1: until 0.3
    try:
        post(address, json.dumps({"text": message(told), **document}).encode(), attempts=1 if stopping() else 2)
    except WorkFailed as error:
        progress.say(STEP, f"the webhook of {ADDRESS_VARIABLE} did not take the message: {error}")
        return
    if store is not None:
        with suppress(UserError, WorkFailed):
            store.put_json(keys.job_told(job_id), {"run_key": told.run_key or "", "status": status})


def message(told: RunEnding) -> str:
    """Return the text that Slack and those that took over its format show."""
    lines = [f"CPS {f'run {told.run_key}' if told.run_key else f'job {told.job_id}'} {_ENDED[told.status]}"]
    if told.best_mIoU is not None:
        lines[0] += f": {100 * told.best_mIoU:.1f} % mIoU"
        if told.best_mIoU_low is not None and told.best_mIoU_high is not None:
            lines[0] += f" (95 % interval {100 * told.best_mIoU_low:.1f} to {100 * told.best_mIoU_high:.1f} %)"
    if told.failure:
        lines[0] += f": {told.failure}"
    if told.labeled_ratio:
        lines.append(f"{told.dataset}, {labels_text(told.labeled_ratio)}, recipe {told.recipe}, seed {told.seed}")
    lines += [f"{title}: {place}" for title, key in _PLACES if (place := getattr(told, key))]
    text = "\n".join(lines)
    # The three characters that mean something in Slack's text.
    return text.replace("&", "&amp;").replace("<", "&lt;").replace(">", "&gt;")


def _about_the_run(store: Store, job_id: str, status: str) -> RunEnding:
    """Return what is known of the run; nothing, where the job failed before it had one."""
    try:
        job = find_job(store, job_id)
        record = None if job is None else read_record(store, job.run_key)
    except MissingObject:
        record = None
    if record is None:
        return RunEnding()
    told = RunEnding(
        run_key=record.run_key,
        dataset=record.dataset.name,
        recipe=record.recipe,
        labeled_ratio=record.labeled_ratio,
        seed=record.seed,
        mlflow=published_link(store, record.run_key) or None,
    )
    if status != "FINISHED":
        return told
    result = read_result(store, record.run_key)
    best = result.best
    found = {f"best_{name}": getattr(best, name) for name in ("mIoU", "mIoU_low", "mIoU_high", "epoch", "variant")}
    places = {"report": result.report.uri, "weights": result.weights.uri}
    return told.model_copy(update={**found, **{name: object_link(uri) or uri for name, uri in places.items()}})
