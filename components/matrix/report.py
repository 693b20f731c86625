"""Write a matrix as files: a self-contained page, a chart, and a table for other programs."""

import csv
import io
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from components.files import write_whole
from components.matrix.cells import Method, Score
from components.matrix.chart import NAMES, NARROW, WIDE, chart_file, inline_chart, legend, vertical_ticks
from components.matrix.gains import Gain, Point, gains, points
from components.matrix.published_results import Published
from components.matrix.verdict import call, judge
from components.pages.charts import round_ticks
from components.pages.render import percent, render
from components.pages.render import points as signed

TEMPLATE = Path(__file__).parent / "matrix.html.j2"
COLUMNS = ("labeled_ratio", "seed", "method", "labelled_images", "steps", "mIoU", "best_mIoU", "run_key")


@dataclass(frozen=True)
class MatrixResult:
    """Everything that the files are made from."""

    dataset: str
    recipe: str
    images: int
    """Number of validation images."""
    command: str
    scores: tuple[Score, ...]
    references: tuple[Published, ...] = ()
    notes: tuple[str, ...] = ()
    """Remarks for readers about the dataset."""

    @property
    def title(self) -> str:
        return f"Label efficiency on {self.dataset}"


def write_files(result: MatrixResult, folder: Path) -> dict[str, Path]:
    """Write matrix.html, matrix.svg and matrix.csv into `folder` and return their paths by kind."""
    paths = {kind: folder / f"matrix.{kind}" for kind in ("html", "svg", "csv")}
    write_whole(paths["csv"], table(result.scores))
    chart = chart_file(points(result.scores), result.references, result.title, _alternative(result))
    write_whole(paths["svg"], chart)
    write_whole(paths["html"], page(result))
    return paths


def table(scores: Sequence[Score]) -> str:
    """Return CSV with a line per run; mIoU is in [0, 1]."""
    out = io.StringIO()
    writer = csv.writer(out, lineterminator="\n")
    writer.writerow(COLUMNS)
    for score in scores:
        cell = score.cell
        figures = (score.labeled, score.steps, f"{score.mean_iou:.4f}", f"{score.best:.4f}", score.run_key)
        writer.writerow((cell.labeled_ratio, cell.seed, cell.method, *figures))
    return out.getvalue()


def page(result: MatrixResult) -> str:
    found, alternative, compared = points(result.scores), _alternative(result), gains(result.scores)
    ticks = _gain_ticks(compared)
    return render(
        TEMPLATE,
        result=result,
        points=found,
        verdict=judge(compared),
        gains=[_row(gain, found, ticks) for gain in compared],
        ticks=[(_place(tick / 100, ticks), signed(tick / 100).removesuffix(".0") if tick else "0") for tick in ticks],
        zero=_place(0, ticks),
        axis_start=f"{vertical_ticks(found, result.references)[0]:g}",
        names=NAMES,
        wide=inline_chart(found, result.references, alternative, WIDE),
        narrow=inline_chart(found, result.references, alternative, NARROW),
        legend=legend(found, result.references),
        seeds=len({score.cell.seed for score in result.scores}),
    )


@dataclass(frozen=True)
class GainRow:
    """A ratio in the table of gains; `low`, `width` and `place` are in percent of the axis's length."""

    gain: Gain
    supervised: str
    cps: str
    interval: str
    call: str
    style: str
    place: float
    low: float
    width: float


def _row(gain: Gain, found: Sequence[Point], ticks: Sequence[float]) -> GainRow:
    half, said = gain.half_width, call(gain)
    low = 0.0 if half is None else _place(gain.mean - half, ticks)
    return GainRow(
        gain=gain,
        supervised=_mean(found, gain.labeled_ratio, "supervised"),
        cps=_mean(found, gain.labeled_ratio, "cps"),
        interval="–" if half is None else f"{signed(gain.mean - half)} to {signed(gain.mean + half)}",
        call=said,
        style={"clear gain": "", "clear loss": "loss"}.get(said, "unclear"),
        place=_place(gain.mean, ticks),
        low=low,
        width=0.0 if half is None else _place(gain.mean + half, ticks) - low,
    )


def _mean(found: Sequence[Point], ratio: str, method: Method) -> str:
    """Return mean ± standard deviation over seeds."""
    point = next(point for point in found if (point.labeled_ratio, point.method) == (ratio, method))
    return percent(point.mean) if point.spread is None else f"{percent(point.mean)} ± {100 * point.spread:.1f}"


def _gain_ticks(compared: Sequence[Gain]) -> list[float]:
    """Return the ticks of the gains' axis in percentage points, with zero among them."""
    ends = [100 * (gain.mean + side * (gain.half_width or 0.0)) for gain in compared for side in (-1, 1)]
    return round_ticks(min([-1.0, *ends]), max([1.0, *ends]), 4)


def _place(gain: float, ticks: Sequence[float]) -> float:
    return 100 * (100 * gain - ticks[0]) / (ticks[-1] - ticks[0])


def summary(result: MatrixResult) -> dict[str, Any]:
    """Return points, gains and runs for `--json`."""
    return {
        "dataset": result.dataset,
        "recipe": result.recipe,
        "points": [
            {
                "labeled_ratio": point.labeled_ratio,
                "labelled_images": point.labeled,
                "method": point.method,
                "mIoU": point.mean,
                "spread": point.spread,
                "values": list(point.values),
            }
            for point in points(result.scores)
        ],
        "gains": [
            {
                "labeled_ratio": gain.labeled_ratio,
                "gain": gain.mean,
                "half_width": gain.half_width,
                "verdict": gain.verdict,
            }
            for gain in gains(result.scores)
        ],
        "runs": [
            {"run_key": score.run_key, "mIoU": score.mean_iou, "best_mIoU": score.best} for score in result.scores
        ],
    }


def _alternative(result: MatrixResult) -> str:
    figures = "; ".join(
        f"{NAMES[point.method]} with {point.labeled:,} labelled images {100 * point.mean:.1f} %"
        for point in points(result.scores)
    )
    verdicts = "; ".join(f"{gain.labeled_ratio}: {gain.verdict}" for gain in gains(result.scores))
    return f"{result.title}. {figures}." + (f" {verdicts}." if verdicts else "")
