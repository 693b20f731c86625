"""`cps matrix`: the label-efficiency curve, and whether CPS helped."""

import json
import os
import shlex
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from components import progress
from components.errors import UserError
from pipeline.cli.options import (
    CONNECTION,
    DATASET,
    LENGTH,
    PLACE,
    PODS,
    PROCESSES,
    RECIPE,
    eval_shards,
    quiet_option,
    with_options,
)
from pipeline.cli.signals import RESUMES, on_interrupt
from pipeline.cli.submit import prepared
from pipeline.parameters import PipelineParameters, local_parameters, parse_settings

if TYPE_CHECKING:
    from components.matrix.cells import Cell, MatrixDataset, MatrixOutcome
    from components.matrix.report import MatrixResult

_Announce = Callable[[int, "Cell", str], None]


@dataclass(frozen=True)
class _Done:
    """What became of the cells, with the parameters that they have in common, and the MLflow server to tell."""

    outcome: "MatrixOutcome"
    parameters: PipelineParameters
    tracking: str


@click.command(short_help="mIoU by number of labels, CPS beside its supervised baseline.")
@with_options(DATASET)
@click.option("--ratios", default="1/16,1/8,1/4,1/2", show_default=True, help="Shares of the labels, by commas.")
@click.option("--seeds", default="1,2,3", show_default=True, help="Seeds, by commas.")
@click.option(
    "--baseline", is_flag=True, help="Train the supervised baseline of every run too: weight 0, as many steps."
)
@with_options(RECIPE, LENGTH, PROCESSES, [eval_shards(1)])
@click.option(
    "-o", "--output", default="matrix", show_default=True, type=click.Path(path_type=Path), help="Folder of the result."
)
@click.option("--json", "as_json", is_flag=True, help="The result as JSON on standard output.")
@quiet_option
@click.option("--cluster", is_flag=True, help="All runs at once on a KFP server, by the options that follow.")
@click.option("--parallel", default=0, type=click.IntRange(0), help="At most so many runs at once; 0 is no limit.")
@with_options(PODS, PLACE, CONNECTION)
@click.pass_context
def matrix(
    context: click.Context,
    /,
    ratios: str,
    seeds: str,
    baseline: bool,
    output: Path,
    as_json: bool,
    cluster: bool,
    **options: Any,
) -> None:
    """Run every combination of label ratio and seed, and draw mIoU against the number of labels.

    With --baseline each run is compared with its supervised baseline, and every ratio gets a verdict: what CPS gained,
    and how certain that is. Finished runs are not repeated, so an interrupted matrix resumes, and a larger one adds to
    a smaller one.
    The folder gets matrix.html, matrix.svg and matrix.csv; MLflow gets them too.

    With --cluster a Kubeflow Pipelines server has all runs at once, or --parallel of them and the others as those end,
    each as `cps submit` makes it. Their figures are read from the cluster's object store: AWS_ENDPOINT_URL and its keys
    must lead to it from here.

    \b
    Examples:
      cps matrix --ratios 1/8,1/4 --seeds 1 --baseline
      cps matrix --dataset photos/ --recipe camvid-mobilenetv2 --baseline -o efficiency
      cps matrix --cluster --dataset s3://data/photos.tar --recipe camvid-mobilenetv2 --baseline --gpus 1
    """
    cells = _cells(ratios, seeds, baseline=baseline)
    if baseline:
        _check_baseline(options["recipe"], options["overrides"])
    if not cluster:
        options = _without_place(context, **options)

    def announce(number: int, cell: "Cell", what: str) -> None:
        progress.say("matrix", f"{number}/{len(cells)} {_name(cell)}: {what}")

    # One picture is enough to see that a cell's network works; `cps predict` makes the others.
    options |= {
        "labeled_ratio": cells[0].labeled_ratio,
        "seed": cells[0].seed,
        "predict_images": "val",
        "predict_limit": 1,
    }
    done = (_on_cluster if cluster else _on_this_machine)(cells, announce, **options)
    outcome = done.outcome
    for cell, reason in outcome.failed.items():
        click.echo(f"cps: error: {_name(cell)}: {reason}", err=True)
    if outcome.scores and outcome.dataset:
        _report(_matrix_result(outcome, outcome.dataset, done.parameters), output, done.tracking, as_json=as_json)
    if outcome.exit_code:
        click.echo(f"cps: {RESUMES}", err=True)
        sys.exit(outcome.exit_code)


def _without_place(context: click.Context, **given: Any) -> Any:
    """Return the options without those that follow --cluster. Raises UserError if one was given without it."""
    names = [parameter.name for parameter in context.command.params]
    for parameter in context.command.params[names.index("cluster") + 1 :]:
        if context.get_parameter_source(str(parameter.name)) == click.core.ParameterSource.COMMANDLINE:
            raise UserError(f"{parameter.opts[-1]} says where runs go on a cluster: give --cluster too")
        del given[str(parameter.name)]
    return given


