"""`cps matrix`: measure mIoU by number of labels, and whether CPS and other recipes help."""

import os
import shlex
import sys
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from components import progress
from components.disk import check_writable, writing
from components.errors import UserError
from pipeline.cli.commands.submit import prepared
from pipeline.cli.options import (
    CONNECTION,
    DATASET,
    LENGTH,
    PLACE,
    PODS,
    PROCESSES,
    RECIPE,
    LocalPath,
    eval_shards,
    quiet_option,
    with_options,
)
from pipeline.cli.signals import RESUMES, on_interrupt
from pipeline.parameters import PipelineParameters, local_parameters, parse_settings

if TYPE_CHECKING:
    from components.matrix.cells import Cell, MatrixDataset, MatrixOutcome, Method
    from components.matrix.report import MatrixResult

_Announce = Callable[[int, "Cell", str], None]


@dataclass(frozen=True)
class _Done:
    """The outcome of the cells, their common parameters, and the MLflow server that gets the result."""

    outcome: "MatrixOutcome"
    parameters: PipelineParameters
    tracking: str


@click.command(short_help="Measure mIoU by number of labels, with and without CPS.")
@with_options(DATASET)
@click.option(
    "--ratios", default="1/16,1/8,1/4,1/2", show_default=True, help="Fractions of the labels, separated by commas."
)
@click.option("--seeds", default="1,2,3", show_default=True, help="Seeds, separated by commas.")
@click.option(
    "--baseline",
    is_flag=True,
    help="Also train a supervised baseline for every run: cps.weight=0, same number of steps. Short for "
    "--compare baseline,cps.",
)
@click.option(
    "--compare",
    default="",
    metavar="METHODS",
    help="Methods to compare, separated by commas: baseline, cps (the recipe of --recipe), and recipes by name or "
    ".yaml file.  [default: cps]",
)
@with_options(RECIPE, LENGTH, PROCESSES, [eval_shards(1)])
@click.option(
    "-o",
    "--output",
    default="matrix",
    show_default=True,
    type=LocalPath(),
    help="Folder for matrix.html, matrix.svg, matrix.csv and matrix-gains.csv.",
)
@click.option("--json", "as_json", is_flag=True, help="Print the result as JSON.")
@quiet_option
@click.option(
    "--cluster",
    is_flag=True,
    help="Start all runs at once on a KFP server. Required by the options below.",
)
@click.option(
    "--parallel",
    default=0,
    type=click.IntRange(0),
    help="Maximum number of concurrent runs; 0 for no limit.  [default: 0]",
)
@with_options(PODS, PLACE, CONNECTION)
@click.pass_context
def matrix(
    context: click.Context,
    /,
    ratios: str,
    seeds: str,
    baseline: bool,
    compare: str,
    output: Path,
    as_json: bool,
    cluster: bool,
    **options: Any,
) -> None:
    """Run every combination of label ratio and seed, and plot mIoU against the number of labels.

    With --baseline, each run is compared with a supervised baseline, and each ratio gets a verdict: how much CPS
    gained, and how certain the gain is. --compare takes further recipes, and compares each with the baseline of the
    same seed, or with the first method if there is no baseline. Finished runs are not repeated, so an interrupted
    matrix resumes and a larger one extends a smaller one. Writes an HTML page, an SVG chart and CSV files, and logs
    them to MLflow. Exit code 1 if a run fails; the other runs continue.

    With --cluster, the runs start on a Kubeflow Pipelines server as with `cps submit`: all at once, or --parallel at a
    time. The command reads their scores from the cluster's object store, so AWS_ENDPOINT_URL, AWS_ACCESS_KEY_ID and
    AWS_SECRET_ACCESS_KEY must be set to that store as reached from this machine.

    \b
    Examples:
      cps matrix --ratios 1/8,1/4 --seeds 1 --baseline
      cps matrix --dataset photos/ --baseline -o efficiency
      cps matrix --recipe demo --compare baseline,cps,photos --ratios 1/8 --seeds 1,2,3
      cps matrix --compare baseline,cps,mine.yaml
      cps matrix --cluster --dataset s3://data/photos.tar --baseline --gpus 1
    """
    files = _recipe_files(compare, cluster=cluster)
    methods = _methods(compare, files, baseline=baseline, recipe=options["recipe"], overrides=options["overrides"])
    cells = _cells(ratios, seeds, methods, files)
    if not cluster:
        options = _without_place(context, **options)

    def announce(number: int, cell: "Cell", what: str) -> None:
        progress.say("matrix", f"{number}/{len(cells)} {_name(cell)}: {what}")

    # One image is enough to see that a cell's network works; `cps predict` segments the others.
    options |= {
        "labeled_ratio": cells[0].labeled_ratio,
        "seed": cells[0].seed,
        "predict_images": "val",
        "predict_limit": 1,
    }
    check_writable(output, "--output")
    done = (_on_cluster if cluster else _on_this_machine)(cells, announce, **options)
    outcome = done.outcome
    for cell, reason in outcome.failed.items():
        click.echo(f"cps: error: {_name(cell)}: {reason}", err=True)
    if outcome.scores and outcome.dataset:
        with writing(output, "--output"):
            found = _matrix_result(outcome, outcome.dataset, done.parameters, methods)
            _report(found, output, done.tracking, as_json=as_json)
    if outcome.exit_code:
        click.echo(f"cps: {RESUMES}", err=True)
        sys.exit(outcome.exit_code)


