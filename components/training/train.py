"""The train step of the pipeline: find the run's state in the store, and bring it to its end."""

from components import progress
from components.errors import UserError
from components.runs.checkpoints import CheckpointIndex, finished_index
from components.storage import keys
from components.storage.client import open_store
from components.storage.lease import Holder, Lease
from components.training.multi_node.pod_settings import Pods
from components.training.multi_node.run import train_on_nodes
from components.training.multi_node.trainjob import job_name
from components.training.supervision.resources import check_gpus
from components.training.supervision.supervisor import supervise


def train(
    run_key: str, processes: int = 1, *, gpus: int = 0, nodes: int = 1, pods: Pods | None = None
) -> CheckpointIndex:
    """Train the run `run_key`, or find it trained; returns the index of its checkpoints.

    A run that was stopped goes on from its newest recovery, and one whose processes die is started again. Ends the
    process with code 143 after SIGTERM.

    Args:
        processes: on each node.
        gpus: that this machine must have, where it trains on one node; 0 asks for none.
        nodes: more than one are pods made as `pods` says.
    """
    store = open_store()
    index = finished_index(store, run_key)
    if index is not None:
        progress.say("train", f"done before: {len(index.checkpoints)} checkpoints")
        return index
    holder = Holder(run=run_key)
    if nodes > 1:
        if pods is None:
            raise UserError(f"nodes is {nodes}: on this machine one node trains; set nodes to 1")
        holder = Holder(run=run_key, trainjob=job_name(run_key))  # by which the job knows that it is followed
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
