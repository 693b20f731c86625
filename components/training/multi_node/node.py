"""One of the nodes of a training on several: what each pod of a TrainJob runs.

    python3 -m components.training.multi_node.node RUN_KEY --job NAME --nodes 2 --processes 8

Kubernetes gives JOB_COMPLETION_INDEX and POD_IP. A pod in which processes die ends with code 75, and so does each of
its peers, which lose their connections to it; whoever watches the pods starts all of them anew, and they go on from
the newest recovery. Other codes are final: 0 done, 1 failed, 2 the user's mistake; and 143 after SIGTERM, with the
state saved where the log says.
"""

import argparse
import os
import signal
import socket
import sys
import threading
import time
from dataclasses import dataclass

from components import progress
from components.errors import UserError, WorkFailed
from components.runs.checkpoints import finished_index
from components.step_guard import step_guard
from components.storage import keys
from components.storage.client import Store, open_store
from components.storage.lease import held_by
from components.training.supervision.resources import check_gpus
from components.training.supervision.supervisor import Node, TrainingDied, supervise

RANK_VARIABLE, ADDRESS_VARIABLE = "JOB_COMPLETION_INDEX", "POD_IP"
MASTER_PORT = 29400
DIED = 75
"""EX_TEMPFAIL of sysexits.h: it is worth trying again."""
MEETING_SECONDS = 1800.0
"""For all pods to be scheduled and to have pulled their image."""
CONNECT_SECONDS, RETRY_SECONDS = 5.0, 1.0
LAST_WORD_SECONDS = 5.0
"""A pod whose processes died waits so long before it ends: where a peer's error is the cause, that one ends first."""
LEASE_SECONDS = 20.0
ORPHANED_SECONDS = 1800.0
"""Without a step that follows the job; its retry may come late, but GPUs are not to be kept for nobody."""


@dataclass(frozen=True)
class Job:
    """What all nodes of a training are told alike."""

    run_key: str
    name: str
    nodes: int
    processes: int
    gpus: int = 0


def main() -> None:
    job = _arguments()
    with step_guard("train"):
        try:
            train_on_node(open_store(), job, *_place())
        except TrainingDied as died:
            progress.failure("train", str(died), DIED)
            time.sleep(LAST_WORD_SECONDS)
            sys.exit(DIED)


def train_on_node(store: Store, job: Job, rank: int, address: str) -> None:
    """Train as node `rank` of the job's, in as many processes as each of them has, until the run is trained.

    Raises:
        TrainingDied: processes here or on another node died, or not all nodes came.
        UserError, WorkFailed: what a new start does not mend.
    """
    if finished_index(store, job.run_key) is not None:
        progress.say("train", "done before")
        return
    if job.gpus:
        check_gpus(job.gpus)
    master = _own_address(address) if rank == 0 else f"{job.name}-node-0-0.{job.name}"
    if rank > 0:
        wait_for_master(master, MASTER_PORT, MEETING_SECONDS)
    node = Node(job.nodes, rank, f"{master}:{MASTER_PORT}", MEETING_SECONDS)
    follower = _Follower(store, job)
    try:
        supervise(store, job.run_key, job.processes, follower.lost, node=node, restarts=0)
    except SystemExit:
        if follower.orphaned.is_set():
            raise WorkFailed(
                f"no step has followed this job for {ORPHANED_SECONDS:g} s; its log says where the state is"
            ) from None
        raise


def wait_for_master(host: str, port: int, seconds: float) -> None:
    """Until the first node's launcher listens. Its name resolves when its pod has an address.

    Paddle's own launcher would wait without end. Raises TrainingDied when the time is over.
    """
    deadline, why = time.monotonic() + seconds, ""
    while True:
        try:
            socket.create_connection((host, port), timeout=CONNECT_SECONDS).close()
            return
        except OSError as error:
            if time.monotonic() > deadline:
                raise TrainingDied(f"{host}:{port} did not answer within {seconds:g} s: {error}") from None
            if str(error) != why:
                progress.say("train", f"waiting for the first node: {host}:{port}: {error}")
            why = str(error)
        time.sleep(RETRY_SECONDS)


class _Follower:
    """Looks, in a thread, whether the step that holds the run's lease follows this job.

    `lost` is set when another works on the run. After ORPHANED_SECONDS without anybody the process is told to stop.
    """

    def __init__(self, store: Store, job: Job) -> None:
        self.lost, self.orphaned = threading.Event(), threading.Event()
        threading.Thread(target=self._watch, args=(store, job), name="follower", daemon=True).start()

    def _watch(self, store: Store, job: Job) -> None:
        seen = time.monotonic()
        while True:
            time.sleep(LEASE_SECONDS)
            try:
                holder = held_by(store, keys.run(job.run_key, "lease.json"))
            except (WorkFailed, UserError):
                continue  # the store is away, and so the lease cannot have been taken
            if holder is not None and holder.get("trainjob") != job.name:
                self.lost.set()
                return
            if holder is not None:
                seen = time.monotonic()
            elif time.monotonic() - seen > ORPHANED_SECONDS:
                self.orphaned.set()
                os.kill(os.getpid(), signal.SIGTERM)
                return


def _own_address(address: str) -> str:
    """`address`, where the launcher will take it for its own: it looks up the host's name."""
    name = socket.gethostname()
    try:
        found = socket.gethostbyname(socket.getfqdn(name))
    except OSError as error:
        found = str(error)
    if found != address:
        # Paddle would start no server for the rendezvous, and all nodes would wait for it.
        raise UserError(f"{ADDRESS_VARIABLE} is {address}, but this host's name {name!r} leads to: {found}")
    return address


def _place() -> tuple[int, str]:
    """The node's rank and address, as Kubernetes tells a pod."""
    try:
        return int(os.environ[RANK_VARIABLE]), os.environ[ADDRESS_VARIABLE]
    except (KeyError, ValueError):
        raise UserError(
            f"{RANK_VARIABLE} and {ADDRESS_VARIABLE} must be a number and an address: run this in the pods of a "
            "TrainJob whose runtime is manifests/components/trainer"
        ) from None


def _arguments() -> Job:
    parser = argparse.ArgumentParser(
        prog="components.training.multi_node.node", description="One node of a training on several."
    )
    parser.add_argument("run_key")
    parser.add_argument("--job", required=True, help="name of the TrainJob")
    parser.add_argument("--nodes", type=int, required=True)
    parser.add_argument("--processes", type=int, required=True, help="on each node")
    parser.add_argument("--gpus", type=int, default=0, help="that each node must have")
    given = parser.parse_args()
    return Job(given.run_key, given.job, given.nodes, given.processes, given.gpus)


if __name__ == "__main__":
    main()