def _check_baseline(recipe: str, overrides: tuple[str, ...]) -> None:
    from components.recipes import load_recipe

    if load_recipe(recipe, parse_settings(overrides)).cps.weight == 0:
        raise UserError("--baseline compares with cps.weight=0, which the settings give already: leave one of them out")


@on_interrupt(RESUMES)
def _on_this_machine(cells: "list[Cell]", announce: _Announce, **options: Any) -> _Done:
    """One run after the other."""
    from pipeline.cli.progress import display
    from pipeline.local.environment import resolve_environment, state_home
    from pipeline.local.matrix import run_matrix

    parameters = local_parameters(**options)
    home = state_home()
    environment = resolve_environment(home)
    with display() as draw:
        outcome = run_matrix(cells, parameters, home=home, environment=environment, on_event=draw, on_cell=announce)
    return _Done(outcome, parameters, environment.get("MLFLOW_TRACKING_URI", ""))


def _on_cluster(cells: "list[Cell]", announce: _Announce, *, parallel: int, **options: Any) -> _Done:
    """The store is asked first: without it nothing could be gathered."""
    if not os.environ.get("AWS_ENDPOINT_URL"):
        raise UserError(
            "what runs come to is read from the cluster's object store: set AWS_ENDPOINT_URL, AWS_ACCESS_KEY_ID and "
            "AWS_SECRET_ACCESS_KEY to it as it is reached from here, such as by kubectl port-forward"
        )
    from components.storage.client import Store
    from components.storage.settings import settings_from_environment
    from pipeline.cluster.matrix import run_matrix_on_cluster

    store = Store(settings_from_environment())
    store.check()
    server, version, parameters, place = prepared(**options)
    try:
        outcome = run_matrix_on_cluster(
            server,
            version,
            cells,
            parameters,
            place=place,
            store=store,
            parallel=parallel,
            on_cell=announce,
        )
    except KeyboardInterrupt:
        click.echo("cps: submitted runs go on; the same command follows them, `cps runs terminate` ends one", err=True)
        raise
    return _Done(outcome, parameters, os.environ.get("MLFLOW_TRACKING_URI", ""))


def _matrix_result(
    outcome: "MatrixOutcome", dataset: "MatrixDataset", parameters: PipelineParameters
) -> "MatrixResult":
    from components.matrix.published_results import published
    from components.matrix.report import MatrixResult
    from components.recipes import load_recipe

    overrides = parameters.run.overrides
    recipe = load_recipe(parameters.run.recipe, overrides)
    settings = f" with {', '.join(f'{name}={value}' for name, value in overrides.items())}" if overrides else ""
    return MatrixResult(
        dataset=dataset.name,
        recipe=recipe.name + settings,
        images=dataset.images,
        command=shlex.join(["cps", *sys.argv[1:]]),
        scores=tuple(outcome.scores),
        references=published(recipe, dataset.name, dataset.classes),
    )


def _report(result: "MatrixResult", folder: Path, tracking: str, *, as_json: bool) -> None:
    from components.matrix.gains import gains
    from components.matrix.publish import publish
    from components.matrix.report import summary, write_files

    files = write_files(result, folder)
    publish(result, files.values(), tracking)
    if as_json:
        click.echo(json.dumps(summary(result), indent=2))
        return
    for gain in gains(result.scores):
        click.echo(f"{gain.labeled_ratio:<6} {gain.labeled:,} labelled images: {gain.verdict}")
    for path in files.values():
        click.echo(str(path))


def _cells(ratios: str, seeds: str, *, baseline: bool) -> "list[Cell]":
    from components.labeled_ratio import parse_ratio, ratio_text
    from components.matrix.cells import cells

    try:
        numbers = [int(seed) for seed in _parts(seeds)]
    except ValueError:
        raise UserError(f"--seeds {seeds!r} must be whole numbers, separated by commas, such as 1,2,3") from None
    shares = [ratio_text(parse_ratio(ratio)) for ratio in _parts(ratios)]
    if not numbers or not shares:
        raise UserError("--ratios and --seeds must each name one at least, such as --ratios 1/8 --seeds 1")
    return cells(sorted(set(shares), key=lambda text: parse_ratio(text)), sorted(set(numbers)), baseline=baseline)


def _parts(text: str) -> list[str]:
    return [part.strip() for part in text.split(",") if part.strip()]


def _name(cell: "Cell") -> str:
    return f"ratio {cell.labeled_ratio} seed {cell.seed} {cell.method}"
