"""What is told when a pipeline has ended: a few lines for people, and the same as fields for programs."""

import os
from collections.abc import Callable
from contextlib import suppress
from typing import Any

from components import progress
from components.errors import UserError, WorkFailed
from components.labeled_ratio import labels_text
from components.notification.webhook import post
from components.step_guard import stopping
from components.storage import keys
from components.storage.client import MissingObject, Store, open_store
from components.storage.settings import object_link

ADDRESS_VARIABLE = "CPS_WEBHOOK_URL"
STEP = "finish"
LONGEST_FAILURE = 500
_OF_ANOTHER_VERSION = (KeyError, TypeError, ValueError)
"""What objects of the store may lead to whose form has changed."""
_ENDED = {"FINISHED": "finished", "FAILED": "failed", "KILLED": "was stopped"}


def tell_ending(job_id: str, status: str, failure: str, page: Callable[[Store, str], str]) -> None:
    """POST to CPS_WEBHOOK_URL, where that is set, how a job ended. Raises nothing.

    Once for each job; where the store is away and cannot remember it, once for each attempt of the exit handler.

    Args:
        status: FINISHED, FAILED or KILLED.
        failure: what failed, as far as it is known.
        page: the link to a run's page in MLflow; "" where there is none.
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
        told = _about_the_run(store, job_id, status, page)
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


_PLACES = (("Report", "report"), ("Weights", "weights"), ("MLflow", "mlflow"))


def _about_the_run(store: Store, job_id: str, status: str, page: Callable[[Store, str], str]) -> dict[str, Any]:
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
    if link := page(store, run_key):
        told["mlflow"] = link
    return told
