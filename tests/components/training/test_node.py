"""Two nodes that train together, each in a network of its own: as pods do, with the names that pods have."""

import os
import signal
import socket
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

import pytest

from components.errors import UserError, WorkFailed
from components.storage import keys
from components.storage.lease import Holder, Lease
from components.training.multi_node import node
from components.training.supervision.supervisor import Node, TrainingDied, supervise
from tests.components.training.stored_run import OVERRIDES, STEPS, StoredRun, stored_run  # noqa: F401
from tests.network_namespaces import Machine, need_namespaces, network
from tests.object_stores import line_to

FAULTY_NODE = Path(__file__).with_name("faulty_node.py")
JOB = "cps-0123456789ab"
MASTER = f"{JOB}-node-0-0.{JOB}"


class Nodes:
    """Both nodes' processes, as a TrainJob starts its pods."""

    def __init__(self, run: StoredRun, machines: list[Machine], endpoint: str) -> None:
        self.run, self.machines, self.endpoint = run, machines, endpoint
        self.started: list[subprocess.Popen[str]] = []

    def start(self, rank: int) -> subprocess.Popen[str]:
        machine = self.machines[rank]
        arguments = [sys.executable, str(FAULTY_NODE), self.run.run_key, "--job", JOB, "--nodes=2", "--processes=1"]
        environment = {
            **os.environ,
            "AWS_ENDPOINT_URL": self.endpoint,
            "JOB_COMPLETION_INDEX": str(rank),
            "POD_IP": machine.address,
        }
        pipe = subprocess.PIPE
        process = subprocess.Popen(machine.command(arguments), env=environment, stdout=pipe, stderr=pipe, text=True)
        self.started.append(process)
        return process

    def make_master_known(self) -> None:
        for machine in self.machines:
            machine.knows(self.machines[0].address, MASTER)


@pytest.fixture
def nodes(stored_run: StoredRun) -> Iterator[Nodes]:  # noqa: F811
    need_namespaces()
    with (
        network([f"{JOB}-node-0-{rank}" for rank in (0, 1)]) as net,
        line_to(stored_run.store.settings, [], upstream=True, host=net.address) as line,
    ):
        pair = Nodes(stored_run, net.machines, line.address)
        try:
            yield pair
        finally:
            for process in pair.started:
                with suppress(ProcessLookupError):
                    process.kill()
                process.communicate()


def ended(process: subprocess.Popen[str], seconds: float = 240) -> tuple[int, str]:
    _, text = process.communicate(timeout=seconds)
    return process.returncode, text


@pytest.mark.slow
@pytest.mark.timeout(600)
def test_nodes_end_together_go_on_together_and_equal_processes_of_one_machine(nodes: Nodes):
    run = nodes.run
    undisturbed = run.undisturbed(2)

    # The second node is there first, and waits for the first one's name.
    run.meet((1, 17, "kill"))
    second = nodes.start(1)
    assert second.stderr is not None
    line = second.stderr.readline()
    assert f"waiting for the first node: {MASTER}:29400" in line
    first = nodes.start(0)
    nodes.make_master_known()
    code, text = ended(second)
    assert code == node.DIED, text
    assert "SIGKILL: out of memory?" in text
    # Of a killed rank on another node a node hears by its connection; a hung one would be waited for much longer.
    code, text = ended(first, 30)
    assert code == node.DIED, text

    # Told to stop, both save and end alike; then both go on to the end.
    run.meet((1, 25, "terminate"))
    both = [nodes.start(rank) for rank in (0, 1)]
    told = [ended(process) for process in both]
    assert [code for code, _ in told] == [143, 143], told
    assert "resuming from step 15 of 36" in told[0][1]
    assert "stopped after step 26 of 36, state saved" in told[0][1]
    both = [nodes.start(rank) for rank in (0, 1)]
    done = [ended(process) for process in both]
    assert [code for code, _ in done] == [0, 0], done
    assert "resuming from step 26 of 36" in done[0][1]
    assert run.digests() == undisturbed.digests
    assert run.curve() == undisturbed.curve
    assert {line["rank"] for line in run.lines("step") if line["step"] == STEPS - 1} == {0, 1}
    assert OVERRIDES["training.recovery_steps"] == 5, "15 is the newest recovery before 17"

    again = nodes.start(1)
    assert ended(again)[0] == 0, "who comes when all is done needs no other"


def test_the_first_node_is_waited_for_and_not_for_ever(monkeypatch, capfd):
    monkeypatch.setattr(node, "RETRY_SECONDS", 0.01)
    with socket.create_server(("127.0.0.1", 0)) as listener:
        port = listener.getsockname()[1]
        node.wait_for_master("localhost", port, 5)
    with pytest.raises(TrainingDied, match=rf"localhost:{port} did not answer within 0.1 s: .*refused"):
        node.wait_for_master("localhost", port, 0.1)
    assert capfd.readouterr().err.count("waiting for the first node") == 1


def test_nodes_that_never_come_are_not_waited_for_for_ever(store):
    with socket.create_server(("127.0.0.1", 0)) as listener:
        port = listener.getsockname()[1]
    with pytest.raises(TrainingDied, match="not all of the 2 nodes connected within 1 s"):
        supervise(store, "run", 1, threading.Event(), node=Node(2, 0, f"127.0.0.1:{port}", 1), restarts=0)


def test_an_address_that_the_launcher_would_not_take_for_its_own_is_a_mistake():
    with pytest.raises(UserError, match=r"POD_IP is 203\.0\.113\.9, but this host's name"):
        node._own_address("203.0.113.9")


@pytest.mark.parametrize("index", [None, "first"])
def test_outside_of_a_trainjobs_pod_one_is_told(monkeypatch, index):
    monkeypatch.setenv("POD_IP", "203.0.113.9")
    if index:
        monkeypatch.setenv("JOB_COMPLETION_INDEX", index)
    with pytest.raises(UserError, match="run this in a pod of a TrainJob"):
        node._place()


JOB_OF_RUN = node.Job("run", JOB, nodes=2, processes=1)


@pytest.fixture
def quick(monkeypatch):
    monkeypatch.setattr(node, "LEASE_SECONDS", 0.05)
    monkeypatch.setattr(node, "ORPHANED_SECONDS", 0.3)


@pytest.mark.usefixtures("quick")
def test_a_run_that_another_works_on_is_left_to_it(store):
    with Lease(store, keys.run("run", "lease.json"), Holder(trainjob=JOB)):
        follower = node._Follower(store, JOB_OF_RUN)
        assert not follower.lost.wait(1), "our step holds it, whichever attempt it is"
    with Lease(store, keys.run("run", "lease.json"), Holder(run="run")):
        assert follower.lost.wait(60)
    assert not follower.orphaned.is_set()


@pytest.mark.usefixtures("quick")
def test_a_job_that_no_step_follows_saves_its_state_and_ends(store, monkeypatch):
    def told_to_stop(*_arguments, **_others) -> None:
        signal.pause()

    monkeypatch.setattr(node, "supervise", told_to_stop)
    monkeypatch.setattr(node, "_own_address", lambda address: address)
    before = signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))
    try:
        with pytest.raises(
            WorkFailed, match=r"no pipeline step has followed this job for 0\.3 s; the log says where the state is"
        ):
            node.train_on_node(store, JOB_OF_RUN, 0, "203.0.113.9")
    finally:
        signal.signal(signal.SIGTERM, before)
