"""`cps schedule`: runs that a KFP server starts by itself."""

import json
from typing import Any

import click

from components.errors import UserError
from pipeline.cli_cluster import connected, connection_options, prepared, submission_options


@click.group()
def schedule() -> None:
    """Runs that a Kubeflow Pipelines server starts by itself. SCHEDULE is a name, or the beginning of an id.

    A run that finds its dataset unchanged finds its work done: only new data are trained on again.

    \b
    Examples:
      cps schedule add --cron "0 3 * * *" --dataset https://host/newest.tar --recipe camvid-mobilenetv2
      cps schedule list
      cps schedule pause nightly
    """


@schedule.command()
@submission_options
@click.option("--cron", default="", help="Minute, hour, day, month, weekday; in UTC.")
@click.option("--every", default="", help="Time between two starts instead: 30m, 12h, 1d, 1w.")
@click.option("--json", "as_json", is_flag=True, help="What was made as JSON on standard output.")
def add(cron: str, every: str, as_json: bool, **options: Any) -> None:
    """Start a run again and again: the options of `cps submit`, and when. One at a time; a missed one is left out.

    \b
    Examples:
      cps schedule add --cron "0 3 * * *" --name nightly --dataset s3://data/newest.tar
      cps schedule add --every 1w --ratio 1/4
    """
    from pipeline.cluster import submission
    from pipeline.cluster.schedules import cron_with_seconds, interval_seconds

    if bool(cron) == bool(every):
        raise UserError('give one of --cron and --every, such as --cron "0 3 * * *" or --every 1d')
    when: dict[str, Any]
    when = {"cron": cron_with_seconds(cron)} if cron else {"interval_seconds": interval_seconds(every)}
    server, version, parameters, place = prepared(options)
    made = submission.schedule(server, version, parameters, **place, **when)
    click.echo(f"[schedule] {made['name']}: {made['url'] or made['schedule_id']}", err=True)
    click.echo(json.dumps({**made, **when, "parameters": parameters}, indent=2) if as_json else made["schedule_id"])


@schedule.command("list")
@connection_options
@click.option("--json", "as_json", is_flag=True, help="As JSON.")
def list_schedules(as_json: bool, **connection: str) -> None:
    """The schedules of this pipeline on the server.

    \b
    Example:
      cps schedule list
    """
    from pipeline.cluster import schedules

    found = schedules.list_schedules(connected(**connection))
    if as_json:
        click.echo(json.dumps(found, indent=2))
    elif not found:
        click.echo("no schedules yet: `cps schedule add` makes one", err=True)
    for one in () if as_json else found:
        when = one["cron"] or f"every {one['interval_seconds']} s"
        state = "on" if one["enabled"] else "paused"
        click.echo(f"{one['schedule_id']:<38}{state:<8}{when:<20}{one['name']}")


@schedule.command()
@click.argument("schedule")
@connection_options
def pause(schedule: str, **connection: str) -> None:
    """Start no more runs, until `cps schedule resume`. What runs goes on.

    \b
    Example:
      cps schedule pause nightly
    """
    _enable(schedule, connection, enabled=False)


@schedule.command()
@click.argument("schedule")
@connection_options
def resume(schedule: str, **connection: str) -> None:
    """Start runs again.

    \b
    Example:
      cps schedule resume nightly
    """
    _enable(schedule, connection, enabled=True)


@schedule.command()
@click.argument("schedule")
@click.option("--yes", is_flag=True, help="Delete without asking.")
@connection_options
def delete(schedule: str, yes: bool, **connection: str) -> None:
    """Delete a schedule. The runs that it started stay.

    \b
    Example:
      cps schedule delete nightly
    """
    from pipeline.cluster import schedules

    server = connected(**connection)
    found = schedules.find_schedule(server, schedule)
    if not yes:
        click.confirm(f"delete schedule {found['name']}?", abort=True, err=True)
    schedules.delete_schedule(server, found["schedule_id"])
    click.echo(f"deleted {found['name']}")


def _enable(schedule: str, connection: dict[str, str], *, enabled: bool) -> None:
    from pipeline.cluster import schedules

    server = connected(**connection)
    found = schedules.find_schedule(server, schedule)
    schedules.set_enabled(server, found["schedule_id"], enabled=enabled)
    click.echo(f"{found['name']} is {'on' if enabled else 'paused'}")
