"""`cps dataset check`: what is wrong with a dataset, before anything is paid for it."""

import json
import sys
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

import click

from components.errors import UserError, WorkFailed

if TYPE_CHECKING:
    from components.dataset.check.findings import CheckReport
    from components.dataset.layouts import Layout

_LINES = 3
"""Items of a finding that are named on the terminal."""


@click.group()
def dataset() -> None:
    """Datasets before they are trained on.

    \b
    Example:
      cps dataset check photos/
    """


@dataset.command(short_help="Find what is wrong with a dataset.")
@click.argument("path", type=click.Path(exists=True, path_type=Path))
@click.option("-o", "--output", type=click.Path(dir_okay=False, path_type=Path), help="Page to write, with pictures.")
@click.option("--json", "as_json", is_flag=True, help="Everything that was found, as JSON.")
@click.option("--seed", default=0, show_default=True, type=click.IntRange(0), help="Of the splits that are looked at.")
@click.option("--stratify", is_flag=True, help="Look at splits that rank images by class (split.stratify).")
@click.option("--group-by", default="", help="Look at splits by sequence (split.group_by).")
def check(path: Path, output: Path | None, as_json: bool, seed: int, stratify: bool, group_by: str) -> None:
    """Find what is wrong with a dataset: a folder or an archive, as `cps run --dataset` takes it.

    Unreadable images, labels that do not fit, copies between training and val, classes that the labelled part
    lacks. Exit code 1 when something is fatal: training would fail, or its figures would be wrong.

    \b
    Examples:
      cps dataset check photos/
      cps dataset check photos/ -o report.html
      cps dataset check photos.tar --json | jq -r '.findings[].title'
    """
    from components.dataset.check import inspect_dataset
    from components.recipes.loader import load_recipe

    overrides = {"split.stratify": stratify, "split.group_by": group_by}
    settings = load_recipe("demo", overrides).split
    with _layout(path) as layout:
        with _progress() as advance:
            report = inspect_dataset(layout, seed=seed, settings=settings, on_progress=advance)
        if output:
            from components.dataset.check.page import render_check

            _write(output, render_check(report))
    click.echo(json.dumps(report.as_dict(), indent=2) if as_json else "\n".join(_lines(report)))
    if output:
        click.echo(output, err=as_json)
    if report.verdict == "fatal":
        raise WorkFailed(f"dataset {report.dataset} cannot be trained on: {report.findings[0].line()}")


def _lines(report: "CheckReport") -> Iterator[str]:
    images = report.images
    yield (
        f"{report.dataset}: {report.verdict} "
        f"({images['labeled']:,} labelled, {images['unlabeled']:,} unlabelled, {images['val']:,} val, "
        f"{images['test']:,} test images; {report.seconds:.1f} s)"
    )
    for finding in report.findings:
        yield f"{finding.level:<9}{finding.title} ({len(finding.items):,})"
        for item in finding.items[:_LINES]:
            yield f"         {item.text}"
        if len(finding.items) > _LINES:
            yield f"         … and {len(finding.items) - _LINES:,} more"
    for row in report.ratios:
        missing = f", without {', '.join(row.missing)}" if row.missing else ""
        counts = f"{row.labeled:,} labelled, {row.unlabeled:,} unlabelled{missing}"
        yield f"{row.ratio:<9}{row.problem or counts}"


@contextmanager
def _layout(path: Path) -> "Iterator[Layout]":
    """The dataset in a folder, or in an archive that is unpacked for as long as this lasts."""
    from components.dataset.layouts import read_layout
    from components.dataset.train_ids import with_train_ids
    from components.dataset.unpack import SUFFIXES, archive_stem, unpack

    name = archive_stem(path.name)
    if name is None and not path.is_dir():
        raise UserError(f"dataset {str(path)!r} is not an archive: give one of {', '.join(SUFFIXES)}, or a folder")
    with tempfile.TemporaryDirectory(prefix="dataset-") as scratch:
        folder = path.resolve()
        if not path.is_dir():
            folder = Path(scratch, "unpacked")
            folder.mkdir()
            unpack(path, folder)
        layout = read_layout(folder, "" if path.is_dir() else name or "")
        yield with_train_ids(layout, Path(scratch, "train-ids"))


@contextmanager
def _progress() -> Iterator[Callable[[int, int], None]]:
    """A bar on a terminal; nothing where standard error goes elsewhere."""
    if not sys.stderr.isatty():
        yield lambda _done, _total: None
        return
    from rich.console import Console
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
    with Progress(*columns, console=Console(stderr=True), transient=True) as bar:
        task = bar.add_task("images checked", total=None)
        yield lambda done, total: bar.update(task, completed=done, total=total)


def _write(path: Path, text: str) -> None:
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
    except OSError as error:
        raise UserError(f"{path} cannot be written: {error.strerror}") from None
