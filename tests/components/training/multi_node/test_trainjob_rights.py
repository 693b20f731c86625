"""The Role of the steps' account is what a training on several nodes asks for: no right less, and none more."""

import pytest

from components.errors import UserError
from components.training.multi_node import follow
from components.training.multi_node.kubernetes_api import Rejected, this_cluster
from tests.components.training.multi_node.job_pods import NAME, pod
from tests.components.training.multi_node.kubernetes_api import JOBS, PODS
from tests.components.training.multi_node.rights import Right, granted
from tests.components.training.multi_node.test_trainjob_run import running_job, train, until

TRAINJOBS = "trainer.kubeflow.org"


def test_the_role_is_what_is_asked_for(api, meanwhile, capfd, monkeypatch):
    """The way that asks for everything: an old job removed, a new one that starts late followed, a pod's log read."""
    monkeypatch.setattr(follow, "START_SECONDS", 0.0)
    running_job(api)
    api.end_job(NAME, "Failed")

    def cluster() -> None:
        until(lambda: "deletionTimestamp" in api.get(JOBS, NAME)["metadata"])
        api.remove(JOBS, NAME)
        until(lambda: api.asked("GET", "events") and api.asked("GET", "watch=true") >= 2)
        api.put(PODS, pod(0))
        api.say(pod(0)["metadata"]["name"], "the only step")
        api.put(PODS, pod(0, phase="Succeeded", exitCode=0))
        api.end_job(NAME, "Complete")

    with meanwhile(cluster):
        train()
    assert "the only step\n" in capfd.readouterr().err
    assert api.state.needed == granted()


@pytest.mark.parametrize(
    "right",
    [
        Right("create", TRAINJOBS, "trainjobs"),
        Right("get", TRAINJOBS, "trainjobs"),
        Right("list", TRAINJOBS, "trainjobs"),
    ],
    ids=lambda right: right.verb,
)
def test_what_cannot_be_done_without_names_the_role(api, right):
    api.state.allowed -= {right}
    with pytest.raises(UserError, match=f"cannot {right.verb} it by the Role.*give it the Role cps-trainjobs"):
        train()


def test_a_job_that_may_not_be_deleted_is_told_at_its_removal(api):
    running_job(api)
    api.end_job(NAME, "Failed")
    api.state.allowed -= {Right("delete", TRAINJOBS, "trainjobs")}
    with pytest.raises(UserError, match="cannot delete it by the Role"):
        train()


@pytest.mark.usefixtures("api")
def test_the_server_of_the_tests_refuses_what_the_role_leaves_out(account):
    cluster = this_cluster(account)
    for group, kind in (("api/v1", "secrets"), ("api/v1", "pods/x/exec"), ("apis/apps/v1", "deployments")):
        with pytest.raises(Rejected, match="is forbidden"):
            cluster.get(cluster.path(group, *kind.split("/")))
