"""The names of runs on the command line: a key, a part of one, @last, @best or @champion; and their completion."""

from collections.abc import Callable
from typing import TYPE_CHECKING

import click
from click.shell_completion import CompletionItem

from components.errors import UserError, WorkFailed, nearest

if TYPE_CHECKING:
    from components.storage.client import Store


def run_named(store: "Store", name: str) -> str:
    """Return the key that @last, @best or @champion stands for, and any other name unchanged. Raises UserError.

    @last is the run that was started or resumed last. @best is the run with the highest mIoU on its dataset, and
    @champion the one that MLflow's model registry has as the best of its dataset.
    """
    if not name.startswith("@"):
        return name
    find = _NAMED.get(name)
    if find is None:
        raise UserError(f"{name!r} is not one of {', '.join(_NAMED)}{nearest(name, _NAMED)}")
    return find(store)


def _last(store: "Store") -> str:
    from components.runs.stored import last_run_key

    return last_run_key(store)


def _best(store: "Store") -> str:
    from components.runs.stored import best_run_key

    return best_run_key(store)


def _champion(store: "Store") -> str:
    from components.runs.record import read_record
    from components.runs.stored import last_run_key
    from components.tracking.registry import champion_key
    from pipeline.local.environment import tracking_environment

    dataset = read_record(store, last_run_key(store)).dataset
    address = tracking_environment()["MLFLOW_TRACKING_URI"]
    found = champion_key(address, dataset.name, dataset.digest)
    if not found:
        raise UserError(f"no run on dataset {dataset.name} is a champion yet: see `cps compare`, or name a run")
    return found


_NAMED: dict[str, Callable[["Store"], str]] = {"@last": _last, "@best": _best, "@champion": _champion}


def complete_run(_context: click.Context, _parameter: click.Parameter, incomplete: str) -> list[CompletionItem]:
    """Complete the names of runs in the store, if it is running."""
    if incomplete.startswith("@"):
        return [CompletionItem(name) for name in _NAMED if name.startswith(incomplete)]
    return [CompletionItem(key) for key in _stored_keys() if key.startswith(incomplete)]


def complete_run_or_file(context: click.Context, parameter: click.Parameter, incomplete: str) -> list[CompletionItem]:
    """Complete the names of runs; if none match, files."""
    return complete_run(context, parameter, incomplete) or [CompletionItem(incomplete, type="file")]


def _stored_keys() -> list[str]:
    from pipeline.local.environment import running_store

    try:
        store = running_store()
        return [] if store is None else store.folders("runs/")
    except (UserError, WorkFailed, OSError):
        return []  # a shell has no place for an error


run_argument = click.argument("run", shell_complete=complete_run)
