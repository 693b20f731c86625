"""A step that trains on several nodes: the job it makes or finds, what it shows of it, every way that it may end."""

import os
import signal
import sys
import threading
import time
from collections.abc import Callable
from dataclasses import replace

import pytest

from components.errors import UserError, WorkFailed
from components.runs.request import Resources
from components.step_guard import raise_on_sigterm
from components.storage import keys
from components.storage.lease import held_by
from components.training import train as step
from components.training.multi_node import follow, kubernetes_api, run
from components.training.multi_node.pod_settings import Pods
from components.training.multi_node.run import train_on_nodes
from components.training.multi_node.trainjob import trainjob
from tests.components.training.multi_node.job_pods import NAME, pod
from tests.components.training.multi_node.kubernetes_api import EVENTS, JOBS, PODS, Api

RUN_KEY = "demo-1-8-s3-0123456789ab"
SMALL = Pods("cps:1", "cps-settings", "cps-store", Resources(cpu="1", memory="1Gi"))


def train(lost: threading.Event | None = None, pods: Pods = SMALL) -> None:
    train_on_nodes(RUN_KEY, 1, 2, pods, lost or threading.Event())


def until(condition: Callable[[], object]) -> None:
    for _ in range(2000):
        if condition():
            return
        time.sleep(0.01)
    raise AssertionError("it did not happen")


def running_job(api: Api) -> dict:
    return api.put(JOBS, trainjob(RUN_KEY, 1, 2, SMALL))


def test_a_job_is_made_followed_and_its_first_nodes_log_shown_once(api, meanwhile, capfd):
    first = pod(0)
    name = first["metadata"]["name"]
    lines = [f"step {number}" for number in range(30)]

    def cluster() -> None:
        until(lambda: api.asked("GET", "watch=true") >= 2)
        api.put(PODS, {**first, "status": {"phase": "Pending"}})
        api.put(PODS, pod(1))
        api.say(pod(1)["metadata"]["name"], "of another node")
        api.put(JOBS, {**api.get(JOBS, NAME), "status": {"conditions": []}})
        until(lambda: api.state.cut_watches == 0)
        api.put(PODS, first)
        until(lambda: api.asked("GET", f"{name}/log"))
        api.say(name, *lines[:15])
        until(lambda: api.state.logs[name].cut_after == [])
        api.say(name, *lines[15:])
        api.put(PODS, pod(0, phase="Succeeded", exitCode=0))
        api.end_job(NAME, "Complete")

    # Both watches break, the log's connections break in the middle, and the API is away now and then.
    api.state.cut_watches = 2
    api.say(name)
    api.state.logs[name].cut_after = [7, 4]
    api.state.refusals = [("POST", "trainjobs", 503), ("GET", "/log", 400), ("GET", "pods", 500), ("GET", NAME, 429)]
    with meanwhile(cluster):
        train()
    said = capfd.readouterr().err.splitlines()
    assert [line for line in said if line.startswith("step")] == lines
    assert said[0] == f"[train] TrainJob {NAME}: 2 nodes of cps:1"
    assert "of another node" not in said
    assert api.state.refusals == []
    assert api.get(JOBS, NAME)["spec"] == trainjob(RUN_KEY, 1, 2, SMALL)["spec"]
    assert api.asked("POST", "trainjobs") == 2, "once refused, once done"
    assert api.asked("GET", "watch=true") == 4
    assert api.asked("GET", f"{name}/log") == 4, "once refused, twice broken"


def test_the_end_of_a_log_is_shown_though_the_job_ended_before_its_pods_were_known(api, meanwhile, capfd):
    def cluster() -> None:
        until(lambda: api.get(JOBS, NAME))
        api.say(pod(0)["metadata"]["name"], "the end")
        api.put(PODS, pod(0, phase="Succeeded", exitCode=0))
        api.end_job(NAME, "Complete")

    api.state.refusals = [("GET", "/log", 500)]
    with meanwhile(cluster):
        train()
    assert capfd.readouterr().err.count("the end\n") == 1


def test_a_watch_that_is_too_old_begins_again_with_a_list(api, meanwhile, monkeypatch):
    monkeypatch.setattr(kubernetes_api, "WATCH_SECONDS", 1)
    job = running_job(api)

    def cluster() -> None:
        until(lambda: api.asked("GET", "trainjobs?fieldSelector") >= 2)
        api.forget_old_versions()
        lists = api.asked("GET", "trainjobs?fieldSelector")
        until(lambda: api.asked("GET", "trainjobs?fieldSelector") > lists + 2)
        api.end_job(NAME, "Complete")

    with meanwhile(cluster):
        train()
    assert api.get(JOBS, NAME)["metadata"]["uid"] == job["metadata"]["uid"]


