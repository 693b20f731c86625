"""MLflow's own client, for servers that `components.tracking.rest` leaves to it. Importing this takes seconds."""

from collections.abc import Iterable, Mapping
from typing import ClassVar

from mlflow import MlflowClient
from mlflow.entities import Dataset, DatasetInput, InputTag, Metric, Param, RunTag
from mlflow.exceptions import MlflowException

from components.tracking.values import Point


class FullClient(MlflowClient):
    """MLflow's client, with the few methods of `RestClient` that do without MLflow's types."""

    errors: ClassVar[tuple[type[Exception], ...]] = (MlflowException, OSError)

    def logged_steps(self, run_id: str, key: str) -> set[int]:
        return {entry.step for entry in self.get_metric_history(run_id, key)}

    def log_values(
        self,
        run_id: str,
        *,
        points: Iterable[Point] = (),
        params: Mapping[str, str] | None = None,
        tags: Mapping[str, str] | None = None,
    ) -> None:
        self.log_batch(
            run_id,
            metrics=[Metric(p.key, p.value, p.timestamp, p.step, model_id=p.model_id) for p in points],
            params=[Param(key, value) for key, value in (params or {}).items()],
            tags=[RunTag(key, value) for key, value in (tags or {}).items()],
        )

    def log_training_dataset(self, run_id: str, name: str, digest: str, source: str, profile: str) -> None:
        dataset = Dataset(name, digest, "s3", source, profile=profile)
        self.log_inputs(run_id, [DatasetInput(dataset, [InputTag("mlflow.data.context", "training")])])
