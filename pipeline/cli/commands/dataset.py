"""`cps init`: make a folder of images and masks a dataset. `cps dataset`: check a dataset, or generate one."""

import re
import shlex
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from components import progress
from components.disk import writing
from components.errors import UserError, WorkFailed
from components.files import is_stream, replacing
from pipeline.cli.options import LocalPath, complete_file, quiet_option
from pipeline.cli.signals import RESTARTS, on_interrupt

if TYPE_CHECKING:
    from components.dataset.check.findings import CheckReport
    from components.dataset.layouts import Layout
    from components.dataset.propose.contents import Mark
    from components.dataset.propose.proposal import Proposal
    from components.storage.client import Store

_LINES = 3
"""Number of items that the terminal shows of each finding."""


@click.command(short_help="Propose the classes and validation split that a folder lacks.")
@click.argument("folder", type=click.Path(file_okay=False, path_type=Path))
@click.option("-y", "--yes", is_flag=True, help="Write the proposed files without asking.")
@click.option("--replace", is_flag=True, help="With --yes, also replace files that exist.")
@click.option(
    "--val-share",
    type=click.FloatRange(0, 0.5, min_open=True),
    help="Share of the labelled images to hold out for validation.  [default: 0.2; ten images of 30 to 50]",
)
@click.option("--seed", default=0, show_default=True, type=click.IntRange(0), help="Seed of the validation split.")
@click.option(
    "--group-by",
    default="auto",
    show_default=True,
    help="How to group images that must not be split between training and val: auto (by the sequences in file names), "
    "none, or a regular expression that matches the sequence in a file name.",
)
@click.option(
    "--void",
    multiple=True,
    metavar="MARK",
    help="Label value (0 to 255) or colour (#rrggbb) to treat as unlabelled, in addition to those that are detected; "
    "none turns the detection off. Repeatable.",
)
@click.option(
    "--merge-rare",
    default="",
    metavar="NAME",
    help="Make classes that are too rare to learn part of this one, or void.",
)
@click.option(
    "--example", is_flag=True, help="Instead, generate a small dataset in FOLDER, which must be new or empty."
)
@click.option("--json", "as_json", is_flag=True, help="Print the proposal as JSON; write it only with --yes.")
@quiet_option
@click.pass_context
@on_interrupt(RESTARTS)
def init(
    context: click.Context, /, folder: Path, yes: bool, replace: bool, example: bool, as_json: bool, **wishes: Any
) -> None:
    """Make a FOLDER of images and masks a dataset: propose the classes and the validation split that it lacks.

    Shows how the folder is read and what the labels contain, and proposes names, colours and void values for it in
    classes.json. If there are no validation images, it proposes lists (train.txt, val.txt …) that hold out whole
    sequences and keep every class on both sides, as far as possible. Then asks whether to write these files. Without a
    terminal, it writes them only with --yes. Images and labels are never changed, and files that exist are replaced
    only if you agree. Exit code 2 if the labels cannot be used, or `cps dataset check` would still fail.

    \b
    Examples:
      cps init photos/
      cps init photos/ --void 0 --merge-rare background --yes
      cps init photos/ --json | jq '.classes[].name'
      cps init --example photos/
    """
    if example:
        _only_example(context)
        from components.scenes.generate import SceneSettings, draw_photographs

        draw_photographs(folder, SceneSettings(train=30, val=10), unlabeled=40)
        click.echo(str(folder))
        return
    from components.dataset.propose.lines import describe
    from components.dataset.propose.proposal import Settings, check_writable, dataset_folder, propose, write

    if not folder.is_dir():
        raise UserError(f"{folder} does not exist: pass a folder with images and labels")
    asks = not (yes or as_json) and sys.stdin.isatty() and sys.stdout.isatty()
    if yes or asks:
        check_writable(dataset_folder(folder.resolve()))
    with _progress() as advance:
        texts = wishes["void"]
        void = {"void": frozenset(_mark(text) for text in texts if text != "none"), "detect_void": "none" not in texts}
        proposal = propose(folder.resolve(), Settings(**wishes | void), advance)
    click.echo(proposal.model_dump_json(indent=2) if as_json else "\n".join(describe(proposal)))
    proposal.refuse_fatal()
    if yes and proposal.replaced and not replace:
        raise UserError(
            f"{', '.join(proposal.replaced)} in {proposal.folder} would be replaced: add --replace to agree"
        )
    train = f"`cps run --dataset {shlex.quote(str(folder))}` trains on it"
    if not proposal.images["unlabeled"]:
        train += " from the labels alone, because there are no other images; --ratio 1/2 hides half of the labels"
    if not proposal.files:
        click.echo(f"nothing to add; {train}", err=as_json)
    elif yes or (asks and _agrees(proposal)):
        write(proposal)
        click.echo(f"written; {train}", err=as_json)
    else:
        agree = f"--yes{' --replace' if proposal.replaced else ''}"
        click.echo(f"nothing was written; add {agree} to write these files", err=as_json)


