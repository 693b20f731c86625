"""`cps run`, `cps compile`, `cps recipes`: the pipeline and its settings."""

import json
import os
import shlex
import sys
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import click

from components.errors import UserError
from pipeline.cli_completion import files
from pipeline.cli_completion import recipes as recipe_names
from pipeline.cli_manners import GOES_ON, quiet_option, when_stopped


@click.command(short_help="Run the whole pipeline on this machine.")
@click.option(
    "--dataset",
    default="scenes",
    show_default=True,
    shell_complete=files,
    help="A folder, archive, http(s) address, s3:// URI, several of these, or scenes: generated street scenes.",
)
@click.option("--sha256", default="", help="What a dataset file's sha256 must be; of several, in their order.")
@click.option("--pools", default="", help="Further unlabelled pools of the dataset to use, separated by commas.")
@click.option("--ratio", default="1/8", show_default=True, help="Share of the labels that is used, as a fraction.")
@click.option(
    "--recipe",
    default="demo",
    show_default=True,
    shell_complete=recipe_names,
    help="Named settings (`cps recipes`), or a .yaml file.",
)
@click.option(
    "--set", "settings", multiple=True, metavar="NAME=VALUE", help="Change a setting of the recipe; repeatable."
)
@click.option(
    "--seed", default=0, show_default=True, type=click.IntRange(0), help="Decides split, initialisation and order."
)
@click.option(
    "--epochs", default=0, type=click.IntRange(0), help="Passes over the longer list.  [default: the recipe's]"
)
@click.option(
    "--batch-size", default=0, type=click.IntRange(0), help="Labelled images in a step.  [default: the recipe's]"
)
@click.option("--processes", default=1, show_default=True, type=click.IntRange(1), help="Training processes.")
@click.option(
    "--eval-shards",
    default=1,
    show_default=True,
    type=click.IntRange(1),
    help="Evaluation tasks that share the checkpoints.",
)
@click.option(
    "--predict",
    "predict_images",
    default="val",
    show_default=True,
    help="What is segmented at the end: val, test, unlabeled, or a file or folder.",
)
@click.option(
    "--predict-limit", default=24, show_default=True, type=click.IntRange(0), help="At most so many images; 0: all."
)
@click.option("--resume", metavar="RUN", default="", help="Go on with this run (`cps runs list`), and no other.")
@click.option("--json", "as_json", is_flag=True, help="The result as JSON on standard output.")
@quiet_option
@click.pass_context
@when_stopped(GOES_ON)
def run(
    context: click.Context,
    /,
    dataset: str,
    ratio: str,
    recipe: str,
    settings: tuple[str, ...],
    predict_images: str,
    resume: str,
    as_json: bool,
    **others: Any,
) -> None:
    """Run the whole pipeline on this machine: split, train, score every checkpoint, keep the best, predict.

    What is finished is not done again: the same command twice finds the same run, and after an interruption it
    goes on where it was. --resume needs the run's key alone, and refuses options that make another run.

    \b
    Examples:
      cps run
      cps run --dataset "leftImg8bit_trainvaltest.zip gtFine_trainvaltest.zip" --ratio 1/8
      cps run --dataset photos/ --recipe camvid-mobilenetv2 --ratio 1/4
      cps run --ratio 1/16 --seed 1 --set optimization.learning_rate=0.01 --set cps.weight=0
      cps run --resume demo-1-8-s0-1a2b3c4d5e6f
      cps run --json | jq .best.mIoU
    """
    from pipeline.display import display
    from pipeline.local import run_locally
    from pipeline.outcome import collect_outcome, print_outcome
    from pipeline.settings import resolve_environment, state_home

    parameters = pipeline_parameters(dataset, ratio, recipe, settings, predict_images, **others)
    home = state_home()
    environment = resolve_environment(home)
    if resume:
        parameters.update(_resumed(resume, home, environment, _only_given(context, parameters)))
    with display() as draw:
        outcome = run_locally(parameters, home=home, environment=environment, on_event=draw)
    if outcome.exit_code:
        click.echo(ending(outcome.exit_code, outcome.failure, outcome.log), err=True)
        sys.exit(outcome.exit_code)
    collected = collect_outcome(outcome, home, environment)
    if as_json:
        click.echo(json.dumps(collected, indent=2))
    else:
        print_outcome(collected)


def _only_given(context: click.Context, parameters: dict[str, Any]) -> dict[str, Any]:
    """Those of the run's parameters that the command line gave, and did not leave at their default."""
    of = {
        "dataset": "dataset",
        "dataset_sha256": "sha256",
        "dataset_pools": "pools",
        "labeled_ratio": "ratio",
        "recipe": "recipe",
        "overrides": "settings",
        "seed": "seed",
        "epochs": "epochs",
        "batch_size": "batch_size",
    }
    default = click.core.ParameterSource.DEFAULT
    return {name: parameters[name] for name in of if context.get_parameter_source(of[name]) != default}


def _resumed(name: str, home: Path, environment: dict[str, str], given: dict[str, Any]) -> dict[str, Any]:
    """The parameters of the recorded run `name`. Raises UserError where what was given makes another one."""
    from components.storage.client import Store
    from components.storage.settings import settings_from_environment
    from pipeline.resume import Given, check_dataset, recorded_run, resumed_parameters

    store = Store(settings_from_environment(environment))
    record = recorded_run(store, name)
    lengths = {"training.epochs": given.get("epochs"), "training.batch_size": given.get("batch_size")}
    overrides = {
        **json.loads(given.get("overrides", "{}")),
        **{setting: value for setting, value in lengths.items() if value},
    }
    wanted = Given(given.get("recipe"), given.get("labeled_ratio"), given.get("seed"), overrides)
    parameters = resumed_parameters(record, home / "runs" / record.run_key, wanted)
    if "dataset" in given:
        check_dataset(
            record, store, given["dataset"], given.get("dataset_sha256", ""), pools=given.get("dataset_pools", "")
        )
    return parameters


