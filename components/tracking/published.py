"""Mark a result as published in this MLflow, so that running it again does not publish it again."""

import os
import re
from collections.abc import Mapping

from components.storage import keys
from components.storage.client import Store
from components.tracking.address import TRACKING_VARIABLE, runs_page, tracking_link


def published(store: Store, run_key: str, environ: Mapping[str, str] = os.environ) -> bool:
    """Return whether this result has been published in the MLflow that `environ` names, without asking the server.

    Also true if tracking is off, since there is nothing to publish then.
    """
    mark = _mark(store, run_key, environ)
    left = store.find_json(keys.run(run_key, "published.json")) or {}
    return not mark["address"] or {**left, **mark} == left


def mark_published(store: Store, run_key: str, page: str = "") -> None:
    """Mark the result as published, once all of it has been delivered; `page` is relative to MLflow's address."""
    store.put_json(keys.run(run_key, "published.json"), {**_mark(store, run_key, os.environ), "page": page})


def published_link(store: Store, run_key: str) -> str:
    """Return the web address of the run in MLflow, or an empty string if it is unknown."""
    left = store.find_json(keys.run(run_key, "published.json")) or {}
    return tracking_link(os.environ.get(TRACKING_VARIABLE, ""), str(left.get("page", "")))


def experiment_link(store: Store, run_key: str, address: str) -> str:
    """Return the web address of the runs of a run's experiment in MLflow at `address`, or `address` if unknown."""
    left = store.find_json(keys.run(run_key, "published.json")) or {}
    found = re.match(r"#/experiments/([^/]+)/runs", str(left.get("page", "")))
    return (found and tracking_link(address, runs_page(found[1]))) or address


def _mark(store: Store, run_key: str, environ: Mapping[str, str]) -> dict[str, str]:
    result = store.stat(keys.run(run_key, "result.json"))
    return {"address": environ.get(TRACKING_VARIABLE, ""), "result": result.sha256 if result else ""}
