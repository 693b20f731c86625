"""Compare all runs in MLflow."""

from collections.abc import Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass, replace
from datetime import UTC, datetime

from components.addresses import without_login
from components.tracking.address import run_page, tracking_link
from components.tracking.search import FoundRun, RunSearch, quoted
from components.tracking.values import RUN_KEY_TAG

BEST_FIRST = ("metrics.best_mIoU DESC", "attributes.start_time DESC")
SUPERVISED = "supervised"


@dataclass(frozen=True)
class RunRow:
    """One run. mIoUs are in [0, 1], or None before any evaluation; `epoch` and `variant` are those of the best."""

    run_key: str
    dataset: str
    split: str
    """Fingerprint of the split, which runs on the same labels share."""
    method: str
    """cps or supervised."""
    recipe: str
    labeled_ratio: str
    seed: str
    best_miou: float | None
    miou_low: float | None
    miou_high: float | None
    """`miou_low` to `miou_high` is the 95 % interval of `best_miou`."""
    epoch: str
    variant: str
    status: str
    started: str
    """UTC, ISO 8601."""
    weights: str
    """URI of the best weights."""
    run_id: str
    gain: float | None = None
    """Lead over `baseline` in mIoU."""
    baseline: str = ""
    """Run key of the best supervised run with the same split and recipe; empty without one."""

    def as_dict(self) -> dict[str, str | float | None]:
        renamed = {"best_miou": "best_mIoU", "miou_low": "mIoU_low", "miou_high": "mIoU_high"}
        return {renamed.get(name, name): value for name, value in asdict(self).items()}


def compare_runs(address: str, *, dataset: str = "", limit: int = 50) -> list[RunRow]:
    """Return the runs on the MLflow server at `address`, the best first and those without a score last.

    The server filters, orders and cuts, so the best of any number of runs are found at the cost of `limit` runs.

    Raises UserError if the server does not respond.
    """
    conditions = [f"tags.`{RUN_KEY_TAG}` LIKE '%'"]
    if dataset:
        value = quoted(dataset)
        if value is None:
            return []
        conditions.append(f"tags.`dataset` = {value}")
    search = RunSearch(address)
    rows = [_row(run) for run in search.find(" AND ".join(conditions), BEST_FIRST, limit)]
    return _with_gains(rows, _baselines(search, rows))


def run_address(address: str, run_key: str) -> str:
    """Return the web address of a run in MLflow, or an empty string if it is not there. Raises UserError."""
    found = RunSearch(address).find(f"tags.`{RUN_KEY_TAG}` = '{run_key}'", ["attributes.start_time DESC"], 1)
    return tracking_link(without_login(address), run_page(found[0].experiment_id, found[0].run_id)) if found else ""


def _baselines(search: RunSearch, rows: Sequence[RunRow]) -> dict[tuple[str, str], RunRow]:
    """Return the best supervised run of each split and recipe that the rows need one of."""
    needed = sorted({(row.split, row.recipe) for row in rows if _can_gain(row)})

    def find(pair: tuple[str, str]) -> list[FoundRun]:
        split, recipe = pair
        value = quoted(recipe)
        conditions = (
            f"params.`split_fingerprint` = '{split}' AND tags.`method` = '{SUPERVISED}' AND tags.`recipe` = {value}"
        )
        return search.find(conditions, BEST_FIRST, 1) if value else []

    with ThreadPoolExecutor(4) as pool:
        found = list(pool.map(find, needed))
    return {pair: _row(runs[0]) for pair, runs in zip(needed, found, strict=True) if runs}


def _with_gains(rows: Iterable[RunRow], baselines: dict[tuple[str, str], RunRow]) -> list[RunRow]:
    found = []
    for row in rows:
        baseline = baselines.get((row.split, row.recipe)) if _can_gain(row) else None
        if baseline is not None and baseline.best_miou is not None and row.best_miou is not None:
            row = replace(row, gain=row.best_miou - baseline.best_miou, baseline=baseline.run_key)
        found.append(row)
    return found


def _can_gain(row: RunRow) -> bool:
    return bool(row.method != SUPERVISED and row.best_miou is not None and row.split)


def _row(run: FoundRun) -> RunRow:
    tags, params, metrics = run.tags, run.params, run.metrics
    started = datetime.fromtimestamp(run.start_time / 1000, UTC)
    return RunRow(
        run_key=tags[RUN_KEY_TAG],
        dataset=tags.get("dataset", ""),
        split=params.get("split_fingerprint", ""),
        method=tags.get("method", ""),
        recipe=tags.get("recipe", params.get("recipe", "")),
        # Runs of 0.1 have the ratio and the variant under their old names.
        labeled_ratio=tags.get("labeled_ratio") or tags.get("ratio") or params.get("ratio", ""),
        seed=tags.get("seed", params.get("seed", "")),
        best_miou=metrics.get("best_mIoU"),
        miou_low=metrics.get("best_mIoU_low"),
        miou_high=metrics.get("best_mIoU_high"),
        epoch=tags.get("best_epoch", ""),
        variant=tags.get("best_variant", "").replace("mean", "ensemble"),
        status=run.status,
        started=started.isoformat(timespec="seconds"),
        weights=tags.get("weights", ""),
        run_id=run.run_id,
    )
