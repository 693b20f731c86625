"""Generate the manual from the commands' help: python -m pipeline.cli.manual > docs/reference/commands.md"""

from collections.abc import Iterator

import click

_WIDTH = 100
_HEAD = """# Command reference

The `--help` text of every command. [Commands](../commands.md) groups them by task. `make reference` generates this
page; a test checks that it is up to date.
"""


def manual(root: click.Group, name: str) -> str:
    """Return the full help of all commands, in their order, as Markdown."""
    return "\n".join([_HEAD, *_sections(root, click.Context(root, info_name=name, **root.context_settings))])


def _sections(command: click.Command, context: click.Context) -> Iterator[str]:
    context.terminal_width = _WIDTH
    yield f"## {context.command_path}\n\n```text\n{command.get_help(context)}\n```\n"
    if isinstance(command, click.Group):
        for name in command.list_commands(context):
            child = command.get_command(context, name)
            if child and not child.hidden:
                yield from _sections(child, click.Context(child, context, name, **child.context_settings))


if __name__ == "__main__":
    from pipeline.cli.main import cli

    print(manual(cli, "cps"), end="")
