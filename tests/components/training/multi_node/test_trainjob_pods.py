"""What is said of pods while they come and go: each thing once."""

import threading

import pytest
from job_pods import NAME, pod

from components.training.multi_node.kubernetes_api import this_cluster
from components.training.multi_node.pods import PodFollower


@pytest.fixture
def follower(account, monkeypatch) -> PodFollower:
    """Of a cluster that does not answer, so that there are no logs."""
    monkeypatch.setenv("KUBERNETES_SERVICE_HOST", "127.0.0.1")
    monkeypatch.setenv("KUBERNETES_SERVICE_PORT_HTTPS", "1")
    stopped = threading.Event()
    stopped.set()
    return PodFollower(this_cluster(account), stopped)


def with_uid(item: dict) -> dict:
    return {**item, "metadata": {**item["metadata"], "uid": item["metadata"]["name"]}}


def waiting(rank: int, status: dict) -> dict:
    return with_uid({**pod(rank), "status": {"phase": "Pending", **status}})


def test_what_a_pod_waits_for_is_said_once(follower, capfd):
    unscheduled = {"conditions": [{"type": "PodScheduled", "status": "False", "message": "no GPU is free"}]}
    pulling = {"waiting": {"reason": "ImagePullBackOff", "message": "no such image"}}
    follower.note(waiting(0, unscheduled))
    follower.note(waiting(0, {**unscheduled, "startTime": "later"}))
    follower.note(waiting(0, {"containerStatuses": [{"name": "node", "state": pulling}]}))
    follower.note(with_uid(pod(0)))
    first = pod(0)["metadata"]["name"]
    assert capfd.readouterr().err.splitlines() == [
        f"[train] pod {first} is waiting: no GPU is free",
        f"[train] pod {first} is waiting: ImagePullBackOff: no such image",
    ]


def test_a_new_start_of_all_pods_is_said_once(follower, capfd):
    for attempt in (0, 1, 1, 3):
        for rank in (0, 1):
            follower.note(with_uid(pod(rank, attempt)))
    assert capfd.readouterr().err.splitlines() == [
        "[train] all nodes restart from the newest recovery: attempt 2",
        "[train] all nodes restart from the newest recovery: attempt 4",
    ]


@pytest.mark.parametrize(("codes", "blamed"), [([75, 75], 0), ([75, 1], 1), ([137, 75], 0), ([75, 143, 2], 2)], ids=str)
def test_who_is_blamed(follower, codes, blamed):
    for rank, code in enumerate(codes):
        failed = with_uid(pod(rank, phase="Failed", exitCode=code, message=f"first\n[train] error: of {rank}"))
        follower.note(failed)
        follower.note(failed)
    assert [failure.code for failure in follower.failures] == codes
    assert follower.root_cause() == follower.failures[blamed]
    assert follower.root_cause().text == f"of {blamed}"


def test_a_pod_that_was_taken_away_without_a_word_is_named_with_its_reason(follower, capfd):
    gone = {**pod(1), "status": {"phase": "Failed", "reason": "Evicted", "message": "The node was low on memory."}}
    follower.note(with_uid(gone))
    assert follower.root_cause().text == "The node was low on memory."
    assert "exited with code -1 (Evicted): The node was low on memory." in capfd.readouterr().err
    assert follower.root_cause().pod.startswith(NAME)
