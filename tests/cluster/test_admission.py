"""What a real API server says of the objects that users apply, and of those that the steps create."""

import copy

import pytest

from components.runs.request import Resources
from components.training.multi_node.pod_settings import Pods
from components.training.multi_node.trainjob import trainjob
from tests.cluster.conftest import Cluster
from tests.components.training.multi_node.rights import granted
from tests.manifests.objects import Object, Pod, pods

pytestmark = pytest.mark.cluster
OVERLAYS = ("kind", "kubeflow", "gpu")
SMALL = "multi-node"
"""An overlay without services."""
DRY_RUN = "--dry-run=server"


@pytest.mark.usefixtures("with_trainer")
@pytest.mark.parametrize("overlay", [*OVERLAYS, SMALL])
def test_every_object_of_an_overlay_is_accepted(cluster: Cluster, overlay: str) -> None:
    objects = cluster.overlay(overlay)
    done = cluster.apply(objects, DRY_RUN)
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout.count("serverside-applied (server dry run)") == len(objects) > (3 if overlay == SMALL else 20)


@pytest.mark.parametrize("overlay", OVERLAYS)
def test_every_pod_of_an_overlay_is_restricted(cluster: Cluster, overlay: str) -> None:
    found = [as_pod(pod, f"pod-{number}") for number, pod in enumerate(pods(cluster.overlay(overlay)))]
    done = cluster.kubectl("create", DRY_RUN, "--validate=strict", objects=found)
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout.count("created (server dry run)") == len(found) >= 3
    root = copy.deepcopy(found[0])
    root["spec"]["securityContext"]["runAsNonRoot"] = False
    refused = cluster.kubectl("create", DRY_RUN, objects=[root])
    assert 'violates PodSecurity "restricted:latest"' in refused.stderr


def as_pod(pod: Pod, name: str) -> Object:
    """Return the pod that a controller would create, of the namespace's own account."""
    spec = {key: value for key, value in pod.spec.items() if not key.startswith("serviceAccount")}
    claims = [{"name": claim, "persistentVolumeClaim": {"claimName": claim}} for claim in pod.claims]
    spec["volumes"] = [*spec.get("volumes", []), *claims]
    return {"apiVersion": "v1", "kind": "Pod", "metadata": {"name": name, "labels": pod.labels}, "spec": spec}


@pytest.fixture
def job() -> Object:
    """A TrainJob with everything that one may have."""
    resources = Resources.model_validate(
        {
            "cpu": "4",
            "memory": "16Gi",
            "gpus": 2,
            "accelerator": "nvidia.com/gpu",
            "node_selector": {"pool": "training"},
            "tolerations": [{"key": "nvidia.com/gpu", "operator": "Exists", "effect": "NoSchedule"}],
        }
    )
    placed = Pods("registry.example/cps-pipeline/cps:0.2.0", "cps-settings", "cps-store", resources)
    return trainjob("photos-demo-1-8-s0-0123456789ab", processes=2, nodes=2, pods=placed)


@pytest.mark.usefixtures("with_trainer")
@pytest.mark.parametrize("account", ["cps-steps", "pipeline-runner", "default-editor"])
def test_the_accounts_of_runs_may_create_the_trainjob(cluster: Cluster, job: Object, account: str) -> None:
    done = cluster.kubectl("create", DRY_RUN, "--validate=strict", cluster.account(account), objects=[job])
    assert (done.returncode, done.stderr) == (0, "")


@pytest.mark.usefixtures("with_trainer")
def test_what_a_trainjob_may_not_be_is_refused(cluster: Cluster, job: Object) -> None:
    """By the authorisation, and by the schema that Kubeflow Trainer has installed."""
    create = ("create", DRY_RUN, "--validate=strict")
    assert "forbidden" in cluster.kubectl(*create, cluster.account("cps-services"), objects=[job]).stderr
    for field, value in (("numNodes", "two"), ("numNode", 2)):
        wrong = copy.deepcopy(job)
        wrong["spec"]["trainer"][field] = value
        refused = cluster.kubectl(*create, cluster.account("cps-steps"), objects=[wrong])
        assert refused.returncode
        assert field in refused.stderr


@pytest.mark.usefixtures("with_trainer")
def test_the_steps_have_each_right_that_the_role_names_and_no_other(cluster: Cluster) -> None:
    def allowed(verb: str, group: str, resource: str) -> bool:
        name, _, subresource = resource.partition("/")
        asked = [f"{name}.{group}" if group else name, *([f"--subresource={subresource}"] if subresource else [])]
        said = cluster.kubectl("auth", "can-i", verb, *asked, cluster.account("cps-steps"))
        return said.stdout.strip() == "yes"

    assert [right for right in sorted(granted()) if not allowed(*right)] == []
    for right in (("create", "", "pods"), ("list", "", "secrets"), ("patch", "trainer.kubeflow.org", "trainjobs")):
        assert not allowed(*right), right
