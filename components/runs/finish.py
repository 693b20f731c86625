"""The pipeline's exit handler: close the MLflow run with its final status and notify the webhook, however it ended."""

import json
import os
from collections.abc import Mapping
from contextlib import suppress

from components import progress
from components.contract import Frozen
from components.errors import UserError, WorkFailed
from components.labeled_ratio import labels_text
from components.runs.record import JobRecord, find_job, read_record
from components.runs.result import read_result
from components.runs.webhook import post
from components.step_guard import stopping
from components.storage import keys
from components.storage.client import MissingObject, Store, open_store, reopen_store
from components.storage.lease import held_by, living_holder
from components.storage.settings import object_link
from components.tracking.address import TRACKING_VARIABLE
from components.tracking.client import Status, open_run, spool_interruption
from components.tracking.delivery import deliver_spooled, delivered_through_store
from components.tracking.published import published_link

STEP = "finish"
ADDRESS_VARIABLE = "CPS_WEBHOOK_URL"
LONGEST_FAILURE = 500
_ENDED = {"FINISHED": "finished", "FAILED": "failed", "KILLED": "was stopped"}
_FINAL: dict[str, Status] = {
    **dict.fromkeys(("SUCCEEDED", "COMPLETE", "COMPLETED", "CACHED"), "FINISHED"),
    **dict.fromkeys(("CANCELLED", "CANCELED", "CANCELING"), "KILLED"),
    "FAILED": "FAILED",
}
"""By state: those of KFP's API, and those of its metadata store, which the exit handler gets on a cluster."""
_PLACES = (("Report", "report"), ("Weights", "weights"), ("MLflow", "mlflow"))


class RunEnding(Frozen):
    """The webhook's payload; fields without a value are omitted."""

    event: str = "cps.run.ended"
    status: str = ""
    """FINISHED, FAILED or KILLED."""
    job_id: str = ""
    run_key: str | None = None
    dataset: str | None = None
    recipe: str | None = None
    labeled_ratio: str | None = None
    seed: int | None = None
    best_mIoU: float | None = None  # noqa: N815 - the field's usual spelling
    best_mIoU_low: float | None = None  # noqa: N815
    best_mIoU_high: float | None = None  # noqa: N815
    best_epoch: int | None = None
    best_variant: str | None = None
    report: str | None = None
    weights: str | None = None
    mlflow: str | None = None
    failure: str | None = None


def finish_job(job_id: str, state: str, failure: str = "") -> dict[str, str]:
    """Close the MLflow run that a KFP job worked on, and notify the webhook if one is set.

    A job that failed before its run was known has nothing to close. A run that is already closed with this status is
    left as it is.

    Args:
        state: the pipeline's state in KFP's terms (SUCCEEDED, FAILED, CANCELLED). If it is not final (KFP 2.15 and
            2.16 say RUNNING after a success), the run's result in the store decides.
        failure: KFP's error message, if any.

    Returns:
        run_key and status, or {} if the job has no run.
    """
    final = _final_status(state)
    status: Status = final or "FAILED"
    try:
        # A pipeline that failed may have found no store; there is no use in waiting for it again.
        store = open_store() if final in ("FAILED", "KILLED") else reopen_store()
        job = find_job(store, job_id)
        if job is None:
            return {}
        if final is None and store.stat(keys.run(job.run_key, "result.json")) is not None:
            status = "FINISHED"
        return _close(store, job, status)
    finally:
        notify(job_id, status, progress.first_failure() or failure)


def close_interrupted_run(store: Store, run_key: str, dataset: str, began: float, environ: Mapping[str, str]) -> bool:
    """Record that a run's processes were killed, unless its exit handler has closed it after all.

    The status reaches MLflow through a spool, because MLflow may be starting or unreachable.

    Args:
        began: when the killed process began with the run, in seconds since 1970.
        environ: names MLflow.

    Returns:
        False while another process works on the run, which then closes it itself.
    """
    if held_by(store, keys.run(run_key, "lease.json")) is not None:
        return False
    record, closed = keys.run(run_key, "closed.json"), None
    if store.stat(keys.run(run_key, "run.json")) is None:
        return True  # deleted since
    if found := store.stat(record):
        closed = store.find_json(record)
        if found.modified.timestamp() >= began or closed.get("status") == "FINISHED":
            return True
    address = environ.get(TRACKING_VARIABLE, "")
    if address:
        spool_interruption(address, run_key, dataset, environ)
    store.put_json(record, _closed(store, run_key, address, "KILLED"))
    return True


def _close(store: Store, job: JobRecord, status: Status) -> dict[str, str]:
    run_key = job.run_key
    outcome: dict[str, str] = {"run_key": run_key, "status": status}
    address = os.environ.get(TRACKING_VARIABLE, "")
    deliver_spooled(address)
    if not address or (status != "FINISHED" and _worked_on_by_another(store, run_key)):
        return outcome
    # A run that is interrupted a second time was reopened in between, which the record does not show.
    if status == "FINISHED" and is_finished(store, run_key, address):
        return outcome
    with delivered_through_store(store, run_key):
        tracker = open_run(run_key, job.dataset, {})
        if tracker.finish(status):
            store.put_json(keys.run(run_key, "closed.json"), _closed(store, run_key, address, status))
            progress.say(STEP, f"MLflow: {tracker.url or address}")
    return outcome


