"""What the pods of steps read, and what those are made of that a training makes: as the pipeline's parameters say."""

from dataclasses import dataclass

from components.runs.request import Resources

SETTINGS = ("AWS_ENDPOINT_URL", "AWS_DEFAULT_REGION")
OPTIONAL_SETTINGS = (
    *("CPS_BUCKET", "CPS_STEP_TIMEOUT", "MLFLOW_TRACKING_URI", "MLFLOW_EXPERIMENT_NAME"),
    *("CPS_PUBLIC_S3_URL", "CPS_PUBLIC_MLFLOW_URL"),
)
KEYS = ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY")
"""What the steps read from their environment, and how the Secret's fields are called unless `compile` renames them."""

SECRET_FIELDS_VARIABLE = "CPS_STORE_SECRET_FIELDS"
"""Tells a step that makes pods of its own how the fields are called, by commas."""

TRACKING_SECRET = "cps-mlflow"
TRACKING_LOGIN = ("MLFLOW_TRACKING_USERNAME", "MLFLOW_TRACKING_PASSWORD")
"""The login of an MLflow server that asks for one, as its client reads it. The Secret may be missing."""


@dataclass(frozen=True)
class Pods:
    """The pods of a training on several nodes: one on each node."""

    image: str
    settings_config_map: str
    store_secret: str
    resources: Resources
