"""The train step of the pipeline: start or resume a run's training, and finish it."""

from components import progress
from components.dataset.stored.shared_images import limit_shared_images
from components.errors import UserError
from components.runs.checkpoints import CheckpointIndex, finished_index
from components.storage import keys
from components.storage.client import reopen_store
from components.storage.lease import Holder, Lease
from components.training.multi_node.pod_settings import Pods
from components.training.multi_node.run import train_on_nodes
from components.training.multi_node.trainjob import job_name
from components.training.supervision.resources import check_gpus
from components.training.supervision.supervisor import supervise


def train(
    run_key: str, processes: int = 1, *, gpus: int = 0, nodes: int = 1, pods: Pods | None = None
) -> CheckpointIndex:
    """Train the run `run_key`, unless it is already trained, and return the index of its checkpoints.

    An interrupted run resumes from its newest recovery. If processes die, they are restarted. After SIGTERM, exit with
    code 143.

    Args:
        processes: number of processes on each node.
        gpus: number of GPUs that this machine must have if it trains alone; 0 requires none.
        nodes: number of nodes; if more than one, each is a pod with the settings in `pods`.
        pods: settings of this step's pod, and of the pods that it creates.
    """
    if nodes == 1 and pods is not None and pods.resources.shm:
        limit_shared_images(pods.resources.shm)
    store = reopen_store()
    index = finished_index(store, run_key)
    if index is not None:
        progress.say("train", f"already trained: {len(index.checkpoints)} checkpoints")
        return index
    holder = Holder(run=run_key)
    if nodes > 1:
        if pods is None:
            raise UserError(f"nodes is {nodes}: on this machine one node trains; set nodes to 1")
        holder = Holder(run=run_key, trainjob=job_name(run_key))  # tells the pods that this step follows them
    elif gpus:
        check_gpus(gpus)
    with Lease(store, keys.run(run_key, "lease.json"), holder) as lease:
        if nodes > 1 and pods is not None:
            train_on_nodes(run_key, processes, nodes, pods, lease.lost)
        else:
            supervise(store, run_key, processes, lease.lost)
    index = finished_index(store, run_key)
    assert index is not None, "a training that ended well wrote its index"
    return index
