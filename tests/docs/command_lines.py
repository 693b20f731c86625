"""The command lines in the documentation, and whether this version accepts them. Nothing is run."""

import re
import shlex
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path
from unittest.mock import patch

import click

from components.errors import UserError
from components.recipes import load_recipe
from components.recipes.loader import recipe_names
from pipeline.cli.main import cli
from pipeline.parameters import parse_settings
from tests.project_files import REPOSITORY

TARGETS = set(re.findall(r"^([a-z-]+):", (REPOSITORY / "Makefile").read_text(), re.M))
_FENCE = re.compile(r"^ *(`{3,}|~{3,})(.*)$")
_START = re.compile(r"(?:^|[;&|(`]\s*)(?:\.venv/bin/)?(cps|make)(?= |$)")
_PLACEHOLDER = "…"
_WITHOUT_SHELL = ("text", "python", "yaml", "json", "math", "mermaid")


def command_lines(text: str) -> Iterator[tuple[int, str]]:
    """Yield line number and text of every `cps …` and `make …` in code: in blocks of shell, and in spans."""
    lines = text.splitlines()
    fence, language, in_list = "", "", False
    for number, line in enumerate(lines, 1):
        if line and not line.startswith(" "):
            in_list = bool(re.match(r"(-|\d+\.) ", line))
        match = _FENCE.match(line)
        if match and not fence:
            fence, language = match[1], match[2].strip()
        elif match and line.strip() == fence:
            fence = ""
        elif fence or (re.match(r" {4,}\S", line) and not in_list):
            if fence and language.startswith(_WITHOUT_SHELL):
                continue
            yield from ((number, command) for command in _commands(_joined(lines, number)))
        else:
            spans = re.findall(r"`((?:\.venv/bin/)?(?:cps|make) [^`]+)`", _joined_span(lines, number))
            yield from ((number, span.removeprefix(".venv/bin/")) for span in spans)


def _joined(lines: list[str], number: int) -> str:
    """Return a line with those that it continues on; nothing for a line that continues another."""
    if number > 1 and lines[number - 2].endswith("\\"):
        return ""
    line = lines[number - 1]
    while line.endswith("\\") and number < len(lines):
        line, number = line[:-1] + lines[number].strip(), number + 1
    return line


def _joined_span(lines: list[str], number: int) -> str:
    """Return the line, with the rest of a code span that goes over its end."""
    line = lines[number - 1]
    # Drop the end of a span that begins on the line before.
    if number > 1 and _is_open(lines, number - 1):
        line = line.partition("`")[2]
    if line.count("`") % 2 and number < len(lines):
        line += " " + lines[number].partition("`")[0] + "`"
    return line


def _is_open(lines: list[str], number: int) -> bool:
    """Return whether a code span is open at the end of line `number`, counting from the start of the paragraph."""
    count = 0
    while number > 0 and lines[number - 1].strip():
        count += lines[number - 1].count("`")
        number -= 1
    return count % 2 == 1


def _commands(line: str) -> Iterator[str]:
    line = re.split(r"\s#\s", f"{line} ")[0]
    for match in _START.finditer(line.strip()):
        rest = line.strip()[match.start(1) :]
        yield re.split(r"\s(?:&&|\|\||[;|>])\s|\)", rest)[0].strip()


def problem(command: str) -> str:
    """Return what is wrong with a command line, or an empty string."""
    words = [word for word in shlex.split(command) if word not in (_PLACEHOLDER, "...")]
    if words[0] == "make":
        unknown = [word for word in words[1:] if "=" not in word and word not in TARGETS and word != "TARGET"]
        return f"no target {unknown[0]}" if unknown else ""
    try:
        _parse(words[1:])
    except click.BadParameter as error:
        # N and FORMAT stand for a value.
        return "" if re.search(r"'[A-Z]+' is not", error.format_message()) else error.format_message()
    except click.BadOptionUsage as error:
        # An option may be mentioned without a value, as the last word.
        return "" if error.option_name == words[-1] else error.format_message()
    except click.ClickException as error:
        return error.format_message()
    except UserError as error:
        return str(error)
    return ""


def _parse(words: list[str]) -> None:
    """Parse the arguments of `cps` as click does, check the settings, and call no command. Raises click's errors."""
    command: click.Command = cli
    context = click.Context(cli, info_name="cps", **cli.context_settings)
    while isinstance(command, click.Group) and words and not words[0].startswith("-"):
        name, found, words = command.resolve_command(context, words)
        assert found is not None
        command, context = found, click.Context(found, context, name, **found.context_settings)
    with ExitStack() as stack:
        for parameter in command.get_params(context):
            stack.enter_context(patch.object(parameter, "callback", None))
            stack.enter_context(patch.object(parameter, "required", False))
            if isinstance(parameter.type, click.Path):
                stack.enter_context(patch.object(parameter.type, "exists", False))
        wanted = [word for word in words if word not in ("--help", "-h", "--version")]
        if not isinstance(command, click.Group):
            command.parse_args(context, wanted)
        elif wanted:
            raise click.UsageError(f"{command.name} has no option {wanted[0]}")
    settings = context.params.get("overrides") or ()
    recipe = context.params.get("recipe") or "demo"
    load_recipe(recipe if recipe in recipe_names() else "demo", parse_settings(settings))


def pages() -> list[Path]:
    """Return every page whose commands must exist."""
    names = ("README.md", "CONTRIBUTING.md", "manifests/README.md")
    return [*(REPOSITORY / name for name in names), *sorted((REPOSITORY / "docs").rglob("*.md"))]
