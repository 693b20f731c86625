"""`cps dataset check`: what is wrong with a dataset, before anything is paid for it."""

import json
import shlex
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

import click

from components import progress
from components.errors import UserError, WorkFailed
from components.files import replacing
from pipeline.cli.options import complete_file, quiet_option
from pipeline.cli.signals import RESTARTS, on_interrupt

if TYPE_CHECKING:
    from components.dataset.check.findings import CheckReport
    from components.dataset.layouts import Layout

_LINES = 3
"""Items of a finding that are named on the terminal."""


@click.group()
def dataset() -> None:
    """Datasets before they are trained on.

    \b
    Examples:
      cps dataset check photos/
      cps dataset scenes photos/
    """


@dataset.command(short_help="Find what is wrong with a dataset.")
@click.argument("sources", metavar="SOURCE...", nargs=-1, required=True, shell_complete=complete_file)
@click.option("--sha256", default="", help="Of the archives, in hex, in their order; - for one that is not known.")
@click.option("--pools", default="", help="Further unlabelled pools of the dataset to take, separated by commas.")
@click.option("-o", "--output", type=click.Path(dir_okay=False, path_type=Path), help="Page to write, with pictures.")
@click.option("--json", "as_json", is_flag=True, help="Everything that was found, as JSON.")
@click.option("--seed", default=0, show_default=True, type=click.IntRange(0), help="Of the splits that are looked at.")
@click.option("--stratify", is_flag=True, help="Look at splits that rank images by class (split.stratify).")
@click.option("--group-by", default="", help="Look at splits by sequence (split.group_by).")
@quiet_option
@on_interrupt("nothing is left half done; the same command begins again, and goes on with a download where it was")
def check(
    sources: tuple[str, ...],
    sha256: str,
    pools: str,
    output: Path | None,
    as_json: bool,
    seed: int,
    stratify: bool,
    group_by: str,
) -> None:
    """Find what is wrong with a dataset: a folder, an archive, an http(s):// or s3:// address of one, or several of
    these that belong together, as `cps run --dataset` takes them.

    Unreadable images, labels that do not fit, copies between training and val, classes that the labelled part
    lacks. Exit code 1 when something is fatal: training would fail, or its figures would be wrong.

    \b
    Examples:
      cps dataset check photos/
      cps dataset check photos/ -o report.html
      cps dataset check leftImg8bit_trainvaltest.zip gtFine_trainvaltest.zip
      cps dataset check photos.tar --json | jq -r '.findings[].title'
    """
    from components.dataset.check.inspect import inspect_dataset
    from components.dataset.sources.address import redacted
    from components.recipes import Overrides, load_recipe

    overrides: Overrides = {"split.stratify": stratify, "split.group_by": group_by}
    settings = load_recipe("demo", overrides).split
    with _layout(_joined(sources), sha256, pools) as layout:
        with _progress() as advance:
            source = " ".join(map(redacted, sources))
            report = inspect_dataset(layout, seed=seed, settings=settings, source=source, on_progress=advance)
        if output:
            from components.dataset.check.page import render_check

            _write(output, render_check(report))
    click.echo(json.dumps(report.as_dict(), indent=2) if as_json else "\n".join(_lines(report)))
    if output:
        click.echo(output, err=as_json)
    if report.verdict == "fatal":
        raise WorkFailed(f"dataset {report.dataset} cannot be trained on: {report.findings[0].line()}")


