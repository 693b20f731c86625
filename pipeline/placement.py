"""Where and how a task runs on a cluster: image, settings, credentials and resources. Local runs ignore all of this.

Resources, names and images may be pipeline parameters, as text; timeouts, retries and volumes are fixed here.
"""

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from components.storage.lease import DURATION
from components.training.multi_node.pod_settings import (
    KEYS,
    OPTIONAL_SETTINGS,
    SECRET_FIELDS_VARIABLE,
    SETTINGS,
    TRACKING_LOGIN,
    TRACKING_SECRET,
)

if TYPE_CHECKING:
    from kfp.dsl import PipelineTask

LOGIN = ("CPS_DOWNLOAD_TOKEN", "CPS_DOWNLOAD_USER", "CPS_DOWNLOAD_PASSWORD", "CPS_DOWNLOAD_HOST")
"""Additional variables of the step that downloads the dataset, if the source requires authentication."""

WEBHOOK_SECRET, WEBHOOK = "cps-webhook", "CPS_WEBHOOK_URL"
"""The Secret, and its field, with the address that notifications are posted to. The Secret is optional."""

TRAINING_HOURS = 14 * 24

ALL_ATTEMPTS_SECONDS = 365 * 24 * 3600
"""Seconds from a task's first start after which Argo starts no further attempt, and stops one that runs.

Argo's backoff.maxDuration limits all attempts together, pauses and time in a queue included, not one pause. The number
of retries and each attempt's timeout limit a task already, so this must be longer than any task can take.
"""


@dataclass(frozen=True)
class Placement:
    """The settings that all tasks of one image share. Every field may be a pipeline parameter.

    Requests equal limits, so that a task is neither throttled nor killed because of other pods.
    """

    image: Any
    settings: Any
    secret: Any
    tolerations: Any
    cpu: Any = "1"
    memory: Any = "4Gi"


def place(task: "PipelineTask", where: Placement, display_name: str, *, hours: int, retries: int = 0) -> "PipelineTask":
    """Set a task's image, ConfigMap, Secret, resources, retries, timeout and display name, and return the task.

    KFP's cache stays off: each step looks for its finished work in the store, where KFP would not notice a deletion.
    Retries suit preemptible steps, because each attempt resumes where the last one stopped. `hours` limits one attempt.
    """
    from kfp import kubernetes

    task.set_container_image(where.image).set_display_name(display_name).set_caching_options(False)
    task.set_cpu_request(where.cpu).set_cpu_limit(where.cpu)
    task.set_memory_request(where.memory).set_memory_limit(where.memory)
    _let_through(task, where.cpu, where.memory)
    kubernetes.use_config_map_as_env(task, where.settings, {name: name for name in SETTINGS})
    kubernetes.use_config_map_as_env(task, where.settings, {name: name for name in OPTIONAL_SETTINGS}, optional=True)
    kubernetes.use_secret_as_env(task, where.secret, {name: name for name in KEYS})
    kubernetes.use_secret_as_env(task, TRACKING_SECRET, {name: name for name in TRACKING_LOGIN}, optional=True)
    kubernetes.add_toleration_json(task, where.tolerations)
    kubernetes.set_timeout(task, hours * 3600)
    if retries:
        # A pod that was killed keeps the run's lease for a while, and a retry before that would fail.
        first, everything = f"{DURATION:g}s", f"{ALL_ATTEMPTS_SECONDS}s"
        task.set_retry(retries, backoff_duration=first, backoff_factor=2.0, backoff_max_duration=everything)
    return task


def give_login(task: "PipelineTask", secret: Any) -> "PipelineTask":
    """Give the task the credentials for downloads. The Secret and all of its fields are optional."""
    from kfp import kubernetes

    kubernetes.use_secret_as_env(task, secret, {name: name for name in LOGIN}, optional=True)
    return task


def give_webhook(task: "PipelineTask") -> "PipelineTask":
    """Give the task the webhook address for notifications."""
    from kfp import kubernetes

    kubernetes.use_secret_as_env(task, WEBHOOK_SECRET, {WEBHOOK: WEBHOOK}, optional=True)
    return task


def give_gpus(task: "PipelineTask", *, gpus: Any, accelerator: Any, node_selector: Any) -> "PipelineTask":
    """Give the task GPUs (as text; "0" requests none), and a node selector."""
    from kfp import kubernetes

    task.set_accelerator_type(accelerator).set_accelerator_limit(gpus)
    _let_through(task, accelerator, gpus)
    kubernetes.add_node_selector_json(task, node_selector)
    return task


def give_training(task: "PipelineTask") -> "PipelineTask":
    """Give the task what only training needs: shared memory, and the names of the Secret's fields for its pods.

    The volume has no size limit, so that Kubernetes makes it as large as the pod's memory: KFP's driver cannot take the
    limit from a parameter. Training keeps to the parameter `shm` by itself.
    """
    from kfp import kubernetes

    task.set_env_variable(SECRET_FIELDS_VARIABLE, ",".join(KEYS))
    kubernetes.empty_dir_mount(task, volume_name="shared-memory", mount_path="/dev/shm", medium="Memory")
    return task


def _let_through(task: "PipelineTask", *resources: Any) -> None:
    """Declare pipeline parameters that a task takes as resources, so that they reach it inside a loop.

    KFP 2.17 declares the parameters for images, Secrets and node selectors itself, but forgets those for resources:
    the loop then does not pass them on, and the server's driver fails with "parent DAG does not have input parameter".
    """
    from kfp.dsl.pipeline_channel import PipelineChannel

    task.register_pipeline_channels([each for each in resources if isinstance(each, PipelineChannel)])