@click.command("compile", short_help="Write the pipeline as YAML for Kubeflow Pipelines.")
@click.option(
    "-o", "--output", default="cps.yaml", show_default=True, type=click.Path(path_type=Path), help="Where to write it."
)
@click.option(
    "--secret-fields",
    default="AWS_ACCESS_KEY_ID,AWS_SECRET_ACCESS_KEY",
    show_default=True,
    help="Names of access key and secret key inside the Secret.",
)
def compile_(output: Path, secret_fields: str) -> None:
    """Write the pipeline as the IR YAML that the Kubeflow Pipelines UI takes.

    \b
    Examples:
      cps compile -o cps.yaml
      cps compile -o cps.yaml --secret-fields accesskey,secretkey     (KFP's own mlpipeline-minio-artifact)
    """
    from pipeline.cluster import compile_pipeline

    click.echo(compile_pipeline(output, parse_secret_fields(secret_fields)))


def parse_secret_fields(text: str) -> tuple[str, str]:
    """Names of access key and secret key inside a Secret; ours where none are given. Raises UserError."""
    from components.training.pods import KEYS

    fields = [name.strip() for name in text.split(",")] if text else [*KEYS]
    if len(fields) != 2 or not all(fields):
        raise UserError(f"--secret-fields {text!r} must be two names, separated by a comma")
    return fields[0], fields[1]


@click.group()
def recipes() -> None:
    """Named settings of the training.

    \b
    Examples:
      cps recipes list
      cps recipes show demo > mine.yaml; cps run --recipe mine.yaml
    """


@recipes.command("list")
def list_recipes() -> None:
    """The recipes that come with the project, and what they are for.

    \b
    Example:
      cps recipes list
    """
    from components.recipes import load_recipe, recipe_names

    names = recipe_names()
    width = max(map(len, names))
    for name in names:
        click.echo(f"{name:<{width}}  {load_recipe(name).summary}")


@recipes.command("show")
@click.argument("name", shell_complete=recipe_names)
@click.option("--set", "settings", multiple=True, metavar="NAME=VALUE", help="Change a setting; repeatable.")
def show_recipe(name: str, settings: tuple[str, ...]) -> None:
    """Every setting of a recipe with its value, as YAML.

    \b
    Example:
      cps recipes show demo --set training.epochs=3
    """
    import yaml

    from components.recipes import load_recipe

    recipe = load_recipe(name, parse_settings(settings))
    click.echo(yaml.safe_dump(recipe.model_dump(mode="json"), sort_keys=False), nl=False)


def pipeline_parameters(
    dataset: str, ratio: str, recipe: str, settings: Iterable[str], predict_images: str, **others: Any
) -> dict[str, Any]:
    """A command's options as the pipeline's parameters, paths from the root, checked. Raises UserError."""
    parameters = {
        "dataset": _absolute_sources(dataset),
        "dataset_sha256": others.pop("sha256"),
        "dataset_pools": others.pop("pools"),
        "labeled_ratio": ratio,
        "recipe": _absolute(recipe) if recipe.endswith((".yaml", ".yml")) else recipe,
        "overrides": json.dumps(_with_absolute_backbone(parse_settings(settings))),
        "predict_images": _absolute(predict_images),
        **others,
    }
    _validate(parameters)
    return parameters


def parse_settings(settings: Iterable[str]) -> dict[str, Any]:
    """`training.epochs=3` and so on as a mapping; values are read as YAML. Raises UserError."""
    import yaml

    parsed: dict[str, Any] = {}
    for setting in settings:
        name, equals, text = setting.partition("=")
        if not equals or not name.strip():
            raise UserError(f"--set {setting!r} must be NAME=VALUE, such as training.epochs=3")
        try:
            parsed[name.strip()] = yaml.safe_load(text)
        except yaml.YAMLError:
            raise UserError(f"--set {setting!r}: {text!r} is not a value in YAML") from None
    return parsed


def _absolute(path: str) -> str:
    """A path that exists, from the root: a step need not run in this directory."""
    return os.path.abspath(path) if os.path.exists(path) else path


def _absolute_sources(dataset: str) -> str:
    from components.dataset.sources import parse_sources

    sources = [_absolute(source.text) for source in parse_sources(dataset)]
    return shlex.join(sources) if len(sources) > 1 else sources[0]


def _with_absolute_backbone(settings: dict[str, Any]) -> dict[str, Any]:
    name = "network.pretrained"
    return {**settings, name: _absolute(str(settings[name]))} if name in settings else settings


def _validate(parameters: dict[str, Any]) -> None:
    from components.dataset.step import validate_parameters
    from components.parameters import check_prediction, check_sharing

    check_sharing(processes=parameters["processes"], eval_shards=parameters["eval_shards"])
    check_prediction(images=parameters["predict_images"], limit=parameters["predict_limit"])
    validate_parameters(
        source=parameters["dataset"],
        sha256=parameters["dataset_sha256"],
        labeled_ratio=parameters["labeled_ratio"],
        recipe=parameters["recipe"],
        overrides_json=parameters["overrides"],
        seed=parameters["seed"],
        epochs=parameters["epochs"],
        batch_size=parameters["batch_size"],
    )


def ending(exit_code: int, failure: str, log: Path) -> str:
    """What is said of a pipeline that did not end well."""
    if exit_code > 128:
        return f"cps: stopped; {GOES_ON}"
    return f"cps: error: {failure or 'the pipeline ended without saying why'} (log: {log})"
