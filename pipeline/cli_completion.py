"""`cps completion`: what a shell needs to complete commands, options, recipes and files."""

import click
from click.shell_completion import CompletionItem, get_completion_class

VARIABLE = "_CPS_COMPLETE"
"""Click answers a shell's question where this is set."""


@click.command(short_help="Completion for bash, zsh or fish.")
@click.argument("shell", type=click.Choice(["bash", "zsh", "fish"]))
@click.pass_context
def completion(context: click.Context, shell: str) -> None:
    """Print what makes SHELL complete commands, options, recipes and file names after `cps`.

    \b
    Examples:
      cps completion bash > ~/.local/share/bash-completion/completions/cps
      cps completion fish > ~/.config/fish/completions/cps.fish
      eval "$(cps completion zsh)"                               (in ~/.zshrc, after compinit)
    """
    found = get_completion_class(shell)
    assert found is not None
    click.echo(found(context.find_root().command, {}, "cps", VARIABLE).source())


def files(_context: click.Context, _parameter: click.Parameter, incomplete: str) -> list[CompletionItem]:
    """Have the shell complete a name of a file or folder."""
    return [CompletionItem(incomplete, type="file")]


def recipes(_context: click.Context, _parameter: click.Parameter, incomplete: str) -> list[CompletionItem]:
    """The named recipes, else files."""
    from components.recipes import recipe_names

    named = [CompletionItem(name) for name in recipe_names() if name.startswith(incomplete)]
    return named or [CompletionItem(incomplete, type="file")]
