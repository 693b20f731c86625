"""Trainings in processes of their own that record when they did what, for benchmarks of whole trainings."""

import os
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from types import SimpleNamespace

from components.storage.client import Store
from components.training.supervision import supervisor
from tests.benchmarks.measure import object_store
from tests.components.training.stored_run import STEPS, StoredRun, make_run

TESTS = Path(__file__).parents[1] / "components" / "training"

__all__ = ["STEPS", "StoredRun", "make_run", "recorded_trainings"]


@contextmanager
def recorded_trainings() -> Iterator[tuple[Store, Path]]:
    """A store that the environment names, and a folder for the records of a StoredRun."""
    worker = SimpleNamespace(__file__=str(TESTS / "faulty_worker.py"))
    supervisor.worker = worker  # type: ignore[assignment, attr-defined] # stands in for the module
    with object_store() as store, tempfile.TemporaryDirectory() as name:
        settings = store.settings
        os.environ.update(
            AWS_ENDPOINT_URL=settings.endpoint,
            AWS_ACCESS_KEY_ID=settings.access_key,
            AWS_SECRET_ACCESS_KEY=settings.secret_key,
            CPS_BUCKET=settings.bucket,
            CPS_CACHE=f"{name}/cache",
            FAULTS=f"{name}/faults",
            SUPERVISOR=str(os.getpid()),
        )
        os.environ.pop("MLFLOW_TRACKING_URI", None)
        store.check()
        yield store, Path(name) / "faults"
