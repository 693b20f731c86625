"""`cps open` and `cps logs`: look at a run's pages and at what its steps print."""

import os
import re
import sys
import time
import webbrowser
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import click
from click.shell_completion import CompletionItem

from components.errors import UserError, nearest
from components.storage import keys
from pipeline.cli.names import complete_run, run_argument, run_named
from pipeline.local.environment import open_store
from pipeline.parameters import STEPS

if TYPE_CHECKING:
    from components.storage.client import Store

PAGES = ("report", "gallery", "mlflow", "check")
_POLL_SECONDS = 0.5


def _complete_page(context: click.Context, parameter: click.Parameter, incomplete: str) -> list[CompletionItem]:
    pages = [CompletionItem(page) for page in PAGES if page.startswith(incomplete)]
    return pages + complete_run(context, parameter, incomplete)


@click.command("open", short_help="Open a run's report, gallery or MLflow page.")
@click.argument("what", nargs=-1, metavar="[RUN] [report|gallery|mlflow|check]", shell_complete=_complete_page)
def open_(what: tuple[str, ...]) -> None:
    """Open a page of a run in the browser, and print its address. Without a display, only print it.

    RUN is a run key, an unambiguous part of one, @last (the default), @best or @champion. The report and the gallery
    are downloaded from the object store; mlflow is the run's page in MLflow; check examines the run's dataset again,
    the original if it is still on this machine, otherwise the copy in the object store.

    \b
    Examples:
      cps open
      cps open gallery
      cps open @best mlflow
    """
    run, page = _run_and_page(what)
    address = _PAGES[page](run)
    click.echo(address)
    if _has_display():
        webbrowser.open(address if "://" in address else Path(address).as_uri())


def _run_and_page(what: tuple[str, ...]) -> tuple[str, str]:
    pages = [word for word in what if word in PAGES]
    runs = [word for word in what if word not in PAGES]
    if len(pages) > 1 or len(runs) > 1:
        wrong = runs[-1] if len(runs) > 1 else pages[-1]
        meant = nearest(wrong, PAGES)
        raise UserError(f"open takes one run and one of {', '.join(PAGES)}; {wrong!r} is too much{meant}")
    return (runs or ["@last"])[0], (pages or ["report"])[0]


def _has_display() -> bool:
    return bool(
        sys.platform == "darwin"
        or {"DISPLAY", "WAYLAND_DISPLAY", "BROWSER"} & {name for name, value in os.environ.items() if value}
    )


def _found(run: str) -> "tuple[Store, str]":
    from components.runs.stored import find_run_key

    store = open_store()
    return store, find_run_key(store, run_named(store, run))


def _report(run: str) -> str:
    store, key = _found(run)
    return _downloaded(store, key, keys.run(key, "report.html"), "report")


def _gallery(run: str) -> str:
    store, key = _found(run)
    pages = [ref for ref in store.list(keys.run(key, "predictions/")) if ref.key.endswith("/gallery.html")]
    newest = max(pages, key=lambda ref: ref.modified, default=None)
    return _downloaded(store, key, newest.key if newest else "", "gallery")


def _downloaded(store: "Store", run_key: str, key: str, name: str) -> str:
    from components.disk import state_home

    if not key or store.stat(key) is None:
        raise UserError(f"run {run_key} has no {name} yet: `cps run --resume {run_key}` finishes it")
    return str(store.get_file(key, state_home() / "runs" / run_key / f"{name}.html"))


def _mlflow(run: str) -> str:
    from components.tracking.compare import run_address
    from pipeline.local.environment import tracking_environment

    _, key = _found(run)
    address = run_address(tracking_environment()["MLFLOW_TRACKING_URI"], key)
    if not address:
        raise UserError(f"MLflow has no run {key}: `cps run --resume {key}` logs it")
    return address


def _check(run: str) -> str:
    from components.disk import state_home
    from components.runs.record import read_record
    from pipeline.cli.commands.dataset import write_check_page, write_stored_check_page
    from pipeline.local.jobs import source_of

    store, key = _found(run)
    source = source_of(state_home(), key)
    page = state_home() / "runs" / key / "check.html"
    if source and _is_here(source):
        write_check_page(source, page)
    else:
        write_stored_check_page(store, read_record(store, key).dataset.digest, page)
    return str(page)


def _is_here(source: str) -> bool:
    """Return whether all parts of a dataset are files or folders of this machine that still exist."""
    from components.dataset.sources.address import parse_sources

    return all(os.path.exists(part.text) for part in parse_sources(source))


_PAGES = {"report": _report, "gallery": _gallery, "mlflow": _mlflow, "check": _check}


@click.command(short_help="Print what a run's steps have logged on this machine.")
@run_argument
@click.argument("step", required=False)
@click.option("-f", "--follow", is_flag=True, help="Keep printing until the run ends.")
def logs(run: str, step: str | None, follow: bool) -> None:
    """Print the newest log of a run that was started in this state folder, of all its steps or of one.

    RUN is a run key, an unambiguous part of one, @last, @best or @champion.

    \b
    Examples:
      cps logs @last
      cps logs scenes-demo-1-8-s0 train -f
    """
    from components.disk import state_home
    from pipeline.local.jobs import is_running, log_of

    if step is not None and step not in STEPS:
        raise UserError(f"{step!r} is not a step{nearest(step, STEPS)}; the steps are {', '.join(STEPS)}")
    _, key = _found(run)
    path = log_of(state_home(), key)
    if path is None:
        raise UserError(
            f"no log of run {key} in {state_home() / 'logs'}: run `cps logs` where the run was started, or set CPS_HOME"
        )
    for line in _of_step(_lines(path, lambda: follow and is_running(state_home(), key)), step):
        click.echo(line, nl=False)


def _lines(path: Path, goes_on: Callable[[], bool]) -> Iterator[str]:
    """Yield the file's lines, and those that are added while `goes_on` returns True."""
    with path.open(errors="replace") as file:
        while True:
            running = goes_on()  # before the last look, so that no line is missed
            yield from file
            if not running:
                return
            time.sleep(_POLL_SECONDS)


_TASK = re.compile(r"Executing task (?:\x1b\[\d+m)?'([^']+)'")
_OWN_LINE = re.compile(r"\[([a-z-]+)\] ")


def _of_step(lines: Iterator[str], step: str | None) -> Iterator[str]:
    """Yield the lines of one step: those that KFP streams while it runs, and those that the step reports itself."""
    current = ""
    for line in lines:
        if task := _TASK.search(line):
            current = task[1]
        own = _OWN_LINE.match(line)
        if step is None or (own[1] if own else current) == step:
            yield line
