"""Between the pods of a run, whose disks go with them: what MLflow has not taken by the end of one waits in the store.

runs/<run key>/mlflow/<spool file>
"""

import os
from collections.abc import Iterator
from contextlib import contextmanager, suppress

from components.errors import UserError, WorkFailed
from components.progress import say
from components.storage import keys
from components.storage.client import Store
from components.tracking.client import TRACKING_VARIABLE
from components.tracking.spool import run_folder, spool_files

IN_A_POD = "KUBERNETES_SERVICE_HOST"
"""Kubernetes sets it in every container."""


@contextmanager
def carried(store: Store, run_key: str) -> Iterator[None]:
    """To be around the opening and closing of a run's tracker: begins with what earlier pods left, and leaves the rest.

    Outside of pods nothing happens: there the disk keeps it.
    """
    if not os.environ.get(IN_A_POD) or not os.environ.get(TRACKING_VARIABLE):
        yield
        return
    folder, prefix = run_folder(run_key), keys.run(run_key, "mlflow/")
    brought: set[str] = set()
    with suppress(UserError, WorkFailed, OSError):
        for item in store.list(prefix):
            store.get_file(item.key, folder / item.key.removeprefix(prefix))
            brought.add(item.key)
    try:
        yield
    finally:
        try:
            left = {prefix + path.name: path.read_bytes() for path in spool_files(folder)}
            for key, data in left.items():
                store.put_bytes(key, data)
            for key in brought - left.keys():
                store.remove(key)
            if left:
                say("tracking", f"what MLflow lacks of {run_key} is in the object store until the next step brings it")
        except (UserError, WorkFailed, OSError) as error:
            say("tracking", f"what MLflow lacks of {run_key} could not be kept in the object store: {error}")
