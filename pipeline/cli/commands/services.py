"""`cps up`, `cps down`, `cps status`: manage the object store and the MLflow server on this machine."""

import json

import click


@click.command(short_help="Start the object store and MLflow on this machine.")
@click.option("--s3-port", type=click.IntRange(1, 65535), help="Port of the object store.  [default: a free one]")
@click.option("--mlflow-port", type=click.IntRange(1, 65535), help="Port of MLflow.  [default: a free one]")
@click.option("--export", is_flag=True, help="Print the environment variables as shell commands, for `eval`.")
def up(s3_port: int | None, mlflow_port: int | None, export: bool) -> None:
    """Start the object store and MLflow on this machine, wait until they respond, and print their addresses.

    Optional: `cps run` starts them if needed. They listen on the loopback interface only and run until `cps down`.

    \b
    Examples:
      cps up
      eval "$(cps up --export)"; mlflow runs list --experiment-id 1
    """
    import shlex

    from components.disk import state_home
    from components.storage.client import Store
    from components.storage.settings import settings_from_environment
    from components.tracking.delivery import deliver_spooled
    from pipeline.local.jobs import close_interrupted
    from pipeline.local.services import services_up, wait_tracking

    home = state_home()
    endpoints = services_up(home, s3_port=s3_port, mlflow_port=mlflow_port)
    wait_tracking(home)
    close_interrupted(home, Store(settings_from_environment(endpoints.environment)), endpoints.environment)
    deliver_spooled(endpoints.mlflow, endpoints.environment)
    if export:
        for name, value in endpoints.environment.items():
            click.echo(f"export {name}={shlex.quote(value)}")
    else:
        click.echo(f"object store  {endpoints.s3}\nMLflow        {endpoints.mlflow}")


@click.command()
def down() -> None:
    """Stop the object store and MLflow on this machine. Their data stays.

    Also ends what a killed `cps plan` has left running.

    \b
    Example:
      cps down
    """
    from components.disk import state_home
    from pipeline.local.services import end_killed_plans, services_down

    services_down(state_home())
    end_killed_plans()
    click.echo("stopped; the data stays, and `cps up` starts the services again")


@click.command()
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
def status(as_json: bool) -> None:
    """Show the services on this machine and whether they respond.

    Also prints the path of a credentials file that can pull weights from the object store and do nothing else. Exit
    code 1 if a service does not respond or none was started.

    \b
    Examples:
      cps status
      cps status --json | jq -r '.[].address'
    """
    from components.disk import state_home
    from pipeline.local.services import services_status, weights_reader

    services = services_status(state_home())
    if as_json:
        names = ("name", "address", "pid", "healthy")
        rows = [{name: getattr(service, name) for name in names} for service in services]
        click.echo(json.dumps(rows, indent=2))
    else:
        if not services:
            click.echo("no services here yet: `cps up` or `cps run` starts them", err=True)
        for service in services:
            state = "healthy" if service.healthy else "not running" if not service.pid else "not responding"
            click.echo(f"{service.name:<14}{service.address or '-':<28}{state}")
        reader = weights_reader(state_home())
        if reader:
            click.echo(f"{'weights only':<14}AWS_SHARED_CREDENTIALS_FILE={reader}")
    if not services or not all(service.healthy for service in services):
        raise click.exceptions.Exit(1)
