"""`cps matrix`: measure mIoU by number of labels, and whether CPS and other recipes help."""

import os
import re
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
from pipeline.parameters import (
    PipelineParameters,
    check_weights_place,
    local_parameters,
    parse_settings,
    with_absolute_weights,
)

if TYPE_CHECKING:
    from components.matrix.cells import Cell, MatrixDataset, MatrixOutcome, Method, Variation
    from components.matrix.report import MatrixResult
    from components.recipes import Overrides, Recipe

_Announce = Callable[[int, "Cell", str], None]

_COMMA = re.compile(r",(?![^\[]*\])")
"""A comma between methods, not one inside a list."""


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
    help="Methods to compare, separated by commas: baseline, cps (the recipe of --recipe with the settings of --set), "
    "that recipe with further settings, joined by +, and other recipes by name or .yaml file.  [default: cps]",
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
    gained, and how certain the gain is. --compare takes further methods, and compares each with the baseline of the
    same seed, or with the first method if there is no baseline. Another recipe is used as it says, with --set, so its
    crops and number of steps may differ; settings leave everything else equal. Finished runs are not repeated, so an
    interrupted matrix resumes and a larger one extends a smaller one. Writes an HTML page, an SVG chart and CSV files,
    and logs them to MLflow. Exit code 1 if a run fails; the other runs continue.

    With --cluster, the runs start on a Kubeflow Pipelines server as with `cps submit`: all at once, or --parallel at a
    time. The command reads their scores from the cluster's object store, so AWS_ENDPOINT_URL, AWS_ACCESS_KEY_ID and
    AWS_SECRET_ACCESS_KEY must be set to that store as reached from this machine.

    \b
    Examples:
      cps matrix --ratios 1/8,1/4 --seeds 1 --baseline
      cps matrix --dataset photos/ --baseline -o efficiency
      cps matrix --recipe demo --compare baseline,cps,photos --ratios 1/8 --seeds 1,2,3
      cps matrix --dataset photos/ --compare baseline,cps,cps.teacher=average+cps.burn_in=0.3
      cps matrix --compare baseline,cps,mine.yaml
      cps matrix --cluster --dataset s3://data/photos.tar --baseline --gpus 1
    """
    methods = _methods(
        compare, baseline=baseline, recipe=options["recipe"], overrides=options["overrides"], cluster=cluster
    )
    cells = _cells(ratios, seeds, methods)
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
            found = _matrix_result(outcome, outcome.dataset, done.parameters, list(methods))
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


def _methods(
    compare: str, *, baseline: bool, recipe: str, overrides: tuple[str, ...], cluster: bool
) -> "dict[Method, Variation]":
    """Return the methods to train, the reference first, so that it finishes first. Raises UserError."""
    from components.matrix.cells import BASELINE, CPS, reference_of

    if baseline and compare:
        raise UserError("--baseline is short for --compare baseline,cps: give --compare alone, with baseline in it")
    named = _COMMA.split(compare) if compare else [BASELINE, CPS] if baseline else [CPS]
    changes = parse_settings(overrides)
    found: dict[Method, Variation] = {}
    for name in filter(None, (part.strip() for part in named)):
        method, variation = _method(name, recipe, changes, cluster=cluster)
        if found.setdefault(method, variation) != variation:
            raise UserError(f"--compare {name}: another method is called {method}: rename the file")
    if not found:
        raise UserError(f"--compare {compare!r} names no method: give, for example, baseline,cps")
    reference = reference_of(list(found))
    return {reference: found[reference], **found}


def _method(name: str, recipe: str, changes: "Overrides", *, cluster: bool) -> "tuple[Method, Variation]":
    """Return the method of this name, which --compare lists. Raises UserError."""
    from components.matrix.cells import BASELINE, CPS, SUPERVISED, VARIATIONS, Variation, settings_of
    from components.recipes import load_recipe, recipe_names
    from components.recipes.loader import is_recipe_file
    from components.recipes.model import AUTO
    from components.runs.request import RunRequest

    def resolved(own: Variation) -> "Recipe":
        return RunRequest(recipe=recipe, overrides={**changes, **own.overrides}).resolve(is_local=not cluster)

    if name == CPS:
        return CPS, VARIATIONS[CPS]
    if name in (BASELINE, SUPERVISED):
        if resolved(VARIATIONS[CPS]).cps.weight == 0:
            raise UserError(
                "the baseline is the recipe with cps.weight=0, which the settings already set: leave out one of them"
            )
        return SUPERVISED, VARIATIONS[SUPERVISED]
    if "=" in name:
        own = Variation(overrides=with_absolute_weights(parse_settings(settings_of(name), "--compare")))
        changed = resolved(own)
        if cluster:
            check_weights_place(changed)
        # What `auto` chooses depends on the dataset, so a setting that is its default may change something.
        if recipe != AUTO and changed == resolved(VARIATIONS[CPS]):
            raise UserError(f"--compare {name}: that changes nothing, so it is called cps in the list")
        if own == VARIATIONS[SUPERVISED]:
            raise UserError(f"--compare {name}: that is called baseline in the list")
        return name, own
    is_file = is_recipe_file(name)
    if is_file and cluster:
        raise UserError(
            f"--compare {name}: a file on this machine, which the cluster cannot read: use a recipe from "
            "`cps recipes list`, or settings, such as cps.teacher=average"
        )
    if not is_file and name not in recipe_names():
        raise UserError(
            f"--compare {name}: no such method; available: baseline, cps, the recipes {', '.join(recipe_names())}, "
            "recipe files (.yaml), and settings, such as cps.teacher=average"
        )
    path = str(Path(name).absolute()) if is_file else name
    if path == (os.path.abspath(recipe) if is_file else recipe):
        raise UserError(f"--compare {name}: that is --recipe, which is called cps in the list")
    method = Path(name).stem if is_file else name
    if is_file and method in (BASELINE, CPS, SUPERVISED, *recipe_names()):
        raise UserError(f"--compare {name}: another method is called {method}: rename the file")
    load_recipe(path, changes)
    return method, Variation(recipe=path)


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


def _cells(ratios: str, seeds: str, methods: "Mapping[Method, Variation]") -> "list[Cell]":
    from components.labeled_ratio import parse_ratio, ratio_text
    from components.matrix.cells import cells

    try:
        numbers = [int(seed) for seed in _parts(seeds)]
    except ValueError:
        raise UserError(f"--seeds {seeds!r} must be integers separated by commas, such as 1,2,3") from None
    shares = [ratio_text(parse_ratio(ratio)) for ratio in _parts(ratios)]
    if not numbers or not shares:
        raise UserError("--ratios and --seeds each need at least one value, such as --ratios 1/8 --seeds 1")
    return cells(sorted(set(shares), key=lambda text: parse_ratio(text)), sorted(set(numbers)), methods)


def _parts(text: str) -> list[str]:
    return [part.strip() for part in text.split(",") if part.strip()]


def _name(cell: "Cell") -> str:
    return f"ratio {cell.labeled_ratio} seed {cell.seed} {cell.method}"
