"""The names of runs: a key, an unambiguous part of one, @last, @best or @champion; and their weights files."""

import os
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

from components.errors import UserError, nearest
from components.reading import expanded

if TYPE_CHECKING:
    from components.storage.client import Store

NAMES = ("@last", "@best", "@champion")


def find_run_key(name: str) -> str:
    """Return the key of the run that `name` stands for.

    Args:
        name: a run key, an unambiguous part of one, @last (started or resumed last), @best (the highest mIoU on the
            dataset of @last) or @champion (the best run of that dataset in MLflow's model registry).

    Raises:
        UserError: no run has this name or several do, or the services cannot be reached.
    """
    from components.runs import stored

    store = store_of_environment()
    return stored.find_run_key(store, run_named(store, name, tracking_of_environment))


def run_named(store: "Store", name: str, tracking: Callable[[], str]) -> str:
    """Return the key that @last, @best or @champion stands for, and any other name unchanged. Raises UserError.

    Args:
        tracking: returns MLflow's address; only called for @champion.
    """
    if not name.startswith("@"):
        return name
    if name not in NAMES:
        raise UserError(f"{name!r} is not one of {', '.join(NAMES)}{nearest(name, NAMES)}")
    from components.runs.stored import best_run_key, last_run_key

    if name == "@champion":
        return _champion(store, tracking)
    return last_run_key(store) if name == "@last" else best_run_key(store)


def _champion(store: "Store", tracking: Callable[[], str]) -> str:
    from components.runs.record import read_record
    from components.runs.stored import last_run_key
    from components.tracking.registry import champion_key

    dataset = read_record(store, last_run_key(store)).dataset
    found = champion_key(tracking(), dataset.name, dataset.digest)
    if not found:
        raise UserError(f"no run on dataset {dataset.name} is a champion yet: see `cps compare`, or name a run")
    return found


def weights_file(source: str, open_store: "Callable[[], Store]", tracking: Callable[[], str]) -> Path:
    """Return the weights file at `source`, or the best weights of the run with that name.

    A run's weights are downloaded once, to the state folder, and verified.

    Args:
        open_store, tracking: return the store and MLflow's address; only called for the name of a run.

    Raises:
        UserError: there is no such file or run, or the run has no weights.
    """
    path = Path(expanded(source))
    if os.path.lexists(path) and not path.is_dir():
        return path
    if path.suffix or "/" in source:
        why = "is a folder: give a file in it" if path.is_dir() else "does not exist"
        raise UserError(f"weights file {source!r} {why}")
    from components.disk import state_home, writing
    from components.files import file_sha256
    from components.runs.stored import find_weights

    store = open_store()
    found = find_weights(store, run_named(store, source, tracking))
    path = state_home() / "runs" / found.run_key / "best.safetensors"
    if found.sha256 and path.is_file() and file_sha256(path) == found.sha256:
        return path
    with writing(path, needed=found.size):
        return store.get_file(found.key, path, found.sha256 or None)


def store_of_environment() -> "Store":
    """Return the object store that the environment names. Raises UserError, which says how to name one."""
    from components.storage.client import open_store

    try:
        return open_store()
    except UserError as error:
        raise UserError(f"{error}; or use this machine's embedded store: call pipeline.api.connect() first") from None


def tracking_of_environment() -> str:
    """Return the MLflow address in the environment. Raises UserError if it is missing or invalid."""
    from components.tracking.address import TRACKING_VARIABLE, check_tracking_address

    check_tracking_address()
    address = os.environ.get(TRACKING_VARIABLE, "")
    if not address:
        raise UserError(
            f"MLflow is not configured: set {TRACKING_VARIABLE}; or use this machine's embedded MLflow: call "
            "pipeline.api.connect() first"
        )
    return address
