"""`cps reproduce`: repeat a run from its run.json alone."""

import json
import sys
import tempfile
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

import click

from components.errors import UserError, WorkFailed
from pipeline.cli.names import complete_run_or_file, run_named
from pipeline.cli.options import LocalPath, quiet_option
from pipeline.cli.signals import RESUMES, on_interrupt

if TYPE_CHECKING:
    from components.runs.record import RunRecord
    from components.runs.reproduce import Reproduction
    from components.storage.client import Store


@click.command(short_help="Repeat a run from its run.json and compare the results.")
@click.argument("run", shell_complete=complete_run_or_file)
@click.option("--check", is_flag=True, help="Only print the differences and whether the run can be repeated.")
@click.option("--dataset", default="", help="Source of the dataset, if the store no longer has it.")
@click.option("--pools", default="", help="Pools of that dataset that the run used, separated by commas.")
@click.option(
    "--pretrained",
    "backbones",
    multiple=True,
    type=LocalPath(exists=True, dir_okay=False),
    help="Pretrained weights file, if it has moved; repeatable.",
)
@click.option(
    "--processes", default=0, type=click.IntRange(0), help="Training processes.  [default: as in the original run]"
)
@click.option("--json", "as_json", is_flag=True, help="Print the result as JSON.")
@quiet_option
@on_interrupt(RESUMES)
def reproduce(
    run: str, check: bool, dataset: str, pools: str, backbones: tuple[Path, ...], processes: int, as_json: bool
) -> None:
    """Repeat a run with the same dataset, split, recipe and seed, and compare the results.

    RUN is a run key, an unambiguous part of one, @last, @best or @champion, or the path or s3:// URI of a run.json. The
    repeated run gets a key that begins with `again-`. Digests verify that its inputs are the same. On a GPU, it uses
    cuDNN's deterministic kernels, which are slower.

    Prints first how versions, code, machine and threads differ from the original run, and at the end whether mIoU and
    the weights of every checkpoint are the same. Different results are not a failure. Exit code 2 if the run cannot be
    repeated. The same command resumes an interrupted run; to start over, delete it with `cps runs delete`.

    \b
    Examples:
      cps reproduce scenes-demo-1-8-s0 --check
      cps reproduce s3://cps/runs/scenes-demo-1-8-s0-1a2b3c4d5e6f/run.json
      cps reproduce run.json --dataset photos.tar --pretrained mobilenetv2_imagenet.npz
      cps reproduce scenes-demo-1-8-s0 --json | jq .reproduction
    """
    from components.disk import state_home
    from components.networks.device import DETERMINISTIC
    from components.runs.environment import this_environment
    from components.runs.reproduce import read_record, reproduction, take_dataset
    from components.runs.request import RunRequest
    from pipeline.local.environment import resolve_environment, store_of

    home = state_home()
    environment = {DETERMINISTIC: "1", **resolve_environment(home, tracking=not check, writes=not check)}
    store = store_of(environment)
    store.check()  # creates the bucket of a new store
    record = read_record(run_named(store, run), store)
    if dataset:
        take_dataset(record, store, RunRequest(dataset=dataset, dataset_pools=pools))
    trained = record.trained_on[-1].processes if record.trained_on else 1
    processes = processes or trained
    now = this_environment(processes=processes, networks=2 if processes == 1 else 1)
    with tempfile.TemporaryDirectory(prefix="cps-reproduce-") as folder:
        place = Path(folder) if check else home / "reproductions" / record.run_key
        planned = reproduction(record, store, place, now, backbones)
        _say(planned, record, as_json=as_json and check)
        if not check:
            _run(planned, store, home, environment, processes, as_json=as_json)


def _say(planned: "Reproduction", record: "RunRecord", *, as_json: bool) -> None:
    """Print the differences: to standard error, or as JSON to standard output."""
    if as_json:
        listed = [vars(difference) for difference in planned.differences]
        click.echo(json.dumps({"run": record.run_key, "key": planned.run_key, "differences": listed}, indent=2))
    fatal = [difference for difference in planned.differences if difference.fatal]
    for difference in () if as_json else planned.differences:
        if not difference.fatal:
            click.echo(f"[reproduce] {difference}", err=True)
    if fatal:
        raise UserError(f"run {record.run_key} cannot be repeated: {'; '.join(map(str, fatal))}")
    if not as_json:
        nothing = "" if planned.differences else "; no recorded difference"
        click.echo(f"[reproduce] repeating {record.run_key} as {planned.run_key}{nothing}", err=True)


def _run(
    planned: "Reproduction", store: "Store", home: Path, environment: dict[str, str], processes: int, *, as_json: bool
) -> None:
    from components.runs.record import load_run
    from components.runs.reproduce import comparison, comparison_lines, environment_differences
    from components.runs.request import PredictionRequest, Resources
    from pipeline.cli.commands.run import ending
    from pipeline.cli.progress import display
    from pipeline.cli.tables import print_outcome
    from pipeline.local.forecast.durations import earlier_durations
    from pipeline.local.outcome import collect_outcome
    from pipeline.local.run import run_locally
    from pipeline.parameters import STEPS, PipelineParameters

    parameters = PipelineParameters(planned.request, Resources(processes=processes, eval_shards=1), PredictionRequest())
    with display(steps=STEPS, earlier=partial(earlier_durations, home)) as draw:
        outcome = run_locally(parameters, home=home, environment=environment, on_event=draw)
    if outcome.exit_code:
        click.echo(ending(outcome.exit_code, outcome.failure, outcome.log), err=True)
        sys.exit(outcome.exit_code)
    collected = collect_outcome(outcome, home, environment)
    if collected.result.run_key != planned.run_key:
        raise WorkFailed(f"the pipeline made run {collected.result.run_key} instead of {planned.run_key}")
    again, _ = load_run(store, planned.run_key)
    original = planned.original
    differences = list(environment_differences(original, again.trained_on[-1])) if again.trained_on else []
    found = comparison(original.outcome, again.outcome)
    if as_json:
        told = {
            "of": original.run_key,
            **found.model_dump(mode="json", exclude_none=found.mIoU is not None),
            "differences": [vars(difference) for difference in differences],
        }
        click.echo(json.dumps({**collected.as_dict(), "reproduction": told}, indent=2))
        return
    print_outcome(collected)
    click.echo(f"\nreproduction of {original.run_key}:")
    for line in (*comparison_lines(original, found), *map(str, differences)):
        click.echo(f"  {line}")
