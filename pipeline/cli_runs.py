"""`cps runs`, `cps gc`: what the object store holds, and what of it may go."""

import json
from datetime import timedelta
from typing import TYPE_CHECKING

import click

if TYPE_CHECKING:
    from pipeline.retention import Collection, StoredRun


@click.group()
def runs() -> None:
    """The runs in the object store. RUN is a run key, or enough of it to be the only one.

    \b
    Examples:
      cps runs list
      cps runs show demo-1-8-s0
      cps runs delete demo-1-8-s0 --yes
    """


@runs.command("list")
@click.option("--json", "as_json", is_flag=True, help="As JSON.")
def list_runs(as_json: bool) -> None:
    """Every run: how far it is, its mIoU, and how much the store keeps of it.

    \b
    Example:
      cps runs list
    """
    from pipeline.cli_results import open_store
    from pipeline.retention import stored_runs

    found = stored_runs(open_store())
    if as_json:
        click.echo(json.dumps([run.as_dict() for run in found], indent=2))
    elif found:
        _print_runs(found)
    else:
        click.echo("no runs yet: `cps run` makes one", err=True)


@runs.command()
@click.argument("run")
@click.option("--json", "as_json", is_flag=True, help="As JSON.")
def show(run: str, as_json: bool) -> None:
    """One run, and every object that the store keeps of it.

    \b
    Example:
      cps runs show demo-1-8-s0
    """
    from pipeline.cli_results import open_store
    from pipeline.retention import find_run, run_objects

    store = open_store()
    found = find_run(store, run)
    objects = sorted(run_objects(store, found.run_key), key=lambda ref: ref.key)
    if as_json:
        listed = [{"key": ref.key, "size": ref.size} for ref in objects]
        click.echo(json.dumps({**found.as_dict(), "keys": listed}, indent=2))
        return
    _print_runs([found])
    for ref in objects:
        click.echo(f"{_size(ref.size):>10}  {ref.key}")


@runs.command()
@click.argument("run")
@click.option("--yes", is_flag=True, help="Delete without asking.")
def delete(run: str, yes: bool) -> None:
    """Delete a run with its checkpoints, scores, predictions and weights. Its dataset stays until `cps gc`.

    Its record in MLflow stays, too. A run that somebody works on is refused.

    \b
    Example:
      cps runs delete demo-1-8-s0
    """
    from pipeline.cli_results import open_store
    from pipeline.retention import delete_run, find_run

    store = open_store()
    found = find_run(store, run)
    if not yes:
        click.confirm(f"delete {found.run_key} ({found.objects} objects, {_size(found.size)})?", abort=True, err=True)
    freed = delete_run(store, found.run_key)
    click.echo(f"deleted {found.run_key}: {_size(freed)}")


@click.command(short_help="Remove from the object store what no run refers to.")
@click.option("--yes", is_flag=True, help="Remove it; without this, it is only listed.")
@click.option("--grace", default="1d", show_default=True, help="Keep what is younger: 0s, 30m, 2h, 7d.")
@click.option("--json", "as_json", is_flag=True, help="As JSON.")
def gc(yes: bool, grace: str, as_json: bool) -> None:
    """Datasets, weights, recoveries and half uploads that no run refers to. Nothing is removed without --yes.

    What somebody works on is left alone.

    \b
    Examples:
      cps gc
      cps gc --yes --grace 7d
    """
    from pipeline.cli_results import open_store
    from pipeline.retention import collect, find_garbage

    store = open_store()
    found = find_garbage(store, parse_grace(grace))
    removed, left = collect(store, found) if yes else (0, ())
    if as_json:
        click.echo(json.dumps({**_as_dict(found), "removed_bytes": removed, "left": list(left)}, indent=2))
        return
    for part in found.garbage:
        click.echo(f"{_size(part.size):>10}  {len(part.objects):>5}  {part.objects[0].key}  ({part.why})")
    for upload in found.uploads:
        click.echo(f"{'':>10}  {'':>5}  {upload.key}  (an upload that was never completed)")
    for line in (*found.kept, *left):
        click.echo(f"kept: {line}", err=True)
    if yes:
        click.echo(f"removed {_size(removed)}")
    elif found.garbage or found.uploads:
        click.echo(f"{_size(found.size)} in all; `cps gc --yes` removes it")
    else:
        click.echo("nothing to remove")


def parse_grace(text: str) -> timedelta:
    """`0s`, `30m`, `2h`, `7d`. Raises UserError."""
    import re

    from components.errors import UserError

    match = re.fullmatch(r"(\d{1,6})([smhd])", text.strip())
    if not match:
        raise UserError(f"--grace {text!r} must be a time such as 0s, 30m, 2h or 7d")
    units = {"s": "seconds", "m": "minutes", "h": "hours", "d": "days"}
    return timedelta(**{units[match[2]]: int(match[1])})


def _as_dict(found: "Collection") -> dict[str, object]:
    return {
        "garbage": [
            {"why": part.why, "bytes": part.size, "keys": [ref.key for ref in part.objects]} for part in found.garbage
        ],
        "uploads": [upload.key for upload in found.uploads],
        "kept": list(found.kept),
        "bytes": found.size,
    }


def _print_runs(found: "list[StoredRun]") -> None:
    width = max(len(run.run_key) for run in found)
    click.echo(f"{'run':<{width}}  {'state':<9}{'mIoU':>7}  {'size':>9}  {'ratio':<6}{'created':<26}dataset")
    for run in found:
        miou = "-" if run.miou is None else f"{100 * run.miou:.1f} %"
        click.echo(
            f"{run.run_key:<{width}}  {run.state:<9}{miou:>7}  {_size(run.size):>9}  {run.ratio:<6}"
            f"{run.created:<26}{run.dataset}"
        )


def _size(count: int) -> str:
    for unit, step in (("GB", 1e9), ("MB", 1e6), ("kB", 1e3)):
        if count >= step:
            return f"{count / step:.1f} {unit}"
    return f"{count} B"
