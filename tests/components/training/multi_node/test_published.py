"""What we send fits what Kubeflow Trainer publishes: the TrainJob, and the runtime that it refers to."""

import copy
from pathlib import Path

import pytest
import yaml

from components.errors import UserError
from components.runs.request import Resources
from components.training.multi_node import node, pods, trainjob
from components.training.multi_node.pod_settings import KEYS, OPTIONAL_SETTINGS, SETTINGS, TRACKING_LOGIN, Pods
from components.training.multi_node.pods import CONTAINER
from components.training.supervision.supervisor import RESTARTS
from pipeline.version import IMAGE
from tests.components.training.multi_node.published import complaints

RUN_KEY = "demo-1-8-s3-0123456789ab"
PODS = Pods(
    image="registry.example/cps:1",
    settings_config_map="cps-settings",
    store_secret="mlpipeline-minio-artifact",
    resources=Resources(
        cpu="4",
        memory="16Gi",
        gpus=2,
        shm="32Gi",
        node_selector={"pool": "gpu"},
        tolerations=[{"key": "nvidia.com/gpu", "operator": "Exists"}],
    ),
)
CPU_PODS = Pods("cps:1", "cps-settings", "cps-store", Resources(cpu="500m", memory="1Gi"))
RUNTIME = Path(__file__).parents[4] / "manifests" / "components" / "trainer" / "runtime.yaml"


@pytest.fixture
def runtime():
    return yaml.safe_load(RUNTIME.read_text())


@pytest.mark.parametrize("given", [PODS, CPU_PODS])
def test_the_trainjob_fits_the_published_schema(given):
    assert complaints("trainjobs", trainjob.trainjob(RUN_KEY, 2, 3, given)) == []


def test_a_trainjob_says_what_the_parameters_say(monkeypatch):
    monkeypatch.setenv("CPS_STORE_SECRET_FIELDS", "accesskey,secretkey")
    job = trainjob.trainjob(RUN_KEY, 2, 3, PODS)
    assert job["metadata"]["name"] == "cps-0123456789ab"
    assert job["metadata"]["annotations"] == {"cps-pipeline/run-key": RUN_KEY}
    trainer = job["spec"]["trainer"]
    assert (trainer["image"], trainer["numNodes"]) == ("registry.example/cps:1", 3)
    assert trainer["resourcesPerNode"]["limits"] == {"cpu": "4", "memory": "16Gi", "nvidia.com/gpu": "2"}
    assert trainer["resourcesPerNode"]["requests"] == trainer["resourcesPerNode"]["limits"]
    assert [entry["name"] for entry in trainer["env"]] == [*SETTINGS, *OPTIONAL_SETTINGS, *KEYS, *TRACKING_LOGIN]
    sources = {entry["name"]: entry["valueFrom"] for entry in trainer["env"]}
    assert sources["AWS_SECRET_ACCESS_KEY"] == {
        "secretKeyRef": {"name": "mlpipeline-minio-artifact", "key": "secretkey", "optional": False}
    }
    assert sources["MLFLOW_TRACKING_PASSWORD"]["secretKeyRef"]["optional"] is True
    assert sources["AWS_ENDPOINT_URL"]["configMapKeyRef"]["optional"] is False
    assert sources["MLFLOW_TRACKING_URI"]["configMapKeyRef"]["optional"] is True
    [patch] = job["spec"]["runtimePatches"]
    [job_of_pods] = patch["trainingRuntimeSpec"]["template"]["spec"]["replicatedJobs"]
    assert job_of_pods["template"]["spec"]["template"]["spec"] == {
        "nodeSelector": {"pool": "gpu"},
        "volumes": [{"name": "shared-memory", "emptyDir": {"medium": "Memory", "sizeLimit": "32Gi"}}],
        "tolerations": [{"key": "nvidia.com/gpu", "operator": "Exists"}],
    }


def test_a_pod_of_the_cpu_asks_for_no_gpu_and_no_place():
    job = trainjob.trainjob(RUN_KEY, 2, 3, CPU_PODS)
    assert job["spec"]["trainer"]["resourcesPerNode"]["limits"] == {"cpu": "500m", "memory": "1Gi"}
    assert "runtimePatches" not in job["spec"]


