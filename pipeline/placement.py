"""Where a task runs on a cluster: its image, settings, keys, and how much it may take. Local runs ignore all of it.

Amounts, names and images may be parameters of the pipeline, as text; times, retries and volumes are fixed here.
"""

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

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
"""What the step that downloads the dataset reads besides, where the source needs a login."""

WEBHOOK_SECRET, WEBHOOK = "cps-webhook", "CPS_WEBHOOK_URL"
"""Where the end of a run is told. The Secret may be missing."""

TRAINING_HOURS = 14 * 24

SHARED_MEMORY = "8Gi"
"""The most that a pod's processes share; what they use of it counts as the pod's memory."""


@dataclass(frozen=True)
class Placement:
    """What tasks of one image have in common; every field may be a parameter of the pipeline.

    A task asks for all that it may take, so that it is neither slowed down nor killed for another's sake.
    """

    image: Any
    settings: Any
    secret: Any
    tolerations: Any
    cpu: Any = "1"
    memory: Any = "4Gi"


def place(task: "PipelineTask", where: Placement, display_name: str, *, hours: int, retries: int = 0) -> "PipelineTask":
    """Give a task its image, its ConfigMap and its Secret, its limits, and its name in the UI.

    KFP's cache stays off: a step looks in the store for its finished work, which KFP cannot see vanish. A retry
    goes on where the last attempt was, so it is right for what may be preempted; `hours` are one attempt's.
    """
    from kfp import kubernetes

    task.set_container_image(where.image).set_display_name(display_name).set_caching_options(False)
    task.set_cpu_request(where.cpu).set_cpu_limit(where.cpu)
    task.set_memory_request(where.memory).set_memory_limit(where.memory)
    kubernetes.use_config_map_as_env(task, where.settings, {name: name for name in SETTINGS})
    kubernetes.use_config_map_as_env(task, where.settings, {name: name for name in OPTIONAL_SETTINGS}, optional=True)
    kubernetes.use_secret_as_env(task, where.secret, {name: name for name in KEYS})
    kubernetes.use_secret_as_env(task, TRACKING_SECRET, {name: name for name in TRACKING_LOGIN}, optional=True)
    kubernetes.add_toleration_json(task, where.tolerations)
    kubernetes.set_timeout(task, hours * 3600)
    if retries:
        task.set_retry(retries, backoff_duration="30s", backoff_factor=2.0, backoff_max_duration="600s")
    return task


def give_login(task: "PipelineTask", secret: Any) -> "PipelineTask":
    """Let the task download what needs a login. Neither the Secret nor any field of it needs to be there."""
    from kfp import kubernetes

    kubernetes.use_secret_as_env(task, secret, {name: name for name in LOGIN}, optional=True)
    return task


def give_webhook(task: "PipelineTask") -> "PipelineTask":
    """Let the task tell people that the run has ended."""
    from kfp import kubernetes

    kubernetes.use_secret_as_env(task, WEBHOOK_SECRET, {WEBHOOK: WEBHOOK}, optional=True)
    return task


def give_training(task: "PipelineTask", *, gpus: Any, accelerator: Any, node_selector: Any) -> "PipelineTask":
    """What training needs besides: GPUs (text; "0" asks for none), the nodes that have them, and shared memory."""
    from kfp import kubernetes

    task.set_accelerator_type(accelerator).set_accelerator_limit(gpus)
    task.set_env_variable(SECRET_FIELDS_VARIABLE, ",".join(KEYS))
    kubernetes.add_node_selector_json(task, node_selector)
    kubernetes.empty_dir_mount(
        task, volume_name="shared-memory", mount_path="/dev/shm", medium="Memory", size_limit=SHARED_MEMORY
    )
    return task
