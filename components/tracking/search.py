"""Search the runs of an MLflow server: filtered, ordered and cut by the server."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from components.tracking.address import no_answer
from components.tracking.server import connect


@dataclass(frozen=True)
class FoundRun:
    """A run on the server. Times are in milliseconds since 1970."""

    run_id: str
    experiment_id: str
    status: str
    start_time: int
    metrics: Mapping[str, float]
    params: Mapping[str, str]
    tags: Mapping[str, str]


class RunSearch:
    """Searches all experiments of one server, which are listed once. Safe to share between threads."""

    def __init__(self, address: str) -> None:
        """List the experiments. Raises UserError."""
        self._address, self._client = address, connect(address)
        try:
            self._experiments = [str(entry.experiment_id) for entry in self._client.search_experiments()]
        except self._client.errors as error:
            raise no_answer(address, error) from None

    def find(self, conditions: str, order_by: Sequence[str], limit: int) -> list[FoundRun]:
        """Return at most `limit` runs; `conditions` and `order_by` are in MLflow's search syntax. Raises UserError."""
        try:
            runs = self._client.search_runs(self._experiments, conditions, max_results=limit, order_by=list(order_by))
        except self._client.errors as error:
            raise no_answer(self._address, error) from None
        return [
            FoundRun(
                run.info.run_id,
                run.info.experiment_id,
                run.info.status,
                run.info.start_time,
                run.data.metrics,
                run.data.params,
                run.data.tags,
            )
            for run in runs
        ]


def quoted(text: str) -> str | None:
    """Return a value for a search condition, or None for a value that MLflow's syntax cannot express."""
    quote = next((mark for mark in "'\"" if mark not in text), None)
    return quote and f"{quote}{text}{quote}"
