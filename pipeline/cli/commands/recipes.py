"""`cps recipes`, `cps compile`: named training settings, and the pipeline as YAML."""

from pathlib import Path

import click

from components.disk import writing
from components.errors import UserError
from pipeline.cli.options import LocalPath, complete_recipe
from pipeline.cli.project import FILE, is_compiled
from pipeline.parameters import parse_secret_fields, parse_settings


@click.command("compile", short_help="Write the pipeline as YAML for Kubeflow Pipelines.")
@click.option(
    "-o",
    "--output",
    default="pipeline.yaml",
    show_default=True,
    type=LocalPath(),
    help="File to write; must end in .yaml or .yml.",
)
@click.option(
    "--secret-fields",
    default="AWS_ACCESS_KEY_ID,AWS_SECRET_ACCESS_KEY",
    show_default=True,
    help="Names of the access key and the secret key inside the store's Secret, separated by a comma.",
)
def compile_(output: Path, secret_fields: str) -> None:
    """Write the pipeline as IR YAML, to upload in the Kubeflow Pipelines UI. Prints the path of the file.

    \b
    Examples:
      cps compile -o pipeline.yaml
      cps compile -o pipeline.yaml --secret-fields accesskey,secretkey     (for KFP's mlpipeline-minio-artifact)
    """
    from pipeline.compile import compile_pipeline

    if output.name == FILE and output.is_file() and not is_compiled(output):
        raise UserError(f"{output} holds the options of a project: give --output another name, such as pipeline.yaml")
    with writing(output, "--output"):
        click.echo(compile_pipeline(output, parse_secret_fields(secret_fields)))


@click.group()
def recipes() -> None:
    """List and show recipes: named training settings for `--recipe`.

    \b
    Examples:
      cps recipes list
      cps recipes show demo > mine.yaml; cps run --recipe mine.yaml
    """


@recipes.command("list")
def list_recipes() -> None:
    """List the built-in recipes, with the purpose of each.

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
@click.option("--set", "settings", multiple=True, metavar="NAME=VALUE", help="Override a setting; repeatable.")
def show_recipe(name: str, settings: tuple[str, ...]) -> None:
    """Print every setting of a recipe as YAML. NAME is a recipe or the path of a .yaml file.

    \b
    Example:
      cps recipes show demo --set training.epochs=3
    """
    import yaml

    from components.recipes import load_recipe

    recipe = load_recipe(name, parse_settings(settings))
    click.echo(yaml.safe_dump(recipe.model_dump(mode="json"), sort_keys=False), nl=False)
