"""Write a matrix as files: a self-contained page, a chart, and a table for other programs."""

import csv
import io
import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from components.files import write_whole
from components.matrix.cells import SUPERVISED, Method, Score
from components.matrix.chart import NARROW, WIDE, chart_file, inline_chart, legend, vertical_ticks
from components.matrix.gains import Gain, Point, gains, name_of, points
from components.matrix.published_results import Published
from components.matrix.verdict import judge, remarks
from components.pages.charts import round_ticks
from components.pages.render import percent, render
from components.pages.render import points as signed

TEMPLATE = Path(__file__).parent / "matrix.html.j2"
COLUMNS = ("labeled_ratio", "seed", "method", "labelled_images", "steps", "mIoU", "best_mIoU", "run_key")
GAIN_COLUMNS = (
    "labeled_ratio",
    "labelled_images",
    "method",
    "reference",
    "seeds",
    "gain",
    "gain_low",
    "gain_high",
    "images_low",
    "images_high",
    "p_value",
    "corrected_p",
    "call",
)


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
    reference: Method = SUPERVISED
    """The method that the others are compared with."""

    @property
    def gains(self) -> list[Gain]:
        return gains(self.scores, self.reference)

    @property
    def title(self) -> str:
        return f"Label efficiency on {self.dataset}"


def write_files(result: MatrixResult, folder: Path) -> dict[str, Path]:
    """Write matrix.html, matrix.svg and matrix.csv into `folder` and return their paths by kind.

    If methods are compared, matrix-gains.csv has the gains.
    """
    paths = {kind: folder / f"matrix.{kind}" for kind in ("html", "svg", "csv")}
    write_whole(paths["csv"], table(result.scores))
    gains_path = folder / "matrix-gains.csv"
    if result.gains:
        paths["gains"] = gains_path
        write_whole(gains_path, gains_table(result.gains))
    else:
        gains_path.unlink(missing_ok=True)  # of an earlier matrix
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


def gains_table(found: Sequence[Gain]) -> str:
    """Return CSV with a line per method and ratio. Gains are in mIoU, in [-1, 1]; unknown figures are empty."""
    out = io.StringIO()
    writer = csv.DictWriter(out, GAIN_COLUMNS, lineterminator="\n")
    writer.writeheader()
    for gain in found:
        values = gain_values(gain)
        writer.writerow(
            {name: f"{values[name]:.6g}" if isinstance(values[name], float) else values[name] for name in GAIN_COLUMNS}
        )
    return out.getvalue()


def gain_values(gain: Gain) -> dict[str, str | int | float | None]:
    """Return a gain's figures by the names of GAIN_COLUMNS; None for unknown ones."""
    half = gain.half_width
    return {
        "labeled_ratio": gain.labeled_ratio,
        "labelled_images": gain.labeled,
        "method": gain.method,
        "reference": gain.reference,
        "seeds": len(gain.differences),
        "gain": gain.mean,
        "gain_low": None if half is None else gain.mean - half,
        "gain_high": None if half is None else gain.mean + half,
        "images_low": gain.images.low if gain.images else None,
        "images_high": gain.images.high if gain.images else None,
        "p_value": gain.p_value,
        "corrected_p": gain.corrected_p,
        "call": gain.call,
    }


def page(result: MatrixResult) -> str:
    found, alternative, compared = points(result.scores), _alternative(result), result.gains
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
        name_of=name_of,
        remarks=remarks(compared),
        has_methods=len({gain.method for gain in compared}) > 1,
        over_images=any(gain.images for gain in compared),
        wide=inline_chart(found, result.references, alternative, WIDE),
        narrow=inline_chart(found, result.references, alternative, NARROW),
        legend=legend(found, result.references),
        seeds=len({score.cell.seed for score in result.scores}),
    )


@dataclass(frozen=True)
class GainRow:
    """A ratio in the table of gains; `low`, `width` and `place` are in percent of the axis's length."""

    gain: Gain
    own: str
    reference: str
    """Mean mIoU of the method and of what it is compared with."""
    interval: str
    images: str
    """`interval` is over seeds, `images` over validation images."""
    style: str
    place: float
    low: float
    width: float


def _row(gain: Gain, found: Sequence[Point], ticks: Sequence[float]) -> GainRow:
    half = gain.half_width
    low = 0.0 if half is None else _place(gain.mean - half, ticks)
    return GainRow(
        gain=gain,
        own=_mean(found, gain.labeled_ratio, gain.method),
        reference=_mean(found, gain.labeled_ratio, gain.reference),
        interval="–" if half is None else f"{signed(gain.mean - half)} to {signed(gain.mean + half)}",
        images=f"{signed(gain.images.low)} to {signed(gain.images.high)}" if gain.images else "–",
        style={"clear gain": "", "clear loss": "loss"}.get(gain.call, "unclear"),
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


def summary(result: MatrixResult) -> str:
    """Return points, gains and runs as JSON."""
    described = {
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
                **gain_values(gain),
                "half_width": gain.half_width,
                "verdict": gain.verdict,
                "notes": list(gain.notes),
            }
            for gain in result.gains
        ],
        "runs": [
            {"run_key": score.run_key, "mIoU": score.mean_iou, "best_mIoU": score.best} for score in result.scores
        ],
    }
    return json.dumps(described, indent=2)


def _alternative(result: MatrixResult) -> str:
    figures = "; ".join(
        f"{name_of(point.method)} with {point.labeled:,} labelled images {100 * point.mean:.1f} %"
        for point in points(result.scores)
    )
    verdicts = "; ".join(f"{gain.labeled_ratio}: {gain.verdict}" for gain in result.gains)
    return f"{result.title}. {figures}." + (f" {verdicts}." if verdicts else "")
