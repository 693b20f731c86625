"""`cps matrix`: the label-efficiency curve, and whether CPS helped."""

import json
import shlex
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from components.errors import UserError
from pipeline.cli_run import pipeline_parameters, run

if TYPE_CHECKING:
    from components.study.comparison import Cell
    from components.study.report import Study
    from pipeline.matrix import MatrixOutcome


@click.command(short_help="mIoU by number of labels, CPS beside its supervised twin.")
@click.option("--ratios", default="1/16,1/8,1/4,1/2", show_default=True, help="Shares of the labels, by commas.")
@click.option("--seeds", default="1,2,3", show_default=True, help="Seeds, by commas.")
@click.option("--baseline", is_flag=True, help="Train the supervised twin of every run too: weight 0, as many steps.")
@click.option(
    "-o", "--output", default="matrix", show_default=True, type=click.Path(path_type=Path), help="Folder of the result."
)
@click.option("--json", "as_json", is_flag=True, help="The result as JSON on standard output.")
def matrix(
    dataset: str, ratios: str, seeds: str, recipe: str, settings: tuple[str, ...], output: Path, **others: Any
) -> None:
    """Run every combination of label ratio and seed, and draw mIoU against the number of labels.

    With --baseline each run has its supervised twin, and every ratio a verdict: what CPS gained, and how sure that is.
    Finished runs are found again, so an interrupted matrix goes on where it was, and a larger one adds to a smaller.
    The folder gets matrix.html, matrix.png and matrix.csv; MLflow gets them too.

    \b
    Examples:
      cps matrix --ratios 1/8,1/4 --seeds 1 --baseline
      cps matrix --dataset photos/ --recipe camvid-mobilenetv2 --baseline -o study
    """
    from components.recipes import load_recipe
    from pipeline.display import display
    from pipeline.matrix import run_matrix
    from pipeline.settings import resolve_environment, state_home

    baseline, as_json = others.pop("baseline"), others.pop("as_json")
    cells = _cells(ratios, seeds, baseline=baseline)
    parameters = pipeline_parameters(
        dataset, cells[0].ratio, recipe, settings, "val", seed=cells[0].seed, predict_limit=1, **others
    )
    overrides = json.loads(parameters["overrides"])
    if baseline and load_recipe(parameters["recipe"], overrides).cps.weight == 0:
        raise UserError("--baseline compares with cps.weight=0, which the settings give already: leave one of them out")
    home = state_home()
    environment = resolve_environment(home)

    def announce(number: int, cell: "Cell", what: str) -> None:
        click.echo(
            f"[matrix] {number}/{len(cells)} ratio {cell.ratio} seed {cell.seed} {cell.method}: {what}", err=True
        )

    with display(quiet=False) as draw:
        outcome = run_matrix(cells, parameters, home=home, environment=environment, on_event=draw, on_cell=announce)
    for cell, reason in outcome.failed.items():
        click.echo(f"cps: error: {_name(cell)}: {reason}", err=True)
    if outcome.scores and outcome.dataset:
        _report(_study(outcome, parameters, overrides), output, environment, as_json=as_json)
    if outcome.exit_code:
        click.echo("cps: the same command goes on where this one was", err=True)
        sys.exit(outcome.exit_code)


# What means the same as for `cps run` is the same option, in the order in which one reads them.
_OPTIONS = {option.name: option for option in (*run.params, *matrix.params)}
_ORDER = (
    *("dataset", "sha256", "pools", "ratios", "seeds", "baseline", "recipe", "settings"),
    *("epochs", "batch_size", "processes", "eval_shards", "output", "as_json"),
)
matrix.params = [_OPTIONS[name] for name in _ORDER]


def _study(outcome: "MatrixOutcome", parameters: dict[str, Any], overrides: dict[str, Any]) -> "Study":
    from components.recipes import load_recipe
    from components.study.published import published
    from components.study.report import Study

    recipe, dataset = load_recipe(parameters["recipe"], overrides), outcome.dataset
    settings = f" with {', '.join(f'{name}={value}' for name, value in overrides.items())}" if overrides else ""
    return Study(
        dataset=dataset["name"],
        recipe=recipe.name + settings,
        images=dataset["val"],
        command=shlex.join(["cps", *sys.argv[1:]]),
        scores=tuple(outcome.scores),
        references=published(recipe, dataset["name"], len(dataset["class_names"])),
    )


def _report(study: "Study", folder: Path, environment: dict[str, str], *, as_json: bool) -> None:
    from components.study.comparison import gains
    from components.study.publish import publish
    from components.study.report import summary, write_files

    files = write_files(study, folder)
    publish(study, files.values(), environment.get("MLFLOW_TRACKING_URI", ""))
    if as_json:
        click.echo(json.dumps(summary(study), indent=2))
        return
    for gain in gains(study.scores):
        click.echo(f"{gain.ratio:<6} {gain.labeled:g} labelled images: {gain.verdict}")
    for path in files.values():
        click.echo(str(path))


def _cells(ratios: str, seeds: str, *, baseline: bool) -> "list[Cell]":
    from components.dataset.ratio import parse_ratio, ratio_text
    from components.study.comparison import cells

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
    return f"ratio {cell.ratio} seed {cell.seed} {cell.method}"