def test_the_pods_command_is_one_that_a_node_takes(monkeypatch):
    *start, module = trainjob.trainjob(RUN_KEY, 2, 3, PODS)["spec"]["trainer"]["command"][:3]
    assert (start, module) == (["python3", "-m"], "components.training.multi_node.node")
    monkeypatch.setattr("sys.argv", ["node", *trainjob.trainjob(RUN_KEY, 2, 3, PODS)["spec"]["trainer"]["command"][3:]])
    assert node._arguments() == node.Job(RUN_KEY, "cps-0123456789ab", nodes=3, processes=2, gpus=2)


def test_what_is_no_run_key_has_no_job():
    with pytest.raises(UserError, match="'demo' is not a run key"):
        trainjob.job_name("demo")


@pytest.mark.parametrize(
    ("path", "value", "found"),
    [
        (("spec", "trainer", "numNodes"), "three", "spec.trainer.numNodes: 'three' is not of type 'integer'"),
        (("spec", "trainer", "processes"), 2, "'processes' was unexpected"),
        (("spec", "trainer", "resourcesPerNode", "limits", "memory"), "16 GB", "does not match"),
        (("spec", "runtimeRef"), {"kind": "ClusterTrainingRuntime"}, "'name' is a required property"),
        (("spec", "trainer", "env", 0, "valueFrom", "configMapKeyRef"), {"name": "x"}, "'key' is a required property"),
        (("spec", "runtimePatches", 0), {"trainingRuntimeSpec": None}, "'manager' is a required property"),
    ],
)
def test_a_wrong_field_is_found(path, value, found):
    broken = copy.deepcopy(trainjob.trainjob(RUN_KEY, 2, 3, PODS))
    place = broken
    for key in path[:-1]:
        place = place[key]
    place[path[-1]] = value
    assert any(found in complaint for complaint in complaints("trainjobs", broken)), complaints("trainjobs", broken)


def test_the_runtime_fits_the_published_schema(runtime):
    assert complaints("clustertrainingruntimes", runtime) == []
    runtime["spec"]["template"]["spec"]["failurePolicy"]["restarts"] = 3
    assert complaints("clustertrainingruntimes", runtime) != []


def test_the_runtime_is_the_one_that_jobs_refer_to_and_nodes_expect(runtime):
    assert (runtime["kind"], runtime["metadata"]["name"]) == ("ClusterTrainingRuntime", trainjob.RUNTIME)
    spec = runtime["spec"]["template"]["spec"]
    assert spec["network"]["publishNotReadyAddresses"] is True
    assert spec["failurePolicy"]["maxRestarts"] == RESTARTS
    [job] = spec["replicatedJobs"]
    assert job["name"] == trainjob.JOB_OF_PODS
    assert job["template"]["metadata"]["labels"]["trainer.kubeflow.org/trainjob-ancestor-step"] == "trainer"
    work = job["template"]["spec"]
    assert (work["completionMode"], work["backoffLimit"]) == ("Indexed", 0)
    [rule] = work["podFailurePolicy"]["rules"]
    assert tuple(rule["onExitCodes"]["values"]) == pods.FINAL_CODES
    assert node.DIED not in pods.FINAL_CODES
    pod = work["template"]["spec"]
    assert pod["restartPolicy"] == "Never", "with another, Kubernetes takes no podFailurePolicy"
    [container] = pod["containers"]
    assert container["name"] == rule["onExitCodes"]["containerName"] == CONTAINER
    assert container["image"] == IMAGE
    assert {"name": node.ADDRESS_VARIABLE, "valueFrom": {"fieldRef": {"fieldPath": "status.podIP"}}} in container["env"]
    mounts = {mount["mountPath"]: mount["name"] for mount in container["volumeMounts"]}
    [shared] = [volume for volume in pod["volumes"] if volume["name"] == mounts["/dev/shm"]]
    assert shared == {"name": trainjob.SHARED_MEMORY, "emptyDir": {"medium": "Memory"}}


def test_the_runtimes_pods_meet_the_restricted_standard(runtime):
    [job] = runtime["spec"]["template"]["spec"]["replicatedJobs"]
    pod = job["template"]["spec"]["template"]["spec"]
    assert pod["securityContext"]["runAsNonRoot"] is True
    assert pod["securityContext"]["seccompProfile"] == {"type": "RuntimeDefault"}
    [container] = pod["containers"]
    context = container["securityContext"]
    assert context["allowPrivilegeEscalation"] is False
    assert context["capabilities"] == {"drop": ["ALL"]}
    assert context["readOnlyRootFilesystem"] is True