def test_where_watching_is_not_allowed_lists_do(api, meanwhile):
    running_job(api)
    api.state.forbidden = [("GET", "watch=true")]

    def cluster() -> None:
        until(lambda: api.asked("GET", "watch=true") > 4)
        api.end_job(NAME, "Complete")

    with meanwhile(cluster):
        train()


def test_a_step_that_is_tried_again_follows_the_job_that_goes_on(api, meanwhile, capfd):
    running_job(api)
    with meanwhile(lambda: (until(lambda: api.asked("GET", "watch=true")), api.end_job(NAME, "Complete"))):
        train()
    assert api.asked("POST", "trainjobs") == 0
    assert f"following TrainJob {NAME}, which is already running" in capfd.readouterr().err


def test_who_is_slower_to_create_follows_the_others(api, meanwhile):
    running_job(api)
    api.state.refusals = [("GET", NAME, 404)]  # as it was a moment before
    with meanwhile(lambda: (until(lambda: api.asked("GET", "watch=true")), api.end_job(NAME, "Complete"))):
        train()
    assert api.asked("POST", "trainjobs") == 1
    assert api.state.refusals == []


@pytest.mark.parametrize("how", ["Failed", "Complete"])
def test_a_job_that_has_ended_makes_room_for_a_new_one(api, meanwhile, how, capfd):
    old = running_job(api)["metadata"]["uid"]
    api.end_job(NAME, how)

    def cluster() -> None:
        until(lambda: "deletionTimestamp" in api.get(JOBS, NAME)["metadata"])
        assert api.asked("POST", "trainjobs") == 0
        api.remove(JOBS, NAME)
        until(lambda: api.get(JOBS, NAME))
        assert api.get(JOBS, NAME)["metadata"]["uid"] != old
        api.end_job(NAME, "Complete")

    with meanwhile(cluster):
        train()
    assert api.asked("DELETE", NAME) == 1
    assert f"replacing TrainJob {NAME}, which is {how.lower()}" in capfd.readouterr().err


def test_a_job_of_that_name_that_is_not_ours_is_left_alone(api):
    api.put(JOBS, trainjob("other-1-8-s3-0123456789ab", 1, 2, SMALL))
    with pytest.raises(UserError, match=f"TrainJob {NAME} exists but does not belong to run {RUN_KEY}"):
        train()
    assert api.asked("DELETE", NAME) == 0


LAST = "[train]  56% epoch 4/6\n[train] error: the loss is nan at step 14"


@pytest.mark.parametrize(("code", "kind"), [(1, WorkFailed), (2, UserError)])
def test_a_failure_is_told_in_the_failing_pods_own_words(api, meanwhile, capfd, code, kind):
    def cluster() -> None:
        until(lambda: api.get(JOBS, NAME))
        api.put(PODS, pod(0))
        api.say(pod(0)["metadata"]["name"], "[train] of the first node")
        api.put(PODS, pod(0, phase="Failed", exitCode=75, message="[train] error: a process died"))
        api.put(PODS, pod(1, phase="Failed", exitCode=code, message=LAST, reason="Error"))
        api.end_job(NAME, "Failed", message="jobset failed")

    with meanwhile(cluster), pytest.raises(kind) as failed:
        train()
    last = "the loss is nan at step 14"
    name = pod(1)["metadata"]["name"]
    long = f"TrainJob {NAME} failed: pod {name} exited with code 1: {last}"
    assert str(failed.value) == (last if kind is UserError else long)
    said = capfd.readouterr().err
    assert f"the last lines of pod {name}:\n{LAST}\n" in said
    assert f"[train] pod {pod(0)['metadata']['name']} exited with code 75 (Error): a process died" in said
    assert said.count("[train] of the first node") == 1
    shown, deleted = said.index(f"the last lines of pod {name}"), said.index(f"deleted TrainJob {NAME}, which failed")
    assert shown < deleted
    # Its JobSet expires, and Kubeflow Trainer, which clears the state Failed each time it looks, would make it again.
    assert "deletionTimestamp" in api.get(JOBS, NAME)["metadata"]


def test_a_failure_is_told_though_the_job_cannot_be_deleted(api, meanwhile, capfd):
    api.state.forbidden = [("DELETE", NAME)]

    def cluster() -> None:
        until(lambda: api.get(JOBS, NAME))
        api.end_job(NAME, "Failed", message="jobset failed")

    with meanwhile(cluster), pytest.raises(WorkFailed, match="jobset failed"):
        train()
    said = f"delete TrainJob {NAME}, which failed, or it may start again: {NAME} is forbidden"
    assert said in capfd.readouterr().err