def _without_place(context: click.Context, **given: Any) -> Any:
    """Return the options without those that need --cluster. Raises UserError if one was given."""
    names = [parameter.name for parameter in context.command.params]
    for parameter in context.command.params[names.index("cluster") + 1 :]:
        if context.get_parameter_source(str(parameter.name)) == click.core.ParameterSource.COMMANDLINE:
            raise UserError(f"{parameter.opts[-1]} needs --cluster: add --cluster, or leave the option out")
        del given[str(parameter.name)]
    return given


def _recipe_files(compare: str, *, cluster: bool) -> "dict[Method, str]":
    """Return the path of each recipe file by the method's name: the file's, without its ending. Raises UserError."""
    from components.matrix.cells import BASELINE, CPS, SUPERVISED
    from components.recipes import recipe_names
    from components.recipes.loader import is_recipe_file

    found: dict[Method, str] = {}
    taken = {BASELINE, CPS, SUPERVISED, *recipe_names()}
    for path in dict.fromkeys(part for part in _parts(compare) if is_recipe_file(part)):
        if cluster:
            raise UserError(
                f"--compare {path}: a file on this machine, which the cluster cannot read: use a recipe from "
                "`cps recipes list`"
            )
        method = Path(path).stem
        if method in taken | found.keys():
            raise UserError(f"--compare {path}: another method is called {method}: rename the file")
        found[method] = str(Path(path).absolute())
    return found


def _methods(
    compare: str, files: "Mapping[Method, str]", *, baseline: bool, recipe: str, overrides: tuple[str, ...]
) -> "list[Method]":
    """Return the methods to train, the reference first, so that it finishes first. Raises UserError."""
    from components.matrix.cells import BASELINE, CPS, SUPERVISED, reference_of
    from components.recipes.loader import is_recipe_file

    if baseline and compare:
        raise UserError("--baseline is short for --compare baseline,cps: give --compare alone, with baseline in it")
    named = _parts(compare) if compare else [BASELINE, CPS] if baseline else [CPS]
    named = [Path(name).stem if is_recipe_file(name) else name for name in named]
    methods = list(dict.fromkeys(SUPERVISED if name == BASELINE else name for name in named))
    if not methods:
        raise UserError(f"--compare {compare!r} names no method: give, for example, baseline,cps")
    for method in methods:
        _check_method(method, files.get(method, method), recipe, overrides)
    return sorted(methods, key=lambda method: method != reference_of(methods))


def _check_method(method: "Method", path: str, recipe: str, overrides: tuple[str, ...]) -> None:
    from components.matrix.cells import CPS, SUPERVISED
    from components.recipes import load_recipe, recipe_names
    from components.runs.request import RunRequest

    changes = dict(parse_settings(overrides))
    if method == SUPERVISED:
        if RunRequest(recipe=recipe, overrides=changes).resolve(is_local=False).cps.weight == 0:
            raise UserError(
                "the baseline is the recipe with cps.weight=0, which the settings already set: leave out one of them"
            )
    elif method == recipe or path == os.path.abspath(recipe):
        raise UserError(f"--compare {method}: that is --recipe, which is called cps in the list")
    elif method != CPS and path == method and method not in recipe_names():
        raise UserError(
            f"--compare {method}: no such method; available: baseline, cps, the recipes {', '.join(recipe_names())}, "
            "and recipe files (.yaml)"
        )
    elif method != CPS:
        load_recipe(path, changes)