def is_finished(store: Store, run_key: str, address: str) -> bool:
    """Return whether the run is closed as FINISHED in the MLflow at `address`, and was not trained again since."""
    return bool(store.find_json(keys.run(run_key, "closed.json")) == _closed(store, run_key, address, "FINISHED"))


def _closed(store: Store, run_key: str, address: str, status: Status) -> dict[str, str]:
    """Return the record that the run is closed. Training it again, which reopens it in MLflow, changes `trained`."""
    index = store.stat(keys.checkpoint_index(run_key))
    return {"address": address, "status": status, "trained": index.modified.isoformat() if index else ""}


def _final_status(state: str) -> Status | None:
    """Return the status that KFP's state stands for, or None if it is no final state."""
    if stopping():
        return "KILLED"
    return _FINAL.get(state.upper())


def _worked_on_by_another(store: Store, run_key: str) -> bool:
    """Return whether another job is still training the run; if so, this job's failure is not the run's."""
    holder = held_by if stopping() else living_holder  # a job that is being stopped has no time to wait
    return holder(store, keys.run(run_key, "lease.json")) is not None


def notify(job_id: str, status: str, failure: str) -> None:
    """Post a job's final status to CPS_WEBHOOK_URL, if set. Never raises.

    Each job posts one notification. While the store is unreachable this cannot be recorded, so every attempt of the
    exit handler posts one.

    Args:
        status: FINISHED, FAILED or KILLED.
        failure: the reason, if known.
    """
    address = os.environ.get(ADDRESS_VARIABLE, "").strip()
    if not address:
        return
    store: Store | None = None
    ending = RunEnding()
    # The job may have failed because the store is unreachable; notify anyway, without the run's details.
    with suppress(UserError, WorkFailed):
        store = open_store()
        if store.stat(keys.job_notified(job_id)) is not None:
            return
        ending = _describe_run(store, job_id, status)
    reason = " ".join(failure.split())[:LONGEST_FAILURE] if status == "FAILED" else None
    ending = ending.model_copy(update={"status": status, "job_id": job_id, "failure": reason})
    document = ending.model_dump(mode="json", exclude_none=True)
    if ending.labeled_ratio:
        document["ratio"] = ending.labeled_ratio  # the field's name in 0.1, sent until 0.3
    try:
        post(address, json.dumps({"text": message(ending), **document}).encode(), attempts=1 if stopping() else 2)
    except WorkFailed as error:
        progress.say(STEP, f"the webhook in {ADDRESS_VARIABLE} was not notified: {error}")
        return
    if store is not None:
        with suppress(UserError, WorkFailed):
            store.put_json(keys.job_notified(job_id), {"run_key": ending.run_key or "", "status": status})


def message(ending: RunEnding) -> str:
    """Return the text that Slack and compatible services display."""
    lines = [f"CPS {f'run {ending.run_key}' if ending.run_key else f'job {ending.job_id}'} {_ENDED[ending.status]}"]
    if ending.best_mIoU is not None:
        lines[0] += f": {100 * ending.best_mIoU:.1f} % mIoU"
        if ending.best_mIoU_low is not None and ending.best_mIoU_high is not None:
            lines[0] += f" (95 % interval {100 * ending.best_mIoU_low:.1f} to {100 * ending.best_mIoU_high:.1f} %)"
    if ending.failure:
        lines[0] += f": {ending.failure}"
    if ending.labeled_ratio:
        lines.append(
            f"{ending.dataset}, {labels_text(ending.labeled_ratio)}, recipe {ending.recipe}, seed {ending.seed}"
        )
    lines += [f"{title}: {place}" for title, key in _PLACES if (place := getattr(ending, key))]
    text = "\n".join(lines)
    # Slack's text format requires exactly these three characters to be escaped.
    return text.replace("&", "&amp;").replace("<", "&lt;").replace(">", "&gt;")


def _describe_run(store: Store, job_id: str, status: str) -> RunEnding:
    """Return what is known about the run; an empty RunEnding if the job failed before it had one."""
    try:
        job = find_job(store, job_id)
        record = None if job is None else read_record(store, job.run_key)
    except MissingObject:
        record = None
    if record is None:
        return RunEnding()
    ending = RunEnding(
        run_key=record.run_key,
        dataset=record.dataset.name,
        recipe=record.recipe,
        labeled_ratio=record.labeled_ratio,
        seed=record.seed,
        mlflow=published_link(store, record.run_key) or None,
    )
    if status != "FINISHED":
        return ending
    result = read_result(store, record.run_key)
    best = result.best
    found = {f"best_{name}": getattr(best, name) for name in ("mIoU", "mIoU_low", "mIoU_high", "epoch", "variant")}
    places = {"report": result.report.uri, "weights": result.weights.uri}
    return ending.model_copy(update={**found, **{name: object_link(uri) or uri for name, uri in places.items()}})
