"""`cps submit` and `cps schedule`: run the pipeline on a KFP server. Also holds functions for `cps runs`."""

import json
import os
from time import sleep
from typing import TYPE_CHECKING, Any

import click

from components.errors import UserError, WorkFailed
from pipeline.cli.options import (
    CONNECTION,
    DATASET,
    LENGTH,
    PLACE,
    PODS,
    PREDICTION,
    PROCESSES,
    RATIO,
    RECIPE,
    RUN_NAME,
    SEED,
    eval_shards,
    with_options,
)
from pipeline.parameters import PipelineParameters, cluster_parameters, parse_secret_fields

if TYPE_CHECKING:
    from pipeline.cluster.client import Server
    from pipeline.cluster.status import RunStatus
    from pipeline.cluster.submission import Placing, Submitted, Version

SUBMISSION = (
    *(*DATASET, *RATIO, *RECIPE, *SEED, *LENGTH, *PROCESSES, eval_shards(2), *PREDICTION),
    *(*PODS, *RUN_NAME, *PLACE, *CONNECTION),
)
"""Every option of a run on a cluster: those of `cps run` and those of its pods. `prepared` takes their values."""


def connected(endpoint: str, namespace: str, ca_cert: str) -> "Server":
    """Return the KFP server at these connection options. Raises UserError."""
    if ca_cert and not os.path.isfile(ca_cert):
        raise UserError(f"--ca-cert {ca_cert!r} is not a file")
    from pipeline.cluster.client import Connection, Server

    return Server(Connection(endpoint, namespace, ca_cert))


def prepared(
    *,
    endpoint: str,
    namespace: str,
    ca_cert: str,
    secret_fields: str,
    experiment: str,
    service_account: str,
    name: str = "",
    **options: Any,
) -> "tuple[Server, Version, PipelineParameters, Placing]":
    """Return the server, the pipeline's version on it, the run's parameters, and the run's place on the server.

    Takes the values of the options in SUBMISSION, and checks them before it connects to the server.
    """
    fields = parse_secret_fields(secret_fields)
    parameters = cluster_parameters(**options)
    from pipeline.cluster.submission import Placing, find_or_upload

    server = connected(endpoint, namespace, ca_cert)
    if warning := server.version_warning():
        click.echo(f"[pipeline] warning: {warning}", err=True)
    version = find_or_upload(server, fields)
    click.echo(f"[pipeline] {'uploaded' if version.uploaded else 'found'} version {version.name}", err=True)
    return server, version, parameters, Placing(name or parameters.run_name, experiment, service_account)


@click.command(short_help="Run the whole pipeline on a Kubeflow Pipelines server.")
@with_options(SUBMISSION)
@click.option("--watch", is_flag=True, help="Follow the run until it ends; exit code 1 if it fails.")
@click.option(
    "--retries",
    default=0,
    show_default=True,
    type=click.IntRange(0),
    help="With --watch, resubmit a failed run up to this many times. It resumes from its saved state. A run "
    "whose first step failed is not resubmitted.",
)
@click.option("--json", "as_json", is_flag=True, help="Print the created run as JSON.")
def submit(watch: bool, retries: int, as_json: bool, **options: Any) -> None:
    """Run the whole pipeline on a Kubeflow Pipelines server and print the run's id.

    Takes the options of `cps run`, and options for the pods. Uploads the pipeline if the server does not have this
    version yet. The server is --endpoint or KF_PIPELINES_ENDPOINT, otherwise that of the current cluster or the
    kubeconfig. Authenticate with KFP_EXISTING_TOKEN.

    The steps read addresses from --settings-config-map and credentials from --store-secret. Those of this machine are
    not sent.

    \b
    Examples:
      cps submit --dataset s3://data/photos.tar --ratio 1/4 --watch --retries 3
      cps submit --gpus 4 --cpu 16 --memory 64Gi --toleration nvidia.com/gpu --image registry/cps:0.2.0-gpu
      cps submit --store-secret mlpipeline-minio-artifact --secret-fields accesskey,secretkey
      cps submit --json | jq -r .run_id
    """
    from pipeline.cluster import submission

    if retries and not watch:
        raise UserError("--retries needs --watch: only a run that is followed can be submitted again")
    server, version, parameters, place = prepared(**options)

    def submitted() -> "Submitted":
        made = submission.submit(server, version, parameters, place)
        click.echo(f"[run] {made.name}: {made.url or made.run_id}", err=True)
        return made

    made, failed, status = submitted(), list[str](), None
    if watch:
        status = followed(server, made.run_id)
        while len(failed) < retries and _awaits_retry(server, status, f"{len(failed) + 1} of {retries}"):
            failed.append(made.run_id)
            made = submitted()
            status = followed(server, made.run_id)
    if as_json:
        shown = {**made.as_dict(), "parameters": parameters.as_dag(), "failed_run_ids": failed}
        click.echo(json.dumps({**shown, **({"state": status.state} if status else {})}, indent=2))
    elif not watch:
        click.echo(made.run_id)
    if status:
        check_succeeded(server, status)


