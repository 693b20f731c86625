"""What is logged to MLflow: the identity of a run and its values, within the limits of MLflow's REST API."""

import os
import re
import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field

RUN_KEY_TAG = "cps.run_key"
EXPERIMENT_PREFIX = "cps/"

METRICS_PER_REQUEST = 1000
ENTRIES_PER_REQUEST = 100
LONGEST_VALUE = 5000
LONGEST_DIGEST = 36


@dataclass(frozen=True)
class Point:
    """One value of one metric. `timestamp` is in milliseconds; `model_id` links it to a LoggedModel."""

    key: str
    value: float
    step: int
    timestamp: int = field(default_factory=lambda: int(time.time() * 1000))
    model_id: str | None = None


@dataclass(frozen=True)
class RunIdentity:
    """The identity of a run, and the data that it is created with. `began` is in milliseconds since 1970."""

    run_key: str
    experiment: str
    params: Mapping[str, str]
    tags: Mapping[str, str]
    began: int


def experiment_name(dataset: str, environ: Mapping[str, str] = os.environ) -> str:
    """Return MLFLOW_EXPERIMENT_NAME, or else a name for the dataset, so that an experiment's runs are comparable."""
    return environ.get("MLFLOW_EXPERIMENT_NAME") or EXPERIMENT_PREFIX + dataset


def run_name(identity: RunIdentity) -> str:
    """Return a name such as `1/8 s1 cps camvid-mobilenetv2 f7275e`, or the run key if tags are missing.

    What sets runs of one dataset apart comes first, since MLflow truncates names in lists and legends.
    """
    tags = identity.tags
    ratio = tags.get("labeled_ratio") or tags.get("ratio")  # 0.1 spooled the latter
    if not ratio or not {"seed", "method", "recipe"} <= tags.keys():
        return identity.run_key
    again = "again " if "reproduces" in tags else ""
    key = identity.run_key.rpartition("-")[2][:6]
    return f"{ratio} s{tags['seed']} {again}{tags['method']} {tags['recipe']} {key}"


def batches(values: Mapping[str, str]) -> Iterator[dict[str, str]]:
    """Yield as many entries at once as MLflow accepts, and as long ones."""
    entries = [(key, _short(value)) for key, value in values.items()]
    for start in range(0, len(entries), ENTRIES_PER_REQUEST):
        yield dict(entries[start : start + ENTRIES_PER_REQUEST])


def metric_name(text: str) -> str:
    """Return a name that MLflow accepts: letters, digits, and _ - . space : /"""
    return re.sub(r"[^\w\-. :/]", "_", text, flags=re.ASCII)


def _short(value: object) -> str:
    text = str(value)
    return text if len(text) <= LONGEST_VALUE else text[: LONGEST_VALUE - 3] + "..."
