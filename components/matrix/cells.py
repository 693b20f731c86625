"""The cells of a matrix: a ratio, a seed and a method each, its parameters and its score."""

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


@dataclass
class MatrixOutcome:
    """`failed` says of each cell that came to no score why; `exit_code` is 0 when there is none."""

    scores: list[Score] = field(default_factory=list)
    failed: dict[Cell, str] = field(default_factory=dict)
    exit_code: int = 0
    dataset: dict[str, Any] = field(default_factory=dict)
    """digest, name and number of classes and val images, once known."""


def read_score(store: "Store", cell: Cell, run_key: str) -> Score:
    """A finished run's figures."""
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
    """The cells that cannot be run on a stored dataset, and why: it has no such split."""
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
    """The pipeline's parameters with those of one cell: its ratio, its seed, and the baseline's weight."""
    overrides = json.loads(parameters["overrides"])
    if cell.method == "supervised":
        overrides |= SUPERVISED_BASELINE
    # One picture is enough to see that a cell's network works; all are one `cps predict` away.
    return {
        **parameters,
        "labeled_ratio": cell.ratio,
        "seed": cell.seed,
        "overrides": json.dumps(overrides),
        "predict_limit": 1,
    }
