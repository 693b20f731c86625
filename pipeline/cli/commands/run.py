"""`cps run`: run the whole pipeline on this machine."""

import json
import sys
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from components.errors import UserError
from pipeline.cli.names import complete_run, run_named
from pipeline.cli.options import (
    DATASET,
    GPUS,
    LENGTH,
    PREDICTION,
    PROCESSES,
    RATIO,
    RECIPE,
    SEED,
    eval_shards,
    quiet_option,
    with_options,
)
from pipeline.cli.project import save
from pipeline.cli.signals import RESUMES, on_interrupt
from pipeline.parameters import STEPS, local_parameters

if TYPE_CHECKING:
    from components.runs.request import RunRequest
    from components.storage.client import Store


@click.command(short_help="Run the whole pipeline on this machine.")
@with_options(DATASET, RATIO, RECIPE, SEED, LENGTH, PROCESSES, GPUS, [eval_shards(1)], PREDICTION)
@click.option(
    "--resume",
    metavar="RUN",
    default="",
    shell_complete=complete_run,
    is_eager=True,
    help="Resume exactly this run (see `cps runs list`). Needs no other options, and rejects those that define a "
    "different run.",
)
@click.option("--save", "saves", is_flag=True, help="Write these options to cps.yaml, so that `cps run` repeats them.")
@click.option("--json", "as_json", is_flag=True, help="Print the result as JSON.")
@quiet_option
@click.pass_context
@on_interrupt(RESUMES)
def run(
    context: click.Context,
    /,
    resume: str,
    saves: bool,
    as_json: bool,
    **options: Any,
) -> None:
    """Run the whole pipeline on this machine: split, train, score every checkpoint, keep the best weights, predict.

    Prints the mIoU per class and where to find the weights, report and gallery. Finished work is not repeated: the same
    command resumes an interrupted run and finds a finished one. Exit code 1 if a step fails, 2 on invalid input.

    \b
    Examples:
      cps run
      cps run --dataset "leftImg8bit_trainvaltest.zip gtFine_trainvaltest.zip" --ratio 1/8
      cps run --dataset photos/ --ratio 1/4
      cps run --ratio 1/16 --seed 1 --set optimization.learning_rate=0.01 --set cps.weight=0
      cps run --resume scenes-demo-1-8-s0-1a2b3c4d5e6f
      cps run --dataset photos/ --ratio 1/4 --save
      cps run --json | jq .best.mIoU
    """
    if resume and saves:
        raise UserError("--save is for new runs: leave it out, or leave out --resume")
    parameters = local_parameters(**options)
    if parameters.resources.gpus:
        from components.training.supervision.resources import check_gpus

        check_gpus(parameters.resources.gpus)
    if saves:
        click.echo(f"saved {save(context, Path())}", err=True)
    from components.disk import state_home
    from pipeline.cli.progress import display
    from pipeline.cli.tables import print_outcome
    from pipeline.local.complete import complete_outcome
    from pipeline.local.environment import store_of
    from pipeline.local.forecast.durations import earlier_durations
    from pipeline.local.jobs import run_of
    from pipeline.local.outcome import collect_outcome
    from pipeline.local.run import run_locally, services_for_run

    home = state_home()
    # The store alone shows whether a known run is complete, and MLflow takes seconds to start.
    is_known = bool(resume or run_of(home, parameters.run))
    environment = services_for_run(home, tracking=not is_known)
    if resume:
        request = _resumed(resume, store_of(environment), home, _only_given(context, parameters.run))
        parameters = replace(parameters, run=request)
    outcome = complete_outcome(parameters, store_of(environment), home, environment) if is_known else None
    if outcome is None:
        environment = services_for_run(home)
        with display(steps=STEPS, earlier=partial(earlier_durations, home)) as draw:
            outcome = run_locally(parameters, home=home, environment=environment, on_event=draw)
    if outcome.exit_code:
        click.echo(ending(outcome.exit_code, outcome.failure, outcome.log), err=True)
        sys.exit(outcome.exit_code)
    collected = collect_outcome(outcome, home, environment)
    if as_json:
        click.echo(json.dumps(collected.as_dict(), indent=2))
    else:
        print_outcome(collected)


def _only_given(context: click.Context, request: "RunRequest") -> "RunRequest":
    """Return the request with only the fields that the command line set; others stay at their default."""
    defaults = (click.core.ParameterSource.DEFAULT, click.core.ParameterSource.DEFAULT_MAP)
    names = [name for name in type(request).model_fields if context.get_parameter_source(name) not in defaults]
    return type(request)(**request.model_dump(include=set(names)))


def _resumed(name: str, store: "Store", home: Path, given: "RunRequest") -> "RunRequest":
    """Return the request of the recorded run `name`. Raises UserError if `given` defines another run."""
    from components.runs.resume import check_dataset, recorded_run, resumed_request

    record = recorded_run(store, run_named(store, name))
    request = resumed_request(record, home / "runs" / record.run_key, given)
    if "dataset" in given.model_fields_set:
        check_dataset(record, store, given)
    return request


def ending(exit_code: int, failure: str, log: Path | None) -> str:
    """Return the final line for a pipeline that was interrupted or failed."""
    if exit_code > 128:
        return f"cps: stopped; {RESUMES}"
    return f"cps: error: {failure or 'the pipeline ended without an error message'} (log: {log})"
