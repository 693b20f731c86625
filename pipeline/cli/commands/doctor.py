"""`cps doctor`: find what is wrong with this installation, this machine and the services."""

import json
import textwrap
from typing import TYPE_CHECKING

import click

from pipeline.cli.options import CONNECTION, with_options

if TYPE_CHECKING:
    from pipeline.local.health import Finding

_MARKS = {"ok": ("ok", "green"), "note": ("note", "yellow"), "wrong": ("WRONG", "red")}
_INDENT = 21


@click.command(short_help="Find what is wrong here, and what to do about it.")
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
@with_options(CONNECTION)
def doctor(as_json: bool, **connection: str) -> None:
    """Check this installation, this machine and the services, and say what is wrong and what to do.

    Checks Python, Paddle and its device, memory, disks, ports, the object store, MLflow, proxies, the clock and the KFP
    server. Starts nothing and changes nothing. Exit code 1 if something is wrong.

    \b
    Examples:
      cps doctor
      cps doctor --json | jq '.[] | select(.state == "wrong")'
    """
    from components.disk import state_home
    from pipeline.local.health import examine

    findings = []
    for finding in examine(state_home(), kfp=lambda: _kfp(**connection)):
        findings.append(finding)
        if not as_json:
            _print(finding)  # at once, since some take seconds
    if as_json:
        click.echo(json.dumps([vars(finding) for finding in findings], indent=2))
    if any(finding.state == "wrong" for finding in findings):
        raise click.exceptions.Exit(1)


def _kfp(**connection: str) -> str:
    """Return the KFP server's address and version. Raises UserError, WorkFailed."""
    from pipeline.cli.commands.submit import connected

    server = connected(**connection)
    return f"{server.address}, version {server.version}"


def _print(finding: "Finding") -> None:
    mark, color = _MARKS[finding.state]
    text = f"{finding.text}. {finding.remedy}" if finding.remedy else finding.text
    lines = textwrap.wrap(text, 80 - _INDENT, break_long_words=False, break_on_hyphens=False)
    click.echo(f"{click.style(f'{mark:<7}', color)}{finding.what:<14}{lines[0]}")
    for line in lines[1:]:
        click.echo(f"{'':<{_INDENT}}{line}")
