"""`cps runs`, `cps gc`: list and delete runs and unreferenced objects."""

import json
import shutil
from collections.abc import Sequence
from contextlib import suppress
from datetime import timedelta
from itertools import groupby
from typing import TYPE_CHECKING

import click

from components.errors import UserError
from components.units import parse_duration, quantity, size_text
from pipeline.cli.commands.submit import check_succeeded, close_terminated, connected, followed
from pipeline.cli.names import run_argument, run_named
from pipeline.cli.options import CONNECTION, with_options

if TYPE_CHECKING:
    from pydantic import JsonValue

    from components.runs.garbage import Collection
    from components.runs.stored import StoredRun
    from components.storage.client import Store
    from pipeline.cluster.client import Server


@click.group()
def runs() -> None:
    """Manage the runs in the object store or on a KFP server.

    RUN is a run key, an unambiguous part of one, @last, @best or @champion.

    On a server (--cluster, `watch`, `terminate`), RUN is a run's name, its id or the beginning of the id.

    \b
    Examples:
      cps runs list
      cps runs show scenes-demo-1-8-s0
      cps runs delete scenes-demo-1-8-s0 --yes
      cps runs list --cluster
      cps runs watch 1b2c3d4e
    """


@runs.command("list")
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
@click.option("--cluster", is_flag=True, help="List the newest runs on the KFP server instead.")
@with_options(CONNECTION)
def list_runs(as_json: bool, cluster: bool, **connection: str) -> None:
    """List the runs with their state, mIoU and size in the object store.

    \b
    Examples:
      cps runs list
      cps runs list --cluster
    """
    if cluster:
        _list_on_server(connected(**connection), as_json=as_json)
        return
    from components.runs.stored import stored_runs

    store = _store_with_endings()
    found = stored_runs(store)
    if as_json:
        click.echo(json.dumps([run.as_dict() for run in found], indent=2))
    elif found:
        _print_runs(found)
    else:
        click.echo("no runs yet; start one with `cps run`", err=True)


@runs.command()
@run_argument
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
@click.option("--cluster", is_flag=True, help="Show a run on the KFP server, with its steps.")
@with_options(CONNECTION)
def show(run: str, as_json: bool, cluster: bool, **connection: str) -> None:
    """Show a run's recipe, dataset and seed, and what it has in the object store.

    With --json, every object is listed.

    \b
    Examples:
      cps runs show scenes-demo-1-8-s0
      cps runs show 1b2c3d4e --cluster
    """
    if cluster:
        _show_on_server(connected(**connection), run, as_json=as_json)
        return
    from components.runs.stored import find_record, find_run, run_objects

    store = _store_with_endings()
    found = find_run(store, run_named(store, run))
    record = find_record(store, found.run_key)
    objects = sorted(run_objects(store, found.run_key), key=lambda ref: ref.key)
    if as_json:
        shown: dict[str, JsonValue] = {**found.as_dict()}
        if record:
            shown |= {"recipe": record.recipe, "overrides": record.overrides, "seed": record.seed}
            shown |= {"dataset_digest": record.dataset.digest}
        shown["keys"] = [{"key": ref.key, "size": ref.size} for ref in objects]
        click.echo(json.dumps(shown, indent=2))
        return
    _print_runs([found])
    if record:
        changes = ", ".join(f"{name}={json.dumps(value)}" for name, value in record.overrides.items())
        click.echo(f"recipe     {record.recipe}{f' with {changes}' if changes else ''}")
        click.echo(f"seed       {record.seed}")
        click.echo(f"dataset    stored:{record.dataset.digest}")
    for place, group in groupby(objects, lambda ref: _place(ref.key)):
        sizes = [ref.size for ref in group]
        number = f" ({quantity(len(sizes), 'object')})" if place.endswith("/") else ""
        click.echo(f"{size_text(sum(sizes)):>10}  {place}{number}")


def _place(key: str) -> str:
    """Return an object's key, or the folder of the run that it is in: runs/RUN/checkpoints/."""
    run_folder = key.split("/", 3)
    return "/".join(run_folder[:3]) + ("/" if len(run_folder) > 3 else "")


@runs.command()
@run_argument
@click.option("--yes", is_flag=True, help="Delete without asking.")
def delete(run: str, yes: bool) -> None:
    """Delete a run with its checkpoints, scores, predictions and weights, and its logs and pages on this machine.

    Its dataset stays until `cps gc`; its record in MLflow stays. Fails if the run is in use.

    \b
    Example:
      cps runs delete scenes-demo-1-8-s0
    """
    from components.disk import state_home
    from components.runs.garbage import delete_run
    from components.runs.stored import find_run
    from pipeline.local.environment import open_store

    store = open_store()
    found = find_run(store, run_named(store, run))
    if not yes:
        click.confirm(
            f"delete {found.run_key} ({found.objects} objects, {size_text(found.size)})?", abort=True, err=True
        )
    freed = delete_run(store, found.run_key)
    with suppress(FileNotFoundError):  # a run of another machine
        shutil.rmtree(state_home() / "runs" / found.run_key)
    click.echo(f"deleted {found.run_key}: {size_text(freed)}")


@runs.command()
@click.argument("run")
@with_options(CONNECTION)
def watch(run: str, **connection: str) -> None:
    """Follow a run on the KFP server until it ends. Exit code 1 if it fails.

    \b
    Example:
      cps runs watch 1b2c3d4e
    """
    from pipeline.cluster.status import find_run

    server = connected(**connection)
    check_succeeded(server, followed(server, find_run(server, run).run_id))


