"""Settings of pods: the environment that pipeline steps read, and the pods that a multi-node training creates."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

SETTINGS = ("AWS_ENDPOINT_URL", "AWS_DEFAULT_REGION")
OPTIONAL_SETTINGS = (
    *("CPS_BUCKET", "CPS_STEP_TIMEOUT", "MLFLOW_TRACKING_URI", "MLFLOW_EXPERIMENT_NAME"),
    *("CPS_PUBLIC_S3_URL", "CPS_PUBLIC_MLFLOW_URL"),
)
KEYS = ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY")
"""Environment variables of the steps, and the Secret's field names unless `compile` renames them."""

SECRET_FIELDS_VARIABLE = "CPS_STORE_SECRET_FIELDS"
"""The Secret's field names, comma-separated, for a step that creates pods."""

TRACKING_SECRET = "cps-mlflow"
TRACKING_LOGIN = ("MLFLOW_TRACKING_USERNAME", "MLFLOW_TRACKING_PASSWORD")
"""Credentials for an MLflow server with authentication, as its client reads them. The Secret is optional."""


@dataclass(frozen=True)
class Pods:
    """The pods of a multi-node training, one per node."""

    image: str
    cpu: str
    memory: str
    """Kubernetes quantities, used as both request and limit."""
    gpus: int
    """GPUs per pod; 0 trains on the CPU."""
    accelerator: str
    """Kubernetes resource name of a GPU, such as nvidia.com/gpu."""
    settings_config_map: str
    store_secret: str
    node_selector: Mapping[str, str] = field(default_factory=dict)
    tolerations: Sequence[Mapping[str, Any]] = ()
