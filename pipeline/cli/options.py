"""What commands have in common: `--quiet`, and what a shell completes after an option."""

import click
from click.shell_completion import CompletionItem

from components import progress


def complete_file(_context: click.Context, _parameter: click.Parameter, incomplete: str) -> list[CompletionItem]:
    """Have the shell complete a name of a file or folder."""
    return [CompletionItem(incomplete, type="file")]


def complete_recipe(_context: click.Context, _parameter: click.Parameter, incomplete: str) -> list[CompletionItem]:
    """The named recipes, else files."""
    from components.recipes import recipe_names

    named = [CompletionItem(name) for name in recipe_names() if name.startswith(incomplete)]
    return named or [CompletionItem(incomplete, type="file")]


def _be_quiet(_context: click.Context, _parameter: click.Parameter, value: bool) -> None:
    progress.be_quiet(value)


quiet_option = click.option(
    "-q", "--quiet", is_flag=True, expose_value=False, callback=_be_quiet, help="No progress: only results and errors."
)