def _only_example(context: click.Context) -> None:
    """Raise a usage error if options are given that --example would ignore."""
    given = click.core.ParameterSource.COMMANDLINE
    for option in context.command.params:
        name = option.name or ""
        if name in context.params and name not in ("folder", "example") and context.get_parameter_source(name) == given:
            raise click.UsageError(f"--example makes a complete dataset; leave out {option.opts[-1]}")


def _mark(text: str) -> "Mark":
    if text.isdigit() and int(text) <= 255:
        return int(text)
    match = re.fullmatch("#?([0-9a-fA-F]{2})([0-9a-fA-F]{2})([0-9a-fA-F]{2})", text)
    if not match:
        raise UserError(f"--void {text!r} must be a value of 0 to 255, a colour such as '#000000', or none")
    red, green, blue = (int(part, 16) for part in match.groups())
    return red, green, blue


def _agrees(proposal: "Proposal") -> bool:
    """Ask whether to write the files. Ends the command if the answer is no."""
    new = [file.path for file in proposal.files if not file.replaces]
    actions = [
        f"{verb} {', '.join(names)}" for verb, names in (("create", new), ("REPLACE", proposal.replaced)) if names
    ]
    if not click.confirm(" and ".join(actions) + "?", err=True):
        click.echo("nothing was written", err=True)
        raise click.Abort
    return True


@click.group()
def dataset() -> None:
    """Check a dataset before training, or generate one.

    \b
    Examples:
      cps dataset check photos/
      cps dataset scenes photos/
    """


