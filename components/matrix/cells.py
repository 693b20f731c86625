"""The cells of a matrix: a ratio, a seed and a method each, its parameters and its score."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Literal

from components.errors import UserError

if TYPE_CHECKING:
    from components.runs.request import RunRequest
    from components.storage.client import Store

Method = Literal["cps", "supervised"]
METHODS: tuple[Method, ...] = ("cps", "supervised")
SUPERVISED_BASELINE = {"cps.weight": 0}
"""The settings that make a training its supervised baseline."""


@dataclass(frozen=True, order=True)
class Cell:
    """One training of the matrix; `supervised` is the baseline with weight 0 and as many steps."""

    ratio: str
    seed: int
    method: Method


@dataclass(frozen=True)
class Score:
    """What a cell came to: mIoU in [0, 1] on the val list, of the last checkpoint's averaged networks.

    The last one and always the average: nothing is chosen on the images that are scored, so methods compare fairly.
    """

    cell: Cell
    run_key: str
    labeled: int
    """Labelled images it saw."""
    mean_iou: float
    best: float
    """The best checkpoint and network, as the run's own report has it: chosen on the val list."""
    steps: int


def cells(ratios: Sequence[str], seeds: Sequence[int], *, baseline: bool) -> list[Cell]:
    """Seed by seed, so that an interrupted matrix has whole curves of its first seeds."""
    methods = METHODS if baseline else METHODS[:1]
    return [Cell(ratio, seed, method) for seed in seeds for ratio in ratios for method in methods]


@dataclass(frozen=True)
class MatrixDataset:
    """The dataset that all cells share."""

    digest: str
    name: str
    images: int
    """Validation images."""
    classes: int


@dataclass
class MatrixOutcome:
    """`failed` says of each cell that came to no score why; `exit_code` is 0 when there is none."""

    scores: list[Score] = field(default_factory=list)
    failed: dict[Cell, str] = field(default_factory=dict)
    exit_code: int = 0
    dataset: MatrixDataset | None = None
    """Once it is known."""


def read_score(store: "Store", cell: Cell, run_key: str) -> Score:
    """A finished run's figures."""
    from components.runs.record import load_run
    from components.runs.result import read_result

    result = read_result(store, run_key)
    _, split = load_run(store, run_key)
    last = result.checkpoints[-1]
    return Score(
        cell=cell,
        run_key=run_key,
        labeled=len(split.labeled),
        mean_iou=last.ensemble or 0.0,
        best=result.best.mIoU or 0.0,
        steps=last.step,
    )


def impossible(store: "Store", cells: list[Cell], request: "RunRequest", digest: str) -> dict[Cell, str]:
    """The cells that cannot be run on a stored dataset, and why: it has no such split."""
    found = {}
    for cell in cells:
        try:
            planned_key(store, cell, request, digest)
        except UserError as error:
            found[cell] = str(error)
    return found


def planned_key(store: "Store", cell: Cell, request: "RunRequest", digest: str) -> str:
    """Return the key of a cell's run on a stored dataset. Raises UserError where it has no such split."""
    from components.runs.planning import plan_run

    return plan_run(store, digest, cell_request(cell, request)).key


def cell_request(cell: Cell, request: "RunRequest") -> "RunRequest":
    """Return the request with the ratio and seed of one cell, and the weight 0 of a baseline."""
    overrides = {**request.overrides, **(SUPERVISED_BASELINE if cell.method == "supervised" else {})}
    changes = {"labeled_ratio": cell.ratio, "seed": cell.seed, "overrides": overrides}
    return request.model_copy(update=changes)
