"""Print tables: the result of a run, a comparison of runs, the stored weights."""

import csv
import io
import textwrap
from collections.abc import Sequence
from typing import TYPE_CHECKING

from components.units import percent, seconds_text, size_text

if TYPE_CHECKING:
    from components.evaluation.comparison.difference import RunDifference
    from components.runs.stored import StoredWeights
    from components.tracking.compare import RunRow
    from pipeline.local.outcome import LocalResult


def print_outcome(collected: "LocalResult") -> None:
    """Print the result of a run on standard output."""
    from rich.console import Console
    from rich.markup import escape
    from rich.table import Table

    from components.runs.result import useless_text

    console = Console(highlight=False, soft_wrap=True)
    result, best, test = collected.result, collected.result.best, collected.result.test

    def say(text: str) -> None:
        """Print a line: wrapped between words on a terminal, whole elsewhere, for programs that read it."""
        console.print(text, soft_wrap=not console.is_terminal)

    say(
        f"\n[bold]{result.run_key}[/bold]: dataset {escape(result.dataset.name)}, labelled ratio "
        f"{result.labeled_ratio}, recipe {escape(result.recipe)}, seed {result.seed}; {seconds_text(collected.seconds)}"
    )
    interval = f", 95 % interval {percent(best.mIoU_low)} to {percent(best.mIoU_high)}"
    say(
        f"best mIoU [bold]{percent(best.mIoU)}[/bold]{interval if best.mIoU_low is not None else ''} "
        f"(epoch {best.epoch}, {best.variant}; {len(result.checkpoints)} checkpoints on {result.images} images); "
        f"baseline that predicts one class everywhere: {percent(result.constant_prediction_mIoU)}\n"
    )
    if result.is_useless:
        say(f"[bold yellow]{escape(useless_text(result))}[/] Likely reasons:")
        for reason in result.likely_reasons:
            say(f"  - {escape(reason)}")
        console.print()
    if test:
        say(f"test list: mIoU [bold]{percent(test.mIoU)}[/bold] on {test.images} images, scored once\n")
    table = Table("class", box=None, pad_edge=False, header_style="bold")
    table.add_column("IoU", justify="right")
    table.add_column("accuracy", justify="right")
    for row in best.per_class:
        table.add_row(row.name, percent(row.iou), percent(row.accuracy))
    console.print(table)
    console.print()
    for name, where in _places(collected):
        console.print(f"{name:<14}{where}", markup=False)


def _places(collected: "LocalResult") -> list[tuple[str, str]]:
    result = collected.result
    places = [
        ("weights", result.weights.uri),
        ("", f"cps weights pull {result.run_key}"),
        ("report", result.report.uri),
        ("", collected.files.get("report", "")),
        ("gallery", collected.predictions.gallery if collected.predictions else ""),
        ("", collected.files.get("gallery", "")),
        ("MLflow", collected.experiment or "off"),
        ("object store", collected.object_store),
    ]
    return [(name, where) for name, where in places if where]


def print_comparison(rows: Sequence["RunRow"]) -> None:
    """Print the runs in groups with the same dataset and split, the group with the best run first."""
    groups: dict[tuple[str, ...], list[RunRow]] = {}
    for row in rows:
        groups.setdefault((row.dataset, row.split, row.labeled_ratio, row.seed), []).append(row)
    print(f"{'mIoU':>7}  {'95 % interval':<14}  {'gain':>5}  {'method':<10}  {'run':<12}  recipe")
    for (dataset, split, ratio, seed), members in groups.items():
        print(f"\n{dataset}, labels {ratio}, seed {seed}{f', split {split[:6]}' if split else ''}")
        for row in members:
            print(_comparison_line(row))
    if any(row.gain is not None for row in rows):
        print("\ngain: points of mIoU over the best supervised run with the same recipe and split")


def _comparison_line(row: "RunRow") -> str:
    if row.best_miou is None:
        interval = row.status.lower()
    elif row.miou_low is None or row.miou_high is None:
        interval = ""
    else:
        interval = f"{100 * row.miou_low:.1f} to {100 * row.miou_high:.1f}"
    gain = "" if row.gain is None else f"{100 * row.gain:+.1f}"
    recipe = row.recipe if len(row.recipe) <= _RECIPE_WIDTH else row.recipe[: _RECIPE_WIDTH - 1] + "…"
    short = row.run_key.rpartition("-")[2]
    return f"{percent(row.best_miou):>7}  {interval:<14}  {gain:>5}  {row.method:<10}  {short:<12}  {recipe}"


_RECIPE_WIDTH = 22
"""What is left of 80 columns."""


def comparison_csv(rows: Sequence["RunRow"]) -> str:
    """Return the runs as CSV with a header."""
    buffer = io.StringIO()
    dicts = [row.as_dict() for row in rows]
    writer = csv.DictWriter(buffer, list(dicts[0]), lineterminator="\n")
    writer.writeheader()
    writer.writerows(dicts)
    return buffer.getvalue()


def print_difference(found: "RunDifference") -> None:
    """Print two runs and the difference between them."""
    for side in (found.first, found.second):
        low, high = (f"{100 * value:.1f}" if value is not None else "–" for value in (side.mIoU_low, side.mIoU_high))
        print(f"{percent(side.mIoU):>7}  {f'{low} to {high}':<14}  epoch {side.epoch}, {side.variant}")
        print(f"         {side.run_key}")
    print(
        f"{100 * found.difference:+7.1f}  {100 * found.low:+.1f} to {100 * found.high:+.1f} points, "
        f"95 % interval over {_resampled(found)}"
    )
    for line in (found.verdict, *found.notes):
        print(textwrap.fill(line, 80, break_long_words=False, break_on_hyphens=False))


def _resampled(found: "RunDifference") -> str:
    if not found.sequences:
        return f"{found.images} images"
    return f"{found.images} images in {found.blocks} blocks"


def print_weights(found: Sequence["StoredWeights"]) -> None:
    """Print two lines for each trained network: what it is, and the run that it is of."""
    print(f"{'mIoU':>7}  {'classes':>7}  {'size':>9}  {'stored (UTC)':<16}  dataset")
    for entry in found:
        classes = "–" if entry.classes is None else entry.classes
        stored = entry.modified[:16].replace("T", " ")
        print(f"{percent(entry.miou):>7}  {classes:>7}  {size_text(entry.size):>9}  {stored}  {entry.dataset or '–'}")
        print(f"         {entry.run_key}")