@dataset.command(short_help="Find problems in a dataset before training.")
@click.argument("sources", metavar="SOURCE...", nargs=-1, required=True, shell_complete=complete_file)
@click.option("--sha256", default="", help="Expected SHA-256 of each source, in the same order; - to skip one.")
@click.option("--pools", default="", help="Additional unlabelled pools of the dataset to check, separated by commas.")
@click.option("-o", "--output", type=LocalPath(dir_okay=False), help="HTML report to write, with pictures.")
@click.option("--json", "as_json", is_flag=True, help="Print all findings as JSON.")
@click.option("--seed", default=0, show_default=True, type=click.IntRange(0), help="Seed of the splits to check.")
@click.option(
    "--stratify", is_flag=True, help="Check splits in which no class is missing, if possible (split.stratify)."
)
@click.option(
    "--group-by",
    default="",
    help="Check splits that keep sequences together: auto or a regular expression (split.group_by).",
)
@quiet_option
@on_interrupt("run the same command again to start over; interrupted downloads resume")
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
    """Find problems in a dataset before you train on it.

    SOURCE is a folder, an archive, or an http(s):// or s3:// URL of one, as in `cps run --dataset`. Give several
    sources if the dataset consists of them.

    Reports unreadable images, labels that do not match their image, copies between training and val, and classes that
    are missing from the labelled part of a split. Prints the findings, with a verdict; --output writes them as an HTML
    page. Exit code 1 if the verdict is fatal: training would fail, or its scores would be wrong.

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
    remedy = ""
    with _layout(_joined(sources), sha256, pools) as layout:
        with _progress() as advance:
            source = " ".join(map(redacted, sources))
            report = inspect_dataset(layout, seed=seed, settings=settings, source=source, on_progress=advance)
        if output:
            from components.dataset.check.page import render_check

            _write(output, render_check(report))
        if report.verdict == "fatal" and Path(sources[0]).is_dir() and len(sources) == 1:
            from components.dataset.propose.proposal import classes_remedy

            remedy = classes_remedy(Path(sources[0]).resolve(), layout.declared)
    click.echo(report.as_json() if as_json else "\n".join(_lines(report)))
    if output:
        click.echo(output, err=as_json)
    if report.verdict == "fatal":
        raise WorkFailed(f"dataset {report.dataset} cannot be trained on: {report.findings[0].line()}{remedy}")


@dataset.command(short_help="Generate street scenes to try things out.")
@click.argument("folder", type=LocalPath())
@click.option("--train", default=32, show_default=True, type=click.IntRange(2), help="Labelled training images.")
@click.option("--val", default=8, show_default=True, type=click.IntRange(1), help="Labelled validation images.")
@click.option("--unlabeled", default=40, show_default=True, type=click.IntRange(0), help="Images without labels.")
@click.option("--width", default=512, show_default=True, type=click.IntRange(64, 4096), help="Image width in pixels.")
@click.option("--height", default=256, show_default=True, type=click.IntRange(32, 4096), help="Image height in pixels.")
@click.option("--seed", default=0, show_default=True, type=click.IntRange(0), help="Random seed of the scenes.")
@quiet_option
@on_interrupt(RESTARTS)
def scenes(folder: Path, unlabeled: int, **counts: int) -> None:
    """Generate street scenes in a new FOLDER.

    The folder is laid out like your own photographs: images/, labels/ and classes.json. Prints its path.

    \b
    Examples:
      cps dataset scenes photos/
      cps dataset scenes large/ --train 200 --val 20 --unlabeled 1000 --width 1024 --height 512
    """
    from components.scenes.generate import SceneSettings, draw_photographs

    with writing(folder, "FOLDER"):
        draw_photographs(folder, SceneSettings(**counts), unlabeled)
    click.echo(str(folder))


def _joined(sources: tuple[str, ...]) -> str:
    """Return the sources as one parameter, the form that a run expects."""
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
        yield f"         ignored without --pools: {pools_text(report.pools)}"
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
    """Yield the layout of a dataset as a run would store it; delete the unpacked files afterwards."""
    from components.dataset.prepare import opened_layout
    from components.dataset.sources.address import check_source, parse_sources
    from components.disk import default_cache, scratch_folder, work_folder
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


def write_check_page(source: str, page: Path) -> None:
    """Check a dataset and write the HTML page. Raises UserError."""
    from components.dataset.sources.address import redacted

    with _layout(source, "", "") as layout:
        _write_check(layout, redacted(source), page)


def write_stored_check_page(store: "Store", digest: str, page: Path) -> None:
    """Check a dataset in the object store and write the HTML page. Raises UserError, WorkFailed."""
    from components.dataset.stored.extract import extracted
    from components.disk import work_folder
    from components.storage import keys

    with extracted(store, digest, work_folder()) as layout:
        _write_check(layout, store.uri(keys.dataset_manifest(digest)), page)


def _write_check(layout: "Layout", source: str, page: Path) -> None:
    from components.dataset.check.inspect import inspect_dataset
    from components.dataset.check.page import render_check

    with _progress() as advance:
        report = inspect_dataset(layout, source=source, on_progress=advance)
    _write(page, render_check(report))


@contextmanager
def _progress() -> Iterator[Callable[[int, int], None]]:
    """Yield a function that draws a progress bar on a terminal, and nothing elsewhere."""
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
    """Write the page completely or not at all: if the disk is full, an existing page stays."""
    with writing(path, "--output", len(text)):
        if is_stream(path):
            path.write_text(text)
            return
        path.parent.mkdir(parents=True, exist_ok=True)
        with replacing(path) as partial:
            partial.write_text(text)
