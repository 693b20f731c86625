"""The outcome of a finished run: its result, local copies of its pages, and where everything is."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from components import progress
from components.disk import Unwritable
from components.storage.client import Store
from pipeline.local.environment import store_of
from pipeline.local.run import JobOutcome

if TYPE_CHECKING:
    from pydantic import JsonValue

    from components.prediction.predict import PredictionSummary
    from components.runs.result import RunResult


@dataclass(frozen=True)
class LocalResult:
    """A run's result, local copies of its pages, and the addresses of the services."""

    result: "RunResult"
    predictions: "PredictionSummary | None"
    files: dict[str, str]
    """Local paths of the report and the gallery."""
    mlflow: str
    experiment: str
    """Web address of the experiment's runs in MLflow; empty without MLflow."""
    object_store: str
    seconds: float
    log: str

    def as_dict(self) -> "dict[str, JsonValue]":
        """Return the fields of the run's result, merged with those of this object."""
        own = {
            name: getattr(self, name) for name in ("files", "mlflow", "experiment", "object_store", "seconds", "log")
        }
        predictions = self.predictions.model_dump(mode="json") if self.predictions else {}
        return {**self.result.model_dump(mode="json"), "predictions": predictions, **own}


def collect_outcome(outcome: JobOutcome, home: Path, environment: Mapping[str, str]) -> LocalResult:
    """Read the run's result and copy its pages to `home`."""
    from components.contract import read
    from components.prediction.predict import PredictionSummary
    from components.runs.result import read_result
    from components.tracking.published import experiment_link

    run_key = outcome.run_key
    store = store_of(environment)
    result, predicted = read_result(store, run_key), outcome.results.get("predict")
    predictions = None if predicted is None else read(PredictionSummary, predicted, "the result of predict")
    address = environment.get("MLFLOW_TRACKING_URI", "")
    pages = {"report": result.report.uri, "gallery": predictions.gallery if predictions else ""}
    folder = home / "runs" / run_key
    return LocalResult(
        result=result,
        predictions=predictions,
        files=_copied(store, {folder / f"{name}.html": uri for name, uri in pages.items() if uri}),
        mlflow=address,
        experiment=experiment_link(store, run_key, address) if address else "",
        object_store=environment.get("AWS_ENDPOINT_URL", ""),
        seconds=round(outcome.seconds, 1),
        log=str(outcome.log or ""),
    )


def _copied(store: Store, pages: "Mapping[Path, str]") -> dict[str, str]:
    """Copy pages from the store, and return their paths by name. Warns if a page cannot be written."""
    files = {}
    for path, uri in pages.items():
        try:
            files[path.stem] = str(store.get_uri(uri, path))
        except Unwritable as error:
            progress.warn("run", f"{error}. The page is stored as {uri}")
    return files