def test_where_kubernetes_kept_no_last_words_the_log_is_asked(api, meanwhile, capfd):
    def cluster() -> None:
        until(lambda: api.get(JOBS, NAME))
        api.say(pod(1)["metadata"]["name"], *[f"line {number}" for number in range(100)], "[train] error: disk full")
        api.put(PODS, pod(1, phase="Failed", exitCode=1))
        api.end_job(NAME, "Failed")

    with meanwhile(cluster), pytest.raises(WorkFailed, match="exited with code 1: disk full"):
        train()
    said = capfd.readouterr().err
    assert "line 99\n" in said
    assert "line 40\n" not in said


def test_a_job_that_fails_without_pods_is_told_in_its_own_words(api, meanwhile):
    def cluster() -> None:
        until(lambda: api.get(JOBS, NAME))
        api.end_job(NAME, "Failed", message="unsupported runtime")

    with meanwhile(cluster), pytest.raises(WorkFailed, match=f"^TrainJob {NAME} failed: unsupported runtime$"):
        train()


@pytest.fixture
def exits_on_sigterm():
    end = raise_on_sigterm(SystemExit(143))
    yield
    end()


@pytest.mark.usefixtures("exits_on_sigterm")
def test_told_to_stop_the_step_deletes_its_job(api, meanwhile):
    def tell() -> None:
        until(lambda: api.asked("GET", "watch=true") >= 2)
        os.kill(os.getpid(), signal.SIGTERM)

    with pytest.raises(SystemExit) as stopped, meanwhile(tell):
        train()
    assert stopped.value.code == 143
    assert "deletionTimestamp" in api.get(JOBS, NAME)["metadata"]


@pytest.mark.usefixtures("exits_on_sigterm")
def test_told_to_stop_without_an_api_the_step_ends_all_the_same(api, meanwhile, monkeypatch, capfd):
    monkeypatch.setattr(run, "CANCEL_SECONDS", 0.2)

    def tell() -> None:
        until(lambda: api.asked("GET", "watch=true") >= 2)
        with api.state.changed:
            api.state.token = "another"
        os.kill(os.getpid(), signal.SIGTERM)

    with pytest.raises(SystemExit) as stopped, meanwhile(tell):
        train()
    assert stopped.value.code == 143
    assert "could not be deleted and will end by itself: Unauthorized" in capfd.readouterr().err


@pytest.mark.usefixtures("exits_on_sigterm")
def test_a_job_of_a_run_that_another_took_over_is_left_to_it(api, meanwhile):
    lost = threading.Event()
    running_job(api)
    with meanwhile(lost.set), pytest.raises(WorkFailed, match="another process took over the run"):
        train(lost)

    before = api.asked("GET", "watch=true")

    def tell() -> None:
        until(lambda: api.asked("GET", "watch=true") >= before + 2)
        os.kill(os.getpid(), signal.SIGTERM)

    lost = _SetWhenAskedAgain()
    with pytest.raises(SystemExit), meanwhile(tell):
        train(lost)
    assert "deletionTimestamp" not in api.get(JOBS, NAME)["metadata"]


class _SetWhenAskedAgain(threading.Event):
    """Lost just before SIGTERM comes: seen by whoever asks after it."""

    def is_set(self) -> bool:
        return isinstance(sys.exc_info()[1], SystemExit)


def warn(api: Api, text: str, when: str, kind: str = "Warning") -> None:
    """An event of the job, as Kubeflow Trainer writes them."""
    job = api.get(JOBS, NAME)
    assert job is not None
    series = {"count": 2, "lastObservedTime": when}
    event = {
        "metadata": {"name": when},
        "type": kind,
        "involvedObject": {"uid": job["metadata"]["uid"]},
        "message": text,
    }
    api.put(EVENTS, {**event, "eventTime": "2026-01-01T00:00:00Z", "series": series})


@pytest.fixture
def impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(follow, "START_SECONDS", 0.0)
    monkeypatch.setattr(follow, "GIVE_UP_SECONDS", 0.0)


@pytest.mark.usefixtures("impatient")
def test_a_job_without_pods_is_told_why_and_given_up(api, capfd):
    running_job(api)
    warn(api, "a webhook denied\nthe JobSet", "2026-01-02T00:00:00Z")
    warn(api, "of yesterday", "2026-01-01T00:00:00Z")
    warn(api, "nothing to see", "2026-01-03T00:00:00Z", "Normal")
    with pytest.raises(WorkFailed, match=rf"TrainJob {NAME} has had no pods for \d+ s: a webhook denied the JobSet"):
        train()
    said = capfd.readouterr().err.splitlines()
    assert said[1:] == [
        f"[train] TrainJob {NAME} has no pods yet: a webhook denied the JobSet",
        f"[train] deleted TrainJob {NAME}, which failed",
    ]
    assert "deletionTimestamp" in api.get(JOBS, NAME)["metadata"]


