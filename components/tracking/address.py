"""Where MLflow is: the variables that name it, its identity, and links to its pages."""

import os
from collections.abc import Mapping
from urllib.parse import urlsplit

from components.addresses import through_proxy, without_login
from components.errors import UserError
from components.storage.settings import public_address

MLFLOW_VARIABLE = "CPS_PUBLIC_MLFLOW_URL"
TRACKING_VARIABLE = "MLFLOW_TRACKING_URI"
TIMEOUT_VARIABLE = "MLFLOW_HTTP_REQUEST_TIMEOUT"
RETRIES_VARIABLE = "MLFLOW_HTTP_REQUEST_MAX_RETRIES"
EMBEDDED_VARIABLE = "CPS_EMBEDDED_MLFLOW"
"""The embedded server's address and its folder, separated by a space. Its port may change at every start."""

VIEW = "cps"
"""The name of the view of an experiment's runs that links open."""
MODEL_TRAINING_VIEW = "?workflowType=machine_learning"
"""Selects MLflow's view for model training; without it, MLflow opens its view for language models, which has no link to
other runs."""


def check_tracking_address(environ: Mapping[str, str] = os.environ) -> None:
    """Raise UserError if MLFLOW_TRACKING_URI is set and is no address; MLflow would take a bare host for a folder."""
    address = environ.get(TRACKING_VARIABLE, "")
    if not address or address == "databricks":
        return
    try:
        parts = urlsplit(address)
        wrong = "://" not in address or (parts.scheme in ("http", "https") and (not parts.hostname or parts.port == 0))
    except ValueError:  # a port that is not a number, unbalanced brackets
        wrong = True
    if wrong:
        shown = "" if "@" in address else f"={address!r}"  # a login is no text for a message
        raise UserError(f"{TRACKING_VARIABLE}{shown} is not an address: write it as http://host:port")


def server_name(uri: str, environ: Mapping[str, str] = os.environ) -> str:
    """Return the lasting identity of a server: the folder of the embedded one, or the address of another."""
    address, _, folder = environ.get(EMBEDDED_VARIABLE, "").partition(" ")
    return folder if folder and address == uri else without_login(uri)


def no_answer(address: str, error: Exception) -> UserError:
    """Return the error for a server that does not answer, or not as MLflow does."""
    reason = (str(error).splitlines() or [type(error).__name__])[0][:200]
    way = through_proxy(address)
    remedy = f"correct {TRACKING_VARIABLE}{', or list its host in NO_PROXY' if way else ''}"
    return UserError(f"MLflow at {without_login(address)} does not answer{way} ({reason}): {remedy}")


def runs_page(experiment_id: str) -> str:
    """Return the page with the runs of an experiment, the best first, relative to MLflow's address."""
    return f"#/experiments/{experiment_id}/runs{MODEL_TRAINING_VIEW}&viewStateShareKey={VIEW}"


def run_page(experiment_id: str, run_id: str) -> str:
    """Return a run's page, relative to MLflow's address."""
    return f"#/experiments/{experiment_id}/runs/{run_id}{MODEL_TRAINING_VIEW}"


def tracking_link(address: str, page: str) -> str:
    """Return the link to a page of MLflow ("#/experiments/…") at its public address, or else at `address`.

    Empty if neither is a web address.
    """
    base = public_address(MLFLOW_VARIABLE) or (address.rstrip("/") if address.startswith("http") else "")
    return f"{base}/{page}" if base and page else ""
