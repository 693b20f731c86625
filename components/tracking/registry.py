"""MLflow's model registry: one registered model per dataset, one version per run, the alias `champion` for the best.

Scores are comparable only on the same validation images, so the registered model's name holds the dataset's digest.
"""

import re
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from components.progress import say
from components.tracking.address import no_answer
from components.tracking.server import ServedRun, connect, http_status
from components.tracking.values import RUN_KEY_TAG

if TYPE_CHECKING:
    from components.tracking.server import Client

CHAMPION = "champion"
SCORE_TAG = "mIoU"
NO_CHAMPION_TAG = "no_better_than_constant"
"""The tag of a version that never becomes champion, because it is no better than a constant prediction."""


def model_name(dataset: str, digest: str) -> str:
    """Return `cps-<dataset>-<8 hex digits of its digest>`, without characters that MLflow does not allow."""
    return f"cps-{re.sub(r'[^A-Za-z0-9_.-]+', '-', dataset).strip('-')}-{digest[:8]}"


def champion_key(address: str, dataset: str, digest: str) -> str:
    """Return the run key of a dataset's champion, or an empty string. Raises UserError."""
    client = connect(address)
    try:
        champion = _champion(client, model_name(dataset, digest))
    except client.errors as error:
        raise no_answer(address, error) from None
    return champion.tags.get(RUN_KEY_TAG, "") if champion else ""


def register(run: ServedRun, model: str, weights: str, tags: Mapping[str, str], description: str = "") -> None:
    """Register the run's weights as a version, and make it the champion if its mIoU is higher than the champion's.

    A version with NO_CHAMPION_TAG never becomes champion.

    Args:
        weights: their URI.
        tags: the version's tags, such as its run key, its mIoU in [0, 1] and its sha256.
        description: shown in MLflow's list of versions.
    """
    client = run.client
    _ensure_model(client, model)
    version = _version(client, run.run_id, model, weights, tags, description)
    champion = _champion(client, model)
    own = f"{tags[RUN_KEY_TAG]}, {_percent(version)}"
    if NO_CHAMPION_TAG in tags:
        say("tracking", f"champion of {model}: not {own}, which is no better than a constant prediction")
    elif champion is None:
        client.set_registered_model_alias(model, CHAMPION, version.version)
        say("tracking", f"champion of {model}: {own}, the first")
    elif champion.version == version.version:
        return
    elif SCORE_TAG not in champion.tags:
        say(
            "tracking",
            f"champion of {model} stays version {champion.version}, which was not registered by this pipeline",
        )
    elif champion.run_id == run.run_id or float(version.tags[SCORE_TAG]) > float(champion.tags[SCORE_TAG]):
        client.set_registered_model_alias(model, CHAMPION, version.version)
        say("tracking", f"champion of {model}: {own}; before: {_described(champion)}")
    else:
        say("tracking", f"champion of {model} stays {_described(champion)}; this run: {_percent(version)}")


def _ensure_model(client: "Client", name: str) -> None:
    try:
        client.get_registered_model(name)
    except client.errors as missing:
        if http_status(missing) != 404:
            raise
        try:
            client.create_registered_model(name, description="Weights of runs on one dataset; the best are `champion`.")
        except client.errors as error:
            if getattr(error, "error_code", "") != "RESOURCE_ALREADY_EXISTS":  # another run was faster
                raise


def _version(client: "Client", run_id: str, model: str, weights: str, tags: Mapping[str, str], description: str) -> Any:
    """Return the version with these weights and this score, and create it if it does not exist."""
    for version in client.search_model_versions(f"name = '{model}' AND run_id = '{run_id}'"):
        if all(version.tags.get(key) == value for key, value in tags.items()):
            return version
    return client.create_model_version(
        model, weights, run_id, dict(tags), description=description, await_creation_for=0
    )


def _champion(client: "Client", model: str) -> Any | None:
    try:
        return client.get_model_version_by_alias(model, CHAMPION)
    except client.errors as error:
        # MLflow reports a missing alias as an invalid parameter.
        if http_status(error) in (400, 404):
            return None
        raise


def _described(version: Any) -> str:
    return f"{version.tags.get(RUN_KEY_TAG, f'version {version.version}')}, {_percent(version)}"


def _percent(version: Any) -> str:
    return f"{100 * float(version.tags[SCORE_TAG]):.1f} % mIoU"
