"""Where a task runs on a cluster: its image, settings and keys. Local runs ignore all of it."""

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from kfp.dsl import PipelineTask

SETTINGS = ("AWS_ENDPOINT_URL", "AWS_DEFAULT_REGION")
OPTIONAL_SETTINGS = ("CPS_BUCKET", "CPS_STEP_TIMEOUT", "MLFLOW_TRACKING_URI", "MLFLOW_EXPERIMENT_NAME")
KEYS = ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY")
"""What the steps read from their environment, and how the Secret's fields are called unless `compile` renames them."""

LOGIN = ("CPS_DOWNLOAD_TOKEN", "CPS_DOWNLOAD_USER", "CPS_DOWNLOAD_PASSWORD", "CPS_DOWNLOAD_HOST")
"""What the step that downloads the dataset reads besides, where the source needs a login."""


def give_login(task: "PipelineTask", secret: str) -> "PipelineTask":
    """Let the task download what needs a login. Neither the Secret nor any field of it needs to be there."""
    from kfp import kubernetes

    kubernetes.use_secret_as_env(task, secret, {name: name for name in LOGIN}, optional=True)
    return task


def place(
    task: "PipelineTask", image: str, settings: str, secret: str, display_name: str, retries: int = 0
) -> "PipelineTask":
    """Give a task its image, its ConfigMap and its Secret (parameters of the pipeline), and its name in the UI.

    KFP's cache stays off: a step looks in the store for its finished work, which KFP cannot see vanish. A retry
    goes on where the last attempt was, so it is right for what may be preempted.
    """
    from kfp import kubernetes

    task.set_container_image(image).set_display_name(display_name).set_caching_options(False)
    kubernetes.use_config_map_as_env(task, settings, {name: name for name in SETTINGS})
    kubernetes.use_config_map_as_env(task, settings, {name: name for name in OPTIONAL_SETTINGS}, optional=True)
    kubernetes.use_secret_as_env(task, secret, {name: name for name in KEYS})
    if retries:
        task.set_retry(retries, backoff_duration="30s", backoff_factor=2.0, backoff_max_duration="600s")
    return task
