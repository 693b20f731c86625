"""The cells of a matrix: ratio, seed and method, with their parameters and scores."""

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import TYPE_CHECKING

from components.errors import UserError
from components.metrics.bootstrap import Draws

if TYPE_CHECKING:
    from components.recipes import Overrides
    from components.runs.request import RunRequest
    from components.storage.client import Store

Method = str
"""CPS, SUPERVISED, the name of a recipe or recipe file, or settings such as "cps.teacher=average"."""
CPS, SUPERVISED = "cps", "supervised"
BASELINE = "baseline"
"""The name of SUPERVISED on the command line."""
_PLUS = re.compile(r"\+(?=\w+\.\w+=)")
"""A plus between settings, not one of a number."""


def settings_of(method: Method) -> list[str]:
    """Return the settings that a method consists of, or its name."""
    return _PLUS.split(method)


@dataclass(frozen=True)
class Variation:
    """What a method changes in a request: the recipe, which is then trained as it says, or some settings."""

    recipe: str = ""
    """The name, or the path of a file; empty for that of the request."""
    overrides: "Overrides" = field(default_factory=lambda: MappingProxyType({}))


VARIATIONS: Mapping[Method, Variation] = MappingProxyType(
    {CPS: Variation(), SUPERVISED: Variation(overrides={"cps.weight": 0})}
)
"""The methods that do not depend on the command line."""


@dataclass(frozen=True, order=True)
class Cell:
    """One run of the matrix.

    `supervised` is the baseline: the recipe with CPS weight 0, so that it reads the same labelled batches, augmented in
    the same way, for the same number of steps.
    """

    labeled_ratio: str
    seed: int
    method: Method
    variation: Variation | None = field(default=None, compare=False)
    """None for that of CPS or SUPERVISED."""


@dataclass(frozen=True)
class Score:
    """The score of a cell: mIoU in [0, 1] on the val list, from the last checkpoint's ensemble.

    Always the last checkpoint and always the ensemble: nothing is chosen on the scored images, so methods compare
    fairly.
    """

    cell: Cell
    run_key: str
    labeled: int
    """Number of labelled images."""
    mean_iou: float
    best: float
    """mIoU of the best checkpoint and network, chosen on the val list, as in the run's own report."""
    steps: int
    split: str = ""
    """The split's fingerprint."""
    draws: Draws | None = field(default=None, compare=False)
    """For intervals over images."""


def cells(
    ratios: Sequence[str],
    seeds: Sequence[int],
    methods: Mapping[Method, Variation],
) -> list[Cell]:
    """Return the cells seed by seed, so that an interrupted matrix has complete curves for its first seeds."""
    return [
        Cell(ratio, seed, method, variation)
        for seed in seeds
        for ratio in ratios
        for method, variation in methods.items()
    ]


@dataclass(frozen=True)
class MatrixDataset:
    """The dataset that all cells share."""

    digest: str
    name: str
    images: int
    """Number of validation images."""
    classes: int


@dataclass
class MatrixOutcome:
    """`failed` maps each cell without a score to the reason; `exit_code` is 0 if no cell failed."""

    scores: list[Score] = field(default_factory=list)
    failed: dict[Cell, str] = field(default_factory=dict)
    exit_code: int = 0
    dataset: MatrixDataset | None = None
    """None until it is known."""


def read_score(store: "Store", cell: Cell, run_key: str, draws: Draws | None) -> Score:
    """Read the score of a finished run, whose last checkpoint has these draws."""
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
        split=result.split,
        draws=draws,
    )


def reference_of(methods: Sequence[Method]) -> Method:
    """Return the method that the others are compared with: the supervised baseline, or else the first."""
    return SUPERVISED if SUPERVISED in methods else methods[0]


def impossible(store: "Store", cells: list[Cell], request: "RunRequest", digest: str) -> dict[Cell, str]:
    """Return the cells that a stored dataset has no split for, each with the reason."""
    found = {}
    for cell in cells:
        try:
            planned_key(store, cell, request, digest)
        except UserError as error:
            found[cell] = str(error)
    return found


def planned_key(store: "Store", cell: Cell, request: "RunRequest", digest: str) -> str:
    """Return the key of a cell's run on a stored dataset. Raises UserError if there is no such split."""
    from components.runs.planning.plan import plan_run

    return plan_run(store, digest, cell_request(cell, request)).key


def cell_request(cell: Cell, request: "RunRequest") -> "RunRequest":
    """Return the request with one cell's ratio and seed, and its method's recipe and settings."""
    variation = cell.variation or VARIATIONS[cell.method]
    changes = {
        "labeled_ratio": cell.labeled_ratio,
        "seed": cell.seed,
        "recipe": variation.recipe or request.recipe,
        "overrides": {**request.overrides, **variation.overrides},
    }
    return request.model_copy(update=changes)
