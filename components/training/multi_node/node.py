"""One node of a multi-node training: the entry point of each pod of a TrainJob.

    python3 -m components.training.multi_node.node RUN_KEY --job NAME --nodes 2 --processes 8

Kubernetes sets JOB_COMPLETION_INDEX and POD_IP. If processes die, their pod exits with code 75, and so do its peers,
which lose their connections to it. The JobSet controller then restarts all pods, and they resume from the newest
recovery. Other exit codes are final: 0 done, 1 failed, 2 a mistake in the input, and 143 after SIGTERM, when the log
says where the state is saved.
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
from components.storage.client import Store, reopen_store
from components.storage.lease import held_by
from components.training.supervision.resources import check_gpus
from components.training.supervision.supervisor import Node, TrainingDied, supervise

RANK_VARIABLE, ADDRESS_VARIABLE = "JOB_COMPLETION_INDEX", "POD_IP"
MASTER_PORT = 29400
DIED = 75
"""EX_TEMPFAIL of sysexits.h: a retry may succeed."""
MEETING_SECONDS = 1800.0
"""Time for all pods to be scheduled and to pull their image."""
CONNECT_SECONDS, RETRY_SECONDS = 5.0, 1.0
LAST_WORD_SECONDS = 5.0
"""A pod whose processes died waits this long before it exits, so that a peer whose error is the cause exits first."""
LEASE_SECONDS = 20.0
ORPHANED_SECONDS = 1800.0
"""Limit without a step that follows the job: a retried step may be late, but an orphan must not hold GPUs forever."""


@dataclass(frozen=True)
class Job:
    """Settings that all nodes of a training share."""

    run_key: str
    name: str
    nodes: int
    processes: int
    gpus: int = 0


def main() -> None:
    job = _arguments()
    with step_guard("train"):
        try:
            train_on_node(reopen_store(), job, *_place())
        except TrainingDied as died:
            progress.failure("train", str(died), DIED)
            time.sleep(LAST_WORD_SECONDS)
            sys.exit(DIED)


def train_on_node(store: Store, job: Job, rank: int, address: str) -> None:
    """Train the run as node `rank` of the job.

    Raises:
        TrainingDied: processes here or on another node died, or not all nodes connected.
        UserError, WorkFailed: an error that a restart cannot fix.
    """
    if finished_index(store, job.run_key) is not None:
        progress.say("train", "already trained")
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
                f"no pipeline step has followed this job for {ORPHANED_SECONDS:g} s; "
                "the log says where the state is saved"
            ) from None
        raise


def wait_for_master(host: str, port: int, seconds: float) -> None:
    """Wait until the first node's launcher listens. Its name resolves once its pod has an address.

    Paddle's launcher would wait forever. Raises TrainingDied after `seconds`.
    """
    deadline, reported = time.monotonic() + seconds, ""
    while True:
        try:
            socket.create_connection((host, port), timeout=CONNECT_SECONDS).close()
            return
        except OSError as error:
            if time.monotonic() > deadline:
                raise TrainingDied(f"{host}:{port} did not answer within {seconds:g} s: {error}") from None
            if str(error) != reported:
                progress.say("train", f"waiting for the first node: {host}:{port}: {error}")
            reported = str(error)
        time.sleep(RETRY_SECONDS)


class _Follower:
    """Checks in a thread whether the step that holds the run's lease follows this job.

    It sets `lost` if the holder of the lease follows another job. After ORPHANED_SECONDS without a holder it sets
    `orphaned` and sends SIGTERM to this process.
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
                continue  # the store is unreachable, so nobody can have taken the lease
            if holder is not None and holder.trainjob != job.name:
                self.lost.set()
                return
            if holder is not None:
                seen = time.monotonic()
            elif time.monotonic() - seen > ORPHANED_SECONDS:
                self.orphaned.set()
                os.kill(os.getpid(), signal.SIGTERM)
                return


def _own_address(address: str) -> str:
    """Return `address` after checking that the host's name resolves to it, as the launcher requires."""
    name = socket.gethostname()
    try:
        found = socket.gethostbyname(socket.getfqdn(name))
    except OSError as error:
        found = str(error)
    if found != address:
        # Otherwise Paddle would not start the rendezvous server, and all nodes would wait for it.
        raise UserError(f"{ADDRESS_VARIABLE} is {address}, but this host's name {name!r} resolves to: {found}")
    return address


def _place() -> tuple[int, str]:
    """Return the node's rank and address from the pod's environment."""
    try:
        return int(os.environ[RANK_VARIABLE]), os.environ[ADDRESS_VARIABLE]
    except (KeyError, ValueError):
        raise UserError(
            f"{RANK_VARIABLE} must be a number and {ADDRESS_VARIABLE} an address: run this in a pod of a TrainJob "
            "whose runtime is manifests/components/trainer"
        ) from None


def _arguments() -> Job:
    parser = argparse.ArgumentParser(
        prog="components.training.multi_node.node", description="Run one node of a multi-node training."
    )
    parser.add_argument("run_key")
    parser.add_argument("--job", required=True, help="name of the TrainJob")
    parser.add_argument("--nodes", type=int, required=True)
    parser.add_argument("--processes", type=int, required=True, help="number of processes on each node")
    parser.add_argument("--gpus", type=int, default=0, help="number of GPUs that each node must have")
    given = parser.parse_args()
    return Job(given.run_key, given.job, given.nodes, given.processes, given.gpus)


if __name__ == "__main__":
    main()
