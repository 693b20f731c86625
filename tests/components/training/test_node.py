"""Two nodes that train together, each in a network of its own: as pods do, with the names that pods have."""

import os
import socket
import subprocess
import sys
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

import pytest
from stored_run import OVERRIDES, STEPS, StoredRun, stored_run  # noqa: F401

from components.errors import UserError
from components.training import node
from components.training.supervisor import TrainingDied
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
    digests, curve = run.undisturbed(2)

    # The second node is there first, and waits for the first one's name.
    run.meet((1, 17, "kill"))
    second = nodes.start(1)
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
    assert "going on from step 15 of 36" in told[0][1]
    assert "stopped after step 26 of 36, state saved" in told[0][1]
    both = [nodes.start(rank) for rank in (0, 1)]
    done = [ended(process) for process in both]
    assert [code for code, _ in done] == [0, 0], done
    assert "going on from step 26 of 36" in done[0][1]
    assert run.digests() == digests
    assert run.curve() == curve
    assert {line["rank"] for line in run.lines("step") if line["step"] == STEPS - 1} == {0, 1}
    assert OVERRIDES["training.recovery_steps"] == 5, "15 is the newest recovery before 17"

    again = nodes.start(1)
    assert ended(again)[0] == 0, "who comes when all is done needs no other"
