"""`cps doctor`: find what is wrong with this installation, this machine and the services."""

import json
import textwrap
from typing import TYPE_CHECKING

import click

from components.errors import WorkFailed
from pipeline.cli.options import CONNECTION, with_options

if TYPE_CHECKING:
    from components.training.gpu_check.table import Row
    from pipeline.local.health import Finding

_MARKS = {"ok": ("ok", "green"), "note": ("note", "yellow"), "wrong": ("WRONG", "red")}
_INDENT = 21


@click.command(short_help="Find what is wrong here, and what to do about it.")
@click.option("--device", type=click.Choice(["gpu", "cpu"]), help="Train and score on this device instead.")
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
@with_options(CONNECTION)
def doctor(device: str | None, as_json: bool, **connection: str) -> None:
    """Check this installation, this machine and the services, and say what is wrong and what to do.

    Checks Python, Paddle and its device, memory, disks, ports, the object store, MLflow, proxies, the clock and the KFP
    server. Starts nothing and changes nothing. Exit code 1 if something is wrong.

    --device gpu shows within eight minutes that training and scoring work on this machine's GPU: 20 steps of the
    Cityscapes recipe in float32, TF32 and bfloat16 with random weights, the first loss against the CPU, what a step
    brings back from the GPU, training on two GPUs if there are two, and a sweep of two checkpoints against the CPU.
    --device cpu runs the same on the CPU, with small images. Nothing is downloaded or kept.

    \b
    Examples:
      cps doctor
      cps doctor --device gpu
      cps doctor --json | jq '.[] | select(.state == "wrong")'
    """
    if device:
        _try(device, as_json=as_json)
        return
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


def _try(device: str, *, as_json: bool) -> None:
    """Run the check of the device and print its table. Raises WorkFailed, which names the lines that failed."""
    from components.training.gpu_check.run import check_device
    from components.training.gpu_check.table import HEADER, table_lines, verdict

    rows: list[Row] = []
    if not as_json:
        click.echo(HEADER)
    for row in check_device(device):
        rows.append(row)
        if not as_json:
            click.echo("\n".join(table_lines(row)))  # at once, since some take a minute
    if as_json:
        click.echo(json.dumps([vars(row) for row in rows], indent=2))
    if failed := verdict(rows):
        raise WorkFailed(failed)


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