@dataset.command(short_help="Draw photographs to try things out with.")
@click.argument("folder", type=click.Path(path_type=Path))
@click.option(
    "--train", default=32, show_default=True, type=click.IntRange(2), help="Labelled photographs to train on."
)
@click.option("--val", default=8, show_default=True, type=click.IntRange(1), help="Labelled photographs to judge by.")
@click.option("--unlabeled", default=40, show_default=True, type=click.IntRange(0), help="Photographs without labels.")
@click.option("--width", default=256, show_default=True, type=click.IntRange(64, 4096), help="Pixels.")
@click.option("--height", default=128, show_default=True, type=click.IntRange(32, 4096), help="Pixels.")
@click.option("--seed", default=0, show_default=True, type=click.IntRange(0), help="Another one gives other streets.")
@quiet_option
@on_interrupt(RESTARTS)
def scenes(folder: Path, unlabeled: int, **counts: int) -> None:
    """Draw street scenes into a new FOLDER, as one's own photographs would lie there: images/, labels/, classes.json.

    \b
    Examples:
      cps dataset scenes photos/
      cps dataset scenes large/ --train 200 --val 20 --unlabeled 1000 --width 1024 --height 512
    """
    from components.scenes.generate import SceneSettings, draw_photographs

    draw_photographs(folder, SceneSettings(**counts), unlabeled)
    click.echo(str(folder))


def _joined(sources: tuple[str, ...]) -> str:
    """As one parameter, which is how a run takes them."""
    return sources[0] if len(sources) == 1 else shlex.join(sources)


def _lines(report: "CheckReport") -> Iterator[str]:
    from components.dataset.layouts import account_lines, pools_text

    images = report.images
    yield (
        f"{report.dataset}: {report.verdict} "
        f"({images['labeled']:,} labelled, {images['unlabeled']:,} unlabelled, {images['val']:,} val, "
        f"{images['test']:,} test images; {report.seconds:.1f} s)"
    )
    yield f"layout   {report.layout}, {len(report.classes)} classes"
    yield from (f"         {note}" for note in (*report.notes, *account_lines(report.account)))
    if report.pools:
        yield f"         not looked at without --pools: {pools_text(report.pools)}"
    for finding in report.findings:
        yield f"{finding.level:<9}{finding.title} ({len(finding.items):,})"
        for item in finding.items[:_LINES]:
            yield f"         {item.text}"
        if len(finding.items) > _LINES:
            yield f"         … and {len(finding.items) - _LINES:,} more"
    for row in report.ratios:
        own = " by its own list" if row.origin == "lists" else ""
        missing = f", without {', '.join(row.missing)}" if row.missing else ""
        counts = f"{row.labeled:,} labelled, {row.unlabeled:,} unlabelled{own}{missing}"
        yield f"{row.ratio:<9}{row.problem or counts}"


@contextmanager
def _layout(source: str, sha256: str, pools: str) -> "Iterator[Layout]":
    """The dataset of a source, as a run would store it; what is unpacked lasts as long as this."""
    from components.dataset.prepare import opened_layout
    from components.dataset.sources.address import check_source, parse_sources
    from components.files import default_cache, scratch_folder, work_folder
    from pipeline.local.environment import open_store

    sources = parse_sources(source, sha256)
    for part in sources:
        check_source(part.text, is_here=True)
    store = open_store() if any(part.text.startswith("s3://") for part in sources) else None
    downloads = default_cache() / "downloads"
    with (
        scratch_folder(work_folder()) as scratch,
        opened_layout(source, sha256, store, scratch, downloads, pools) as layout,
    ):
        yield layout


@contextmanager
def _progress() -> Iterator[Callable[[int, int], None]]:
    """A bar on a terminal; nothing where standard error goes elsewhere."""
    if progress.is_quiet() or not sys.stderr.isatty():
        yield lambda _done, _total: None
        return
    from rich.console import Console
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
    with Progress(*columns, console=Console(stderr=True), transient=True) as bar:
        task = bar.add_task("images checked", total=None)
        yield lambda done, total: bar.update(task, completed=done, total=total)


def _write(path: Path, text: str) -> None:
    """All of it or nothing: a page that was there stays where the disk has no room for another."""
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        if path.exists() and not path.is_file():  # such as /dev/stdout, which no file may replace
            path.write_text(text)
            return
        with replacing(path) as partial:
            partial.write_text(text)
    except OSError as error:
        raise UserError(f"{path} cannot be written: {error.strerror}") from None
