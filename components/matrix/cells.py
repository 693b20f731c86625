"""The cells of a matrix: ratio, seed and method, with their parameters and scores."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Literal

from components.errors import UserError

if TYPE_CHECKING:
    from components.storage.client import Store

Method = Literal["cps", "supervised"]
METHODS: tuple[Method, ...] = ("cps", "supervised")
SUPERVISED_BASELINE = {"cps.weight": 0}
"""The overrides that turn a run into its supervised baseline."""


@dataclass(frozen=True, order=True)
class Cell:
    """One run of the matrix. `supervised` is the baseline: CPS weight 0 and the same number of steps."""

    ratio: str
    seed: int
    method: Method


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


def cells(ratios: Sequence[str], seeds: Sequence[int], *, baseline: bool) -> list[Cell]:
    """Return the cells seed by seed, so that an interrupted matrix has complete curves for its first seeds."""
    methods = METHODS if baseline else METHODS[:1]
    return [Cell(ratio, seed, method) for seed in seeds for ratio in ratios for method in methods]


@dataclass
class MatrixOutcome:
    """`failed` maps each cell without a score to the reason; `exit_code` is 0 if no cell failed."""

    scores: list[Score] = field(default_factory=list)
    failed: dict[Cell, str] = field(default_factory=dict)
    exit_code: int = 0
    dataset: dict[str, Any] = field(default_factory=dict)
    """Digest, name, number of classes and number of val images, once they are known."""


def read_score(store: "Store", cell: Cell, run_key: str) -> Score:
    """Read the score of a finished run."""
    from components.runs.record import load_run
    from components.storage import keys

    result = store.get_json(keys.run(run_key, "result.json"))
    _, split = load_run(store, run_key)
    last = result["checkpoints"][-1]
    return Score(
        cell=cell,
        run_key=run_key,
        labeled=len(split.labeled),
        mean_iou=last["mean"],
        best=result["best"]["mIoU"],
        steps=last["step"],
    )


def impossible(store: "Store", cells: list[Cell], parameters: Mapping[str, Any], digest: str) -> dict[Cell, str]:
    """Return the cells that a stored dataset has no split for, each with the reason."""
    found = {}
    for cell in cells:
        try:
            planned_key(store, cell, parameters, digest)
        except UserError as error:
            found[cell] = str(error)
    return found


def planned_key(store: "Store", cell: Cell, parameters: Mapping[str, Any], digest: str) -> str:
    from components.runs.planning import plan_run

    own = cell_parameters(cell, parameters)
    return plan_run(
        store,
        digest,
        labeled_ratio=cell.ratio,
        seed=cell.seed,
        recipe=own["recipe"],
        overrides_json=own["overrides"],
        epochs=own["epochs"],
        batch_size=own["batch_size"],
    ).key


def cell_parameters(cell: Cell, parameters: Mapping[str, Any]) -> dict[str, Any]:
    """Return the pipeline's parameters for one cell: its ratio, its seed and, for a baseline, CPS weight 0."""
    overrides = json.loads(parameters["overrides"])
    if cell.method == "supervised":
        overrides |= SUPERVISED_BASELINE
    # One picture shows that a cell's network works; `cps predict` makes the others.
    return {
        **parameters,
        "labeled_ratio": cell.ratio,
        "seed": cell.seed,
        "overrides": json.dumps(overrides),
        "predict_limit": 1,
    }