def _awaits_retry(server: "Server", status: "RunStatus", number: str) -> bool:
    """Return whether to submit the run again, after the pause that this takes."""
    from components.storage.lease import DURATION
    from pipeline.cluster.status import failure, may_succeed_again

    if not may_succeed_again(status):
        return False
    click.echo(f"[run] {failure(status, server.url(f'runs/details/{status.run_id}'))}", err=True)
    click.echo(f"[run] submitting it again in {DURATION:g} s (retry {number}); finished work is kept", err=True)
    sleep(DURATION)  # a pod that was killed keeps the run's lease that long
    return True


def followed(server: "Server", run_id: str) -> "RunStatus":
    """Draw the progress of a run until it ends; return its final status."""
    from pipeline.cluster.display import watching
    from pipeline.cluster.pods import WaitingPods
    from pipeline.cluster.status import follow

    pods = WaitingPods(server.namespace, run_id)
    try:
        with watching() as draw:
            return follow(server, run_id, lambda status: draw(pods.added_to(status)))
    except KeyboardInterrupt:
        click.echo(f"cps: the run continues; stop it with `cps runs terminate {run_id}`", err=True)
        raise


def close_terminated(server: "Server", run_id: str) -> None:
    """Close the MLflow run of a terminated run as KILLED: KFP does not start the exit handler of a terminated run.

    This needs the settings of the cluster's object store and MLflow. Without them, print one line.
    """
    if missing := [name for name in ("AWS_ENDPOINT_URL", "MLFLOW_TRACKING_URI") if not os.environ.get(name)]:
        click.echo(
            f"[run] MLflow still shows the run as running: set {' and '.join(missing)} here to close it", err=True
        )
        return
    from components.runs.finish import finish_job
    from pipeline.cluster.status import follow

    click.echo("[run] waiting for the steps to end before closing the MLflow run", err=True)
    follow(server, run_id, lambda _status: None)
    try:
        closed = finish_job(run_id, "CANCELED")
    except (UserError, WorkFailed) as error:
        click.echo(f"[run] MLflow still shows the run as running: {error}", err=True)
        return
    if not closed:
        click.echo(
            f"[run] no MLflow run: the object store at {os.environ['AWS_ENDPOINT_URL']} has no record of it", err=True
        )


def check_succeeded(server: "Server", status: "RunStatus") -> None:
    """Raise WorkFailed, with a one-line message, if the run did not succeed."""
    from pipeline.cluster.status import failure

    if status.state == "CANCELED":
        close_terminated(server, status.run_id)
    if status.state != "SUCCEEDED":
        raise WorkFailed(failure(status, server.url(f"runs/details/{status.run_id}")))


@click.group()
def schedule() -> None:
    """Manage recurring runs on a Kubeflow Pipelines server. SCHEDULE is a name or the beginning of an id.

    If the dataset has not changed, a run finds its work finished: only new data triggers training.

    \b
    Examples:
      cps schedule add --cron "0 3 * * *" --dataset https://host/newest.tar --recipe photos
      cps schedule list
      cps schedule pause nightly
    """


