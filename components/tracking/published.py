"""The mark that a result is in this MLflow, so that a second run of the same need not ask."""

import os

from components.storage import keys
from components.storage.client import Store
from components.tracking.server import TRACKING_VARIABLE, tracking_link


def published(store: Store, run_key: str) -> bool:
    """Whether this result is in this MLflow already, so that a second run of the same need not ask MLflow.

    Also true where tracking is off: then there is nothing to do.
    """
    mark = _mark(store, run_key)
    left = store.find_json(keys.run(run_key, "published.json")) or {}
    return not mark["address"] or {**left, **mark} == left


def mark_published(store: Store, run_key: str, page: str = "") -> None:
    """To be called when all of the result has been delivered; `page` is the run's, below MLflow's address."""
    store.put_json(keys.run(run_key, "published.json"), {**_mark(store, run_key), "page": page})


def published_link(store: Store, run_key: str) -> str:
    """Where a person sees the run in MLflow; empty where it is not known."""
    left = store.find_json(keys.run(run_key, "published.json")) or {}
    return tracking_link(os.environ.get(TRACKING_VARIABLE, ""), str(left.get("page", "")))


def _mark(store: Store, run_key: str) -> dict[str, str]:
    result = store.stat(keys.run(run_key, "result.json"))
    return {"address": os.environ.get(TRACKING_VARIABLE, ""), "result": result.sha256 if result else ""}
