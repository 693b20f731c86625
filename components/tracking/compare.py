"""Compare all runs in MLflow."""

from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from typing import Any

from components.addresses import through_proxy, without_login
from components.errors import UserError
from components.tracking.server import RUN_KEY_TAG, connect


@dataclass(frozen=True)
class RunRow:
    """One run. `best_miou` is in [0, 1], or None before any evaluation; `epoch` and `variant` are those of the best."""

    run_key: str
    dataset: str
    recipe: str
    labeled_ratio: str
    seed: str
    best_miou: float | None
    epoch: str
    variant: str
    status: str
    started: str
    """UTC, ISO 8601."""
    weights: str
    """URI of the best weights."""
    run_id: str

    def as_dict(self) -> dict[str, str | float | None]:
        values = asdict(self)
        return {("best_mIoU" if name == "best_miou" else name): value for name, value in values.items()}


def compare_runs(address: str, *, dataset: str = "", limit: int = 50) -> list[RunRow]:
    """Return the runs on the MLflow server at `address`, the best first and those without a score last.

    Raises UserError if the server does not respond.
    """
    client = connect(address)
    from mlflow.exceptions import MlflowException

    try:
        experiments = [entry.experiment_id for entry in client.search_experiments()]
        found = client.search_runs(
            experiments, f"tags.`{RUN_KEY_TAG}` LIKE '%'", max_results=1000, order_by=["attributes.start_time DESC"]
        )
    except (MlflowException, OSError) as error:
        reason = (str(error).splitlines() or [type(error).__name__])[0][:200]
        way = through_proxy(address)
        remedy = "correct MLFLOW_TRACKING_URI, or list its host in NO_PROXY" if way else "correct MLFLOW_TRACKING_URI"
        raise UserError(f"MLflow at {without_login(address)} does not answer{way} ({reason}): {remedy}") from None
    rows = [_row(run) for run in found]
    chosen = [row for row in rows if not dataset or row.dataset == dataset]
    chosen.sort(key=lambda row: -1.0 if row.best_miou is None else row.best_miou, reverse=True)
    return chosen[:limit]


def _row(run: Any) -> RunRow:
    tags, params, metrics = run.data.tags, run.data.params, run.data.metrics
    started = datetime.fromtimestamp(run.info.start_time / 1000, UTC)
    return RunRow(
        run_key=tags[RUN_KEY_TAG],
        dataset=tags.get("dataset", ""),
        recipe=tags.get("recipe", params.get("recipe", "")),
        # Runs of 0.1 have the ratio and the variant under their old names.
        labeled_ratio=tags.get("labeled_ratio") or tags.get("ratio") or params.get("ratio", ""),
        seed=tags.get("seed", params.get("seed", "")),
        best_miou=metrics.get("best_mIoU"),
        epoch=tags.get("best_epoch", ""),
        variant=tags.get("best_variant", "").replace("mean", "ensemble"),
        status=run.info.status,
        started=started.isoformat(timespec="seconds"),
        weights=tags.get("weights", ""),
        run_id=run.info.run_id,
    )