@on_interrupt(RESUMES)
def _on_this_machine(cells: "list[Cell]", announce: _Announce, **options: Any) -> _Done:
    """Run the cells one after the other."""
    from components.disk import state_home
    from pipeline.cli.progress import display
    from pipeline.local.environment import resolve_environment
    from pipeline.local.matrix import run_matrix

    parameters = local_parameters(**options)
    home = state_home()
    environment = resolve_environment(home, writes=True)
    with display() as draw:
        outcome = run_matrix(cells, parameters, home=home, environment=environment, on_event=draw, on_cell=announce)
    return _Done(outcome, parameters, environment.get("MLFLOW_TRACKING_URI", ""))


def _on_cluster(cells: "list[Cell]", announce: _Announce, *, parallel: int, **options: Any) -> _Done:
    """Run the cells on the server. Checks the store first, because the scores are read from it."""
    if not os.environ.get("AWS_ENDPOINT_URL"):
        raise UserError(
            "--cluster reads scores from the cluster's object store: set AWS_ENDPOINT_URL, AWS_ACCESS_KEY_ID and "
            "AWS_SECRET_ACCESS_KEY for that store as reached from this machine, such as with kubectl port-forward"
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
        click.echo(
            "cps: submitted runs continue; run the same command again to follow them, `cps runs terminate` to stop one",
            err=True,
        )
        raise
    return _Done(outcome, parameters, os.environ.get("MLFLOW_TRACKING_URI", ""))


def _matrix_result(
    outcome: "MatrixOutcome", dataset: "MatrixDataset", parameters: PipelineParameters, methods: "list[Method]"
) -> "MatrixResult":
    from components.matrix.cells import reference_of
    from components.matrix.published_results import published
    from components.matrix.report import MatrixResult
    from components.recipes.model import AUTO

    overrides = parameters.run.overrides
    recipe = parameters.run.resolve(is_local=False)
    settings = f" with {', '.join(f'{name}={value}' for name, value in overrides.items())}" if overrides else ""
    return MatrixResult(
        dataset=dataset.name,
        recipe=(AUTO if parameters.run.recipe == AUTO else recipe.name) + settings,
        images=dataset.images,
        command=shlex.join(["cps", *sys.argv[1:]]),
        scores=tuple(outcome.scores),
        references=published(recipe, dataset.name, dataset.classes),
        reference=reference_of(methods),
    )


def _report(result: "MatrixResult", folder: Path, tracking: str, *, as_json: bool) -> None:
    from components.matrix.publish import publish
    from components.matrix.report import summary, write_files

    files = write_files(result, folder)
    publish(result, files.values(), tracking)
    if as_json:
        click.echo(summary(result))
        return
    for gain in result.gains:
        click.echo(f"{gain.labeled_ratio:<6} {gain.labeled:,} labelled images: {gain.verdict}")
        for note in gain.notes:
            click.echo(f"       {note}")
    for path in files.values():
        click.echo(str(path))


def _cells(ratios: str, seeds: str, methods: "list[Method]", files: "Mapping[Method, str]") -> "list[Cell]":
    from components.labeled_ratio import parse_ratio, ratio_text
    from components.matrix.cells import cells

    try:
        numbers = [int(seed) for seed in _parts(seeds)]
    except ValueError:
        raise UserError(f"--seeds {seeds!r} must be integers separated by commas, such as 1,2,3") from None
    shares = [ratio_text(parse_ratio(ratio)) for ratio in _parts(ratios)]
    if not numbers or not shares:
        raise UserError("--ratios and --seeds each need at least one value, such as --ratios 1/8 --seeds 1")
    return cells(sorted(set(shares), key=lambda text: parse_ratio(text)), sorted(set(numbers)), methods, files)


def _parts(text: str) -> list[str]:
    return [part.strip() for part in text.split(",") if part.strip()]


def _name(cell: "Cell") -> str:
    return f"ratio {cell.labeled_ratio} seed {cell.seed} {cell.method}"
