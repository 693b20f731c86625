import json
import socket
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest

from components.storage.client import Store
from components.storage.lease import Holder, Lease, LeaseHeld, living_holder

pytestmark = pytest.mark.conditional_writes

KEY = "runs/a/lease.json"
ELSEWHERE = Holder(host="elsewhere", pid=4711)


def test_held_inside_the_block_and_gone_after_it(store: Store) -> None:
    with Lease(store, KEY, Holder(doing="training")) as lease:
        holder = store.get_json(KEY)["holder"]
        assert holder["doing"] == "training"
        assert holder["host"] == socket.gethostname()
        assert not lease.lost.is_set()
    assert store.stat(KEY) is None
    with Lease(store, KEY):
        pass


def test_a_second_holder_is_told_who_the_first_is(store: Store) -> None:
    with Lease(store, KEY, ELSEWHERE):
        with pytest.raises(LeaseHeld, match=r"process 4711 on elsewhere since \d{4}-\d\d-\d\dT") as caught:
            Lease(store, KEY).__enter__()
        assert caught.value.holder == ELSEWHERE
        assert store.uri(KEY) in str(caught.value)
    assert store.stat(KEY) is None


def test_the_heartbeat_outlives_the_time_to_live(store: Store) -> None:
    with Lease(store, KEY, ELSEWHERE, seconds=0.6) as lease:
        time.sleep(1.5)
        assert not lease.lost.is_set()
        with pytest.raises(LeaseHeld):
            Lease(store, KEY).__enter__()


def test_a_lease_that_another_machine_renews_has_a_living_holder(store: Store) -> None:
    """Which cannot be told at first sight: a killed process leaves the same behind."""
    with Lease(store, KEY, ELSEWHERE, seconds=60):
        assert living_holder(store, KEY) == ELSEWHERE  # a process of this machine
    _leave_behind(store, ELSEWHERE, renewed=time.time(), seconds=3)

    def renew() -> None:
        time.sleep(0.5)
        _leave_behind(store, ELSEWHERE, renewed=time.time(), seconds=3)

    thread = threading.Thread(target=renew)
    thread.start()
    assert living_holder(store, KEY) == ELSEWHERE
    thread.join()


@pytest.mark.parametrize("ahead", [0, 3600])
def test_a_lease_that_nobody_renews_has_none(store: Store, ahead: float) -> None:
    """Also where the clock of the machine that held it is ahead of this one's."""
    _leave_behind(store, ELSEWHERE, renewed=time.time() + ahead, seconds=0.5)
    assert living_holder(store, KEY) is None
    store.remove(KEY)
    assert living_holder(store, KEY) is None


def test_an_expired_lease_is_taken_over(store: Store) -> None:
    _leave_behind(store, ELSEWHERE, renewed=time.time() - 61)
    with Lease(store, KEY):
        assert store.get_json(KEY)["holder"]["host"] == socket.gethostname()
    assert store.stat(KEY) is None


def test_a_fresh_lease_of_an_unseen_process_is_respected(store: Store) -> None:
    _leave_behind(store, ELSEWHERE, renewed=time.time())
    with pytest.raises(LeaseHeld):
        Lease(store, KEY).__enter__()


@pytest.mark.parametrize("rubbish", [b"", b"{}", b"[]", b'{"renewed": "soon", "seconds": 1}'])
def test_what_is_no_lease_is_taken_over(store: Store, rubbish: bytes) -> None:
    store.put_bytes(KEY, rubbish)
    with Lease(store, KEY):
        assert store.get_json(KEY)["seconds"] == 60


def test_of_many_that_find_it_expired_one_gets_it(store: Store) -> None:
    _leave_behind(store, ELSEWHERE, renewed=0)
    start, done = threading.Barrier(4), threading.Barrier(4)
    outcomes: list[str] = []

    def contend() -> None:
        start.wait()
        try:
            with Lease(store, KEY) as lease:
                done.wait()  # held until everybody has tried
                outcomes.append("lost" if lease.lost.is_set() else "held")
        except LeaseHeld:
            outcomes.append("refused")
            done.wait()

    threads = [threading.Thread(target=contend) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(outcomes) == ["held", "refused", "refused", "refused"]


def test_one_that_was_taken_over_says_so_and_leaves_the_new_one_alone(store: Store) -> None:
    with Lease(store, KEY, seconds=0.3) as lease:
        _leave_behind(store, ELSEWHERE, renewed=time.time())
        assert lease.lost.wait(5)
    assert store.get_json(KEY)["holder"] == ELSEWHERE.model_dump()


def test_the_lease_of_a_killed_process_need_not_expire(store: Store, store_environment: dict[str, str]) -> None:
    assert store_environment
    program = f"""
import os, signal
from components.storage.client import open_store
from components.storage.lease import Lease
with Lease(open_store(), {KEY!r}, seconds=3600):
    os.kill(os.getpid(), signal.SIGKILL)
"""
    killed = subprocess.run([sys.executable, "-c", program], cwd=Path(__file__).parents[3], check=False)
    assert killed.returncode == -9
    assert store.get_json(KEY)["seconds"] == 3600
    with Lease(store, KEY):
        pass


def _leave_behind(store: Store, holder: Holder, renewed: float, seconds: float = 60) -> None:
    record = {
        "token": "of another",
        "holder": holder.model_dump(),
        "since": "2025-01-01T00:00:00+00:00",
        "renewed": renewed,
        "seconds": seconds,
        "process": {"pid": 4711, "space": "another boot"},
    }
    store.put_bytes(KEY, json.dumps(record).encode())