@schedule.command()
@with_options(SUBMISSION)
@click.option("--cron", default="", help="Cron expression in UTC: minute, hour, day, month, weekday.")
@click.option("--every", default="", help="Interval between starts, such as 30m, 12h, 1d or 1w; instead of --cron.")
@click.option("--json", "as_json", is_flag=True, help="Print the created schedule as JSON.")
def add(cron: str, every: str, as_json: bool, **options: Any) -> None:
    """Create a schedule and print its id. Takes the options of `cps submit`, and either --cron or --every.

    Only one run is active at a time; missed starts are skipped.

    \b
    Examples:
      cps schedule add --cron "0 3 * * *" --name nightly --dataset s3://data/newest.tar
      cps schedule add --every 1w --ratio 1/4
    """
    from pipeline.cluster import submission
    from pipeline.cluster.schedules import cron_with_seconds, interval_seconds
    from pipeline.cluster.submission import Trigger

    if bool(cron) == bool(every):
        raise UserError('give either --cron or --every, such as --cron "0 3 * * *" or --every 1d')
    when = Trigger(cron=cron_with_seconds(cron)) if cron else Trigger(interval_seconds=interval_seconds(every))
    server, version, parameters, place = prepared(**options)
    made = submission.schedule(server, version, parameters, place, when)
    click.echo(f"[schedule] {made.name}: {made.url or made.schedule_id}", err=True)
    shown = {**vars(made), **when.as_dict(), "parameters": parameters.as_dag()}
    click.echo(json.dumps(shown, indent=2) if as_json else made.schedule_id)


@schedule.command("list")
@with_options(CONNECTION)
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
def list_schedules(as_json: bool, **connection: str) -> None:
    """List the schedules of this pipeline on the server.

    \b
    Example:
      cps schedule list
    """
    from pipeline.cluster import schedules

    found = schedules.list_schedules(connected(**connection))
    if as_json:
        click.echo(json.dumps([vars(one) for one in found], indent=2))
    elif not found:
        click.echo("no schedules yet; create one with `cps schedule add`", err=True)
    for one in () if as_json else found:
        when = one.cron or f"every {one.interval_seconds} s"
        state = "on" if one.enabled else "paused"
        click.echo(f"{one.schedule_id:<38}{state:<8}{when:<20}{one.name}")


@schedule.command()
@click.argument("schedule")
@with_options(CONNECTION)
def pause(schedule: str, **connection: str) -> None:
    """Pause a schedule until `cps schedule resume`. A run that has already started continues.

    \b
    Example:
      cps schedule pause nightly
    """
    _enable(schedule, connection, enabled=False)


@schedule.command()
@click.argument("schedule")
@with_options(CONNECTION)
def resume(schedule: str, **connection: str) -> None:
    """Resume a paused schedule.

    \b
    Example:
      cps schedule resume nightly
    """
    _enable(schedule, connection, enabled=True)


@schedule.command()
@click.argument("schedule")
@click.option("--yes", is_flag=True, help="Delete without asking.")
@with_options(CONNECTION)
def delete(schedule: str, yes: bool, **connection: str) -> None:
    """Delete a schedule. The runs that it started are kept.

    \b
    Example:
      cps schedule delete nightly
    """
    from pipeline.cluster import schedules

    server = connected(**connection)
    found = schedules.find_schedule(server, schedule)
    if not yes:
        click.confirm(f"delete schedule {found.name}?", abort=True, err=True)
    schedules.delete_schedule(server, found.schedule_id)
    click.echo(f"deleted {found.name}")


def _enable(schedule: str, connection: dict[str, str], *, enabled: bool) -> None:
    from pipeline.cluster import schedules

    server = connected(**connection)
    found = schedules.find_schedule(server, schedule)
    schedules.set_enabled(server, found.schedule_id, enabled=enabled)
    click.echo(f"{found.name} is {'on' if enabled else 'paused'}")