@runs.command()
@click.argument("run")
@click.option("--yes", is_flag=True, help="Terminate without asking.")
@with_options(CONNECTION)
def terminate(run: str, yes: bool, **connection: str) -> None:
    """Stop a run on the KFP server. Submit the same run again to resume it from the state that it saved last.

    KFP skips the last step of such a run, which would close its MLflow run. If AWS_ENDPOINT_URL, its credentials and
    MLFLOW_TRACKING_URI point to the cluster's services, this command waits until the steps have ended, and marks the
    MLflow run as KILLED.

    \b
    Example:
      cps runs terminate 1b2c3d4e
    """
    from pipeline.cluster import status

    server = connected(**connection)
    found = status.find_run(server, run)
    if found.ended:
        raise UserError(f"run {found.name} ({found.run_id}) has ended: {found.state.lower()}")
    if not yes:
        click.confirm(f"terminate {found.name} ({found.run_id})?", abort=True, err=True)
    status.terminate(server, found.run_id)
    click.echo(f"terminating {found.name} ({found.run_id})")
    close_terminated(server, found.run_id)


def _store_with_endings() -> "Store":
    """Return the object store, after recording the runs whose processes were killed."""
    from components.disk import state_home
    from pipeline.local.environment import known_environment, open_store
    from pipeline.local.jobs import close_interrupted

    store = open_store()
    close_interrupted(state_home(), store, known_environment(state_home()))
    return store


def _list_on_server(server: "Server", *, as_json: bool) -> None:
    from pipeline.cluster import status
    from pipeline.cluster.display import run_lines

    found = status.list_runs(server)
    if as_json:
        click.echo(json.dumps([run.as_dict() for run in found], indent=2))
    elif found:
        click.echo("\n".join(run_lines(found)))
    else:
        click.echo("no runs yet; start one with `cps submit`", err=True)


def _show_on_server(server: "Server", run: str, *, as_json: bool) -> None:
    from pipeline.cluster import status
    from pipeline.cluster.display import run_lines, step_lines

    found = status.find_run(server, run)
    url = server.url(f"runs/details/{found.run_id}")
    if as_json:
        click.echo(json.dumps({**found.as_dict(), "url": url}, indent=2))
    else:
        click.echo("\n".join(filter(None, [*run_lines([found]), *step_lines(found), found.error, url])))


@click.command(short_help="List or delete objects that no run references.")
@click.option("--yes", is_flag=True, help="Delete the objects; without this, only list them.")
@click.option(
    "--grace", default="1d", show_default=True, help="Keep objects younger than this, such as 0s, 30m, 2h or 7d."
)
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
def gc(yes: bool, grace: str, as_json: bool) -> None:
    """List datasets, weights, recovery states and incomplete uploads that no run references; --yes deletes them.

    Objects that are in use are kept.

    \b
    Examples:
      cps gc
      cps gc --yes --grace 7d
    """
    from components.runs.garbage import collect, find_garbage
    from pipeline.local.environment import open_store

    store = open_store()
    found = find_garbage(store, parse_grace(grace))
    removed, left = collect(store, found) if yes else (0, ())
    if as_json:
        click.echo(_as_json(found, removed, left))
        return
    for part in found.garbage:
        click.echo(f"{size_text(part.size):>10}  {len(part.objects):>5}  {part.objects[0].key}  ({part.why})")
    for upload in found.uploads:
        click.echo(f"{'':>10}  {'':>5}  {upload.key}  (incomplete upload)")
    for line in (*found.kept, *left):
        click.echo(f"kept: {line}", err=True)
    if yes:
        click.echo(f"deleted {size_text(removed)}")
    elif found.garbage or found.uploads:
        click.echo(f"{size_text(found.size)} in total; `cps gc --yes` deletes it")
    else:
        click.echo("nothing to delete")


def parse_grace(text: str) -> timedelta:
    """Return a duration such as `0s`, `30m` or `7d`. Raises UserError."""
    duration = parse_duration(text)
    if duration is None:
        raise UserError(f"--grace {text!r} must be a time such as 0s, 30m, 2h or 7d")
    return duration


def _as_json(found: "Collection", removed: int, left: Sequence[str]) -> str:
    described = {
        "garbage": [
            {"why": part.why, "bytes": part.size, "keys": [ref.key for ref in part.objects]} for part in found.garbage
        ],
        "uploads": [upload.key for upload in found.uploads],
        "kept": list(found.kept),
        "bytes": found.size,
        "removed_bytes": removed,
        "left": list(left),
    }
    return json.dumps(described, indent=2)


def _print_runs(found: "list[StoredRun]") -> None:
    width = max(len(run.run_key) for run in found)
    click.echo(f"{'run':<{width}}  {'state':<12}{'mIoU':>7}  {'size':>9}  {'ratio':<6}{'created':<26}dataset")
    for run in found:
        miou = "-" if run.miou is None else f"{100 * run.miou:.1f} %"
        click.echo(
            f"{run.run_key:<{width}}  {run.state:<12}{miou:>7}  {size_text(run.size):>9}  {run.labeled_ratio:<6}"
            f"{run.created:<26}{run.dataset}"
        )
