"""Choose the services of a command: those in the environment, otherwise the embedded ones."""

import os
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING

from components.disk import state_home
from components.storage.settings import settings_from_environment

if TYPE_CHECKING:
    from components.storage.client import Store

SERVICE_VARIABLES = (
    "AWS_ENDPOINT_URL",
    "AWS_ACCESS_KEY_ID",
    "AWS_SECRET_ACCESS_KEY",
    "AWS_DEFAULT_REGION",
    "CPS_BUCKET",
    "MLFLOW_TRACKING_URI",
    "MLFLOW_EXPERIMENT_NAME",
)


def resolve_environment(home: Path, tracking: bool = True, *, writes: bool = False) -> dict[str, str]:
    """Return the environment variables that a process needs to use the services.

    AWS_ENDPOINT_URL and MLFLOW_TRACKING_URI each override the embedded service, which otherwise starts in `home`.
    MLflow may still be starting on return. Without `tracking`, MLflow is not started.
    Raises UserError, within seconds, if MLFLOW_TRACKING_URI is no address, or if the store at AWS_ENDPOINT_URL cannot
    be used or, with `writes`, written.
    """
    given = {name: os.environ[name] for name in SERVICE_VARIABLES if os.environ.get(name)}
    from components.tracking.address import check_tracking_address

    check_tracking_address()
    given |= _embedded(home, given)
    store = None
    if "AWS_ENDPOINT_URL" in given:
        from components.storage.client import Store

        store = settings_from_environment()
        Store(store).check(writes=writes)
    embed_tracking = tracking and "MLFLOW_TRACKING_URI" not in given
    if store and not embed_tracking:
        return given
    from pipeline.local.services import services_up

    return {**given, **services_up(home, tracking=embed_tracking, store=store).environment}


def tracking_environment() -> Mapping[str, str]:
    """Return an environment with the MLFLOW_TRACKING_URI to query: this process's own, otherwise that of the embedded
    server, which is started and ready.
    """
    from components.tracking.address import check_tracking_address

    check_tracking_address()
    if os.environ.get("MLFLOW_TRACKING_URI"):
        return {**os.environ, **_embedded(state_home(), os.environ)}
    from pipeline.local.services import wait_tracking

    home = state_home()
    environment = resolve_environment(home)
    wait_tracking(home)
    return environment


def known_environment(home: Path) -> Mapping[str, str]:
    """Return this process's environment with the embedded MLflow, whether that is running or not, unless it has one."""
    from pipeline.local.services import known_tracking

    return {**known_tracking(home), **os.environ, **_embedded(home, os.environ)}


def _embedded(home: Path, environ: Mapping[str, str]) -> dict[str, str]:
    """Return the variables of the embedded MLflow if `environ` names it by its address, which may change."""
    if not environ.get("MLFLOW_TRACKING_URI"):
        return {}
    from pipeline.local.services import known_tracking

    known = known_tracking(home)
    same = known.get("MLFLOW_TRACKING_URI") == environ["MLFLOW_TRACKING_URI"].replace("//localhost", "//127.0.0.1")
    return {**known, "MLFLOW_TRACKING_URI": environ["MLFLOW_TRACKING_URI"]} if same else {}


def store_of(environment: Mapping[str, str]) -> "Store":
    """Return the store that a result of `resolve_environment` names.

    Credentials may be where it does not point, such as in a profile, a file or a session token of this process.
    """
    from components.storage.client import Store

    return Store(settings_from_environment({**os.environ, **environment}))


def running_store() -> "Store | None":
    """Return the object store in the environment, otherwise the embedded one if it is running, and start nothing."""
    from components.storage.client import Store

    if os.environ.get("AWS_ENDPOINT_URL"):
        return Store(settings_from_environment())
    from pipeline.local.services import running_object_store

    settings = running_object_store(state_home())
    return None if settings is None else Store(settings)


def open_store() -> "Store":
    """Return the object store in the environment, otherwise the embedded one, which is started."""
    store = store_of(resolve_environment(state_home(), tracking=False))
    store.check()
    return store
