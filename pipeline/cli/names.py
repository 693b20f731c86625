"""The names of runs on the command line: a key, a part of one, @last, @best or @champion; and their completion."""

from typing import TYPE_CHECKING

import click
from click.shell_completion import CompletionItem

from components.api import naming
from components.errors import UserError, WorkFailed

if TYPE_CHECKING:
    from components.storage.client import Store


def run_named(store: "Store", name: str) -> str:
    """Return the key that @last, @best or @champion stands for, and any other name unchanged. Raises UserError."""
    return naming.run_named(store, name, tracking_address)


def tracking_address() -> str:
    """Return the address of MLflow: the environment's, or that of the embedded server, which is started."""
    from pipeline.local.environment import tracking_environment

    return tracking_environment()["MLFLOW_TRACKING_URI"]


def complete_run(_context: click.Context, _parameter: click.Parameter, incomplete: str) -> list[CompletionItem]:
    """Complete the names of runs in the store, if it is running."""
    if incomplete.startswith("@"):
        return [CompletionItem(name) for name in naming.NAMES if name.startswith(incomplete)]
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
