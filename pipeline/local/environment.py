"""Which services a command uses: those the environment names, else the embedded ones."""

import os
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING

from components.storage.settings import settings_from_environment

if TYPE_CHECKING:
    from components.storage.client import Store

HOME_VARIABLE = "CPS_HOME"
SERVICE_VARIABLES = (
    "AWS_ENDPOINT_URL",
    "AWS_ACCESS_KEY_ID",
    "AWS_SECRET_ACCESS_KEY",
    "AWS_DEFAULT_REGION",
    "CPS_BUCKET",
    "MLFLOW_TRACKING_URI",
    "MLFLOW_EXPERIMENT_NAME",
)


def state_home() -> Path:
    """The folder of the embedded services: CPS_HOME, or .cps where the command is run."""
    return Path(os.environ.get(HOME_VARIABLE) or ".cps").absolute()


def resolve_environment(home: Path, tracking: bool = True) -> dict[str, str]:
    """What to lay over the environment of a process that uses the services.

    AWS_ENDPOINT_URL and MLFLOW_TRACKING_URI win, each by itself; what they leave open is started in `home`.
    MLflow may still be starting then. Without `tracking` it is left alone.
    Raises UserError, in seconds, where the store that AWS_ENDPOINT_URL names cannot be used.
    """
    given = {name: os.environ[name] for name in SERVICE_VARIABLES if os.environ.get(name)}
    store = None
    if "AWS_ENDPOINT_URL" in given:
        from components.storage.client import Store

        store = settings_from_environment()
        Store(store).check()
    embed_tracking = tracking and "MLFLOW_TRACKING_URI" not in given
    if store and not embed_tracking:
        return given
    from pipeline.local.services import services_up

    return {**given, **services_up(home, tracking=embed_tracking, store=store).environment}


def tracking_environment() -> Mapping[str, str]:
    """An environment whose MLFLOW_TRACKING_URI is the server to ask about runs: this process's own where that is set,
    else that of the embedded one, up and answering.
    """
    if os.environ.get("MLFLOW_TRACKING_URI"):
        return os.environ
    from pipeline.local.services import wait_tracking

    home = state_home()
    environment = resolve_environment(home)
    wait_tracking(home)
    return environment


def open_store() -> "Store":
    """The object store that the environment names, else the embedded one, which is started."""
    from components.storage.client import Store

    store = Store(settings_from_environment({**os.environ, **resolve_environment(state_home(), tracking=False)}))
    store.check()
    return store
