"""`cps recipes`, `cps compile`: named settings of the training, and the pipeline as YAML."""

from pathlib import Path

import click

from pipeline.cli.options import complete_recipe
from pipeline.parameters import parse_secret_fields, parse_settings


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
    from pipeline.compile import compile_pipeline

    click.echo(compile_pipeline(output, parse_secret_fields(secret_fields)))


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
@click.argument("name", shell_complete=complete_recipe)
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