@pytest.mark.usefixtures("impatient")
def test_a_job_without_pods_or_events_asks_for_trainer(api):
    api.state.forbidden = [("GET", "events")]
    with pytest.raises(WorkFailed, match=f"is Kubeflow Trainer running.*kubectl -n runs describe trainjob {NAME}"):
        train()


@pytest.mark.usefixtures("impatient")
@pytest.mark.parametrize("sign", ["pods that may not be seen", "a queue"])
def test_a_job_that_needs_longer_is_not_given_up(api, meanwhile, sign):
    job = running_job(api)
    if sign == "a queue":
        job["spec"]["suspend"] = True
    else:
        api.state.forbidden = [("GET", "pods")]
        job["status"] = {"jobsStatus": [{"name": "node", "active": 1}]}
    api.put(JOBS, job)

    def cluster() -> None:
        until(lambda: api.asked("GET", "watch=true"))
        time.sleep(10 * follow.POLL_SECONDS)
        api.end_job(NAME, "Complete")

    with meanwhile(cluster):
        train()
    assert not api.asked("GET", "events")


@pytest.mark.parametrize("how", ["marked", "gone"])
def test_a_job_that_somebody_deletes_ends_the_step(api, meanwhile, how):
    def cluster() -> None:
        until(lambda: api.asked("GET", "watch=true") >= 2)
        if how == "gone":
            api.remove(JOBS, NAME)
        else:
            job = api.get(JOBS, NAME)
            job["metadata"]["deletionTimestamp"] = "2026-01-02T03:04:05Z"
            api.put(JOBS, job)

    with meanwhile(cluster), pytest.raises(WorkFailed, match=f"TrainJob {NAME} was deleted: run it again"):
        train()


def test_pods_that_may_not_be_seen_do_not_end_a_training(api, meanwhile, capfd):
    api.state.forbidden = [("GET", "pods")]

    def cluster() -> None:
        until(lambda: api.get(JOBS, NAME) and api.asked("GET", "pods"))
        api.end_job(NAME, "Complete")

    with meanwhile(cluster):
        train()
    assert "following the job without its pods and their logs: pods is forbidden" in capfd.readouterr().err


@pytest.mark.parametrize(
    ("status", "found"),
    [
        (403, "this step's ServiceAccount has no access to TrainJobs in namespace runs"),
        (404, "this cluster has no TrainJobs .*: install Kubeflow Trainer, or set nodes to 1"),
        (400, "the cluster rejected the TrainJob: this time not"),
    ],
)
def test_why_there_is_no_job(api, status, found):
    api.state.refusals = [("POST", "trainjobs", status)]
    with pytest.raises(UserError, match=found):
        train()


def test_a_job_that_does_not_fit_is_told_as_the_cluster_tells_it(api):
    with pytest.raises(UserError, match=r"the cluster rejected the TrainJob: .*limits\.memory.*16 GB"):
        train(pods=replace(SMALL, resources=SMALL.resources.model_copy(update={"memory": "16 GB"})))
    assert api.get(JOBS, NAME) is None


def test_the_step_holds_the_runs_lease_in_the_jobs_name_and_finds_what_the_job_trained(api, meanwhile, store, request):
    request.getfixturevalue("store_environment")

    def cluster() -> None:
        until(lambda: api.get(JOBS, NAME))
        holder = held_by(store, keys.run(RUN_KEY, "lease.json"))
        assert holder is not None
        assert holder.trainjob == NAME
        checkpoint = store.put_bytes(keys.checkpoint(RUN_KEY, 2), b"weights")
        entry = {"epoch": 2, "step": 8, "key": checkpoint.key, "size": checkpoint.size}
        store.put_json(keys.checkpoint_index(RUN_KEY), {"run_key": RUN_KEY, "checkpoints": [entry]})
        api.end_job(NAME, "Complete")

    with meanwhile(cluster):
        index = step.train(RUN_KEY, nodes=2, pods=SMALL)
    assert [entry.size for entry in index.checkpoints] == [len(b"weights")]
    assert held_by(store, keys.run(RUN_KEY, "lease.json")) is None
    with pytest.raises(UserError, match="nodes is 2: on this machine one node trains"):
        step.train("another-1-8-s3-0123456789ab", nodes=2)
