"""The compiled pipeline: what the UI of Kubeflow Pipelines shows, and what must not be in it."""

import inspect
import re
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import yaml
from google.protobuf import json_format
from kfp.kubernetes.kubernetes_executor_config_pb2 import KubernetesExecutorConfig
from kfp.pipeline_spec import pipeline_spec_pb2

from components.errors import UserError
from components.runs.request import PredictionRequest, Resources, RunRequest
from components.storage.lease import DURATION
from components.training.multi_node.pod_settings import KEYS, OPTIONAL_SETTINGS, SETTINGS, TRACKING_LOGIN
from pipeline import dag, steps
from pipeline.compile import compile_pipeline
from pipeline.parameters import PipelineParameters
from pipeline.placement import LOGIN, WEBHOOK

ROOT = Path(__file__).resolve().parents[2]


@pytest.fixture(scope="module")
def path(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return compile_pipeline(tmp_path_factory.mktemp("compiled") / "cps.yaml")


@pytest.fixture(scope="module")
def pipeline(path: Path) -> dict[str, Any]:
    document: dict[str, Any] = next(yaml.safe_load_all(path.read_text()))
    return document


@pytest.fixture(scope="module")
def platform(path: Path) -> dict[str, Any]:
    executors: dict[str, Any] = list(yaml.safe_load_all(path.read_text()))[1]
    return dict(executors["platforms"]["kubernetes"]["deploymentSpec"]["executors"])


OTHER_SECRETS = {
    "exec-prepare-dataset": ["CPS_DOWNLOAD_TOKEN", "CPS_DOWNLOAD_USER", "CPS_DOWNLOAD_PASSWORD", "CPS_DOWNLOAD_HOST"],
    "exec-finish": ["CPS_WEBHOOK_URL"],
}


def tasks(pipeline: dict[str, Any]) -> dict[str, dict[str, Any]]:
    """Every task that runs a container, by name."""
    dags = [pipeline["root"], *pipeline["components"].values()]
    found = {name: task for each in dags for name, task in each.get("dag", {}).get("tasks", {}).items()}
    components = pipeline["components"]
    return {name: task for name, task in found.items() if "executorLabel" in components[task["componentRef"]["name"]]}


def test_it_is_a_valid_pipeline_spec(pipeline: dict[str, Any]) -> None:
    spec = json_format.ParseDict(pipeline, pipeline_spec_pb2.PipelineSpec())
    assert spec.pipeline_info.name == "cross-pseudo-supervision"


def test_its_kubernetes_settings_are_valid_too(path: Path) -> None:
    _, document = yaml.safe_load_all(path.read_text())
    spec = json_format.ParseDict(document, pipeline_spec_pb2.PlatformSpec())
    # What a platform is told is free-form in that message; the driver reads it as this one.
    for name, executor in spec.platforms["kubernetes"].deployment_spec.executors.items():
        told = json_format.ParseDict(json_format.MessageToDict(executor), KubernetesExecutorConfig())
        assert told.secret_as_env, name


@pytest.mark.parametrize("unknown", ["secretAsEnvironment", "timeOut"])
def test_an_unknown_kubernetes_setting_would_be_noticed(platform: dict[str, Any], unknown: str) -> None:
    with pytest.raises(json_format.ParseError, match=unknown):
        json_format.ParseDict({**platform["exec-train"], unknown: []}, KubernetesExecutorConfig())


def test_every_parameter_has_a_default_and_a_description(pipeline: dict[str, Any]) -> None:
    parameters = pipeline["root"]["inputDefinitions"]["parameters"]
    assert set(parameters) == set(inspect.signature(dag.cross_pseudo_supervision.pipeline_func).parameters)
    for name, parameter in parameters.items():
        assert "defaultValue" in parameter, name
        assert len(parameter.get("description", "")) > 20, name
        assert "\n" not in parameter["description"], name


def test_descriptions_group_the_parameters_which_the_ui_sorts_by_name(pipeline: dict[str, Any]) -> None:
    parameters = pipeline["root"]["inputDefinitions"]["parameters"]
    groups = {name: parameter["description"].partition(": ")[0] for name, parameter in parameters.items()}
    assert {name for name, group in groups.items() if group == "Cluster"} >= set(Resources.model_fields) - {"processes"}
    assert {name for name, group in groups.items() if group == "Data"} >= {name for name in groups if "dataset" in name}
    assert set(groups.values()) == {"Data", "Training", "Cluster"}


def test_the_parameters_and_their_defaults_are_those_of_a_request() -> None:
    parameters = PipelineParameters(RunRequest(), Resources(), PredictionRequest())
    signature = inspect.signature(dag.cross_pseudo_supervision.pipeline_func)
    assert parameters.as_dag() == {name: parameter.default for name, parameter in signature.parameters.items()}


def test_the_steps_are_the_methods(pipeline: dict[str, Any]) -> None:
    expected = {"prepare-dataset", "split-labels", "train", "evaluate", "select", "predict", "finish"}
    assert set(tasks(pipeline)) == expected


def test_caching_is_off_everywhere(pipeline: dict[str, Any]) -> None:
    for name, task in tasks(pipeline).items():
        assert not task["cachingOptions"].get("enableCache", False), name


def test_what_may_be_preempted_is_tried_again(pipeline: dict[str, Any]) -> None:
    retried = {name for name, task in tasks(pipeline).items() if task.get("retryPolicy", {}).get("maxRetryCount")}
    assert retried == {"split-labels", "train", "evaluate", "select", "predict", "finish"}
    for name in retried:
        policy = tasks(pipeline)[name]["retryPolicy"]
        # Not before the lease of a killed attempt has expired.
        assert (policy["backoffDuration"], policy["backoffFactor"]) == (f"{DURATION:g}s", 2.0), name


def test_no_retry_comes_too_late(pipeline: dict[str, Any], platform: dict[str, Any]) -> None:
    """Argo counts the longest duration from the first start: after it, nothing is retried, and a retry is killed."""

    def seconds(text: str) -> float:
        return float(text.removesuffix("s"))

    for name, task in tasks(pipeline).items():
        policy = task.get("retryPolicy", {})
        if retries := policy.get("maxRetryCount", 0):
            label = pipeline["components"][task["componentRef"]["name"]]["executorLabel"]
            timeout = int(platform[label]["activeDeadlineSeconds"])
            first, factor = seconds(policy["backoffDuration"]), policy["backoffFactor"]
            pauses = sum(first * factor**number for number in range(retries))
            assert seconds(policy["backoffMaxDuration"]) >= timeout * (retries + 1) + pauses, name


def test_every_step_has_a_name_for_people(pipeline: dict[str, Any]) -> None:
    for name, task in tasks(pipeline).items():
        assert task["taskInfo"]["name"][0].isupper(), name
        assert task["taskInfo"]["name"] != name


def test_select_waits_for_the_loop_and_the_exit_handler_for_everything(pipeline: dict[str, Any]) -> None:
    body = pipeline["components"]["comp-exit-handler-1"]["dag"]["tasks"]
    assert "evaluate-checkpoints" in body["select"]["dependentTasks"]
    finish = pipeline["root"]["dag"]["tasks"]["finish"]
    assert finish["triggerPolicy"]["strategy"] == "ALL_UPSTREAM_TASKS_COMPLETED"
    assert finish["dependentTasks"] == ["exit-handler-1"]


def test_the_loop_gives_nothing_out_and_takes_only_its_item(pipeline: dict[str, Any]) -> None:
    assert "outputDefinitions" not in pipeline["components"]["comp-evaluate-checkpoints"]
    given = pipeline["components"]["comp-for-loop-1"]["dag"]["tasks"]["evaluate"]["inputs"]["parameters"]
    assert given["run_key"]["componentInputParameter"] == given["shard"]["componentInputParameter"]
    assert "loop-item" in given["run_key"]["componentInputParameter"]


def test_images_are_parameters_and_no_entrypoint_is_assumed(pipeline: dict[str, Any]) -> None:
    for name, executor in pipeline["deploymentSpec"]["executors"].items():
        container = executor["container"]
        assert container["image"].startswith("{{$.inputs.parameters["), name
        assert container["command"][0] == "sh", name  # the command is whole: the image's own is not used
        assert "pip install" not in " ".join(container["command"]), name


def test_parameters_that_kubernetes_settings_name_reach_the_task(
    pipeline: dict[str, Any], platform: dict[str, Any]
) -> None:
    """The driver looks them up among the inputs of the DAG that the task is in."""
    components = pipeline["components"]
    dags = {name: component for name, component in components.items() if "dag" in component}
    seen = set()
    for where, body in {"root": pipeline["root"], **dags}.items():
        inputs = set(body.get("inputDefinitions", {}).get("parameters", {}))
        for name, task in body["dag"]["tasks"].items():
            label = components[task["componentRef"]["name"]].get("executorLabel")
            wanted = set(named_parameters(platform[label])) if label else set()
            assert wanted <= inputs, (where, name, wanted - inputs)
            seen |= wanted
    found = {name.removeprefix("pipelinechannel--").rpartition("--")[2] for name in seen}
    assert found == {"settings_config_map", "store_secret", "download_secret", "tolerations", "node_selector"}


def named_parameters(settings: Any) -> Iterator[str]:
    if isinstance(settings, dict):
        if isinstance(name := settings.get("componentInputParameter"), str):
            yield name
        settings = list(settings.values())
    if isinstance(settings, list):
        for item in settings:
            yield from named_parameters(item)


def test_every_pod_has_requests_limits_and_an_end(pipeline: dict[str, Any], platform: dict[str, Any]) -> None:
    for name, executor in pipeline["deploymentSpec"]["executors"].items():
        amounts = executor["container"]["resources"]
        for what in ("Cpu", "Memory"):
            assert amounts[f"resource{what}Request"] == amounts[f"resource{what}Limit"] != "", name
        assert int(platform[name]["activeDeadlineSeconds"]) >= 3600, name


def test_gpus_reach_the_pod_as_text(pipeline: dict[str, Any]) -> None:
    """A server resolves an amount by its text; a number becomes an empty one, and no GPU is asked for."""
    accelerator = pipeline["deploymentSpec"]["executors"]["exec-train"]["container"]["resources"]["accelerator"]
    assert "--accelerator'" in accelerator["resourceType"]
    assert "split-labels-pod_gpus" in accelerator["resourceCount"]
    outputs = pipeline["components"]["comp-split-labels"]["outputDefinitions"]["parameters"]
    assert outputs["pod_gpus"]["parameterType"] == "STRING"
    numbers = {"NUMBER_INTEGER", "NUMBER_DOUBLE", "BOOLEAN"}
    parameters = pipeline["root"]["inputDefinitions"]["parameters"]
    for name in ("cpu", "memory", "accelerator", "image", "data_image"):
        assert parameters[name]["parameterType"] not in numbers, name


GPU_STEPS = ("train", "evaluate", "select", "predict")


def test_what_runs_networks_gets_gpus_and_their_nodes(pipeline: dict[str, Any], platform: dict[str, Any]) -> None:
    assert {name for name, executor in platform.items() if "nodeSelector" in executor} == {
        f"exec-{step}" for step in GPU_STEPS
    }
    for step in GPU_STEPS:
        accelerator = pipeline["deploymentSpec"]["executors"][f"exec-{step}"]["container"]["resources"]["accelerator"]
        assert "accelerator'" in accelerator["resourceType"]
        count = {"train": "split-labels-pod_gpus", "evaluate": "--gpus"}.get(step, "split-labels-eval_pod_gpus")
        assert count in accelerator["resourceCount"], step
    given = pipeline["components"]["comp-exit-handler-1"]["dag"]["tasks"]["evaluate-checkpoints"]["inputs"][
        "parameters"
    ]
    assert given["gpus"]["taskOutputParameter"]["outputParameterKey"] == "eval_pod_gpus"
    assert given["node_selector"]["taskOutputParameter"]["outputParameterKey"] == "eval_node_selector"


@pytest.mark.parametrize(("gpus", "selector"), [(0, {}), (1, {"pool": "gpu"})])
def test_evaluation_goes_to_trainings_nodes_only_for_their_gpus(
    gpus: int, selector: dict[str, str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("components.runs.steps.split_labels_step", lambda *_: "key")
    artifact = SimpleNamespace(metadata={}, path=str(tmp_path / "artifact"))
    found = steps.split_labels.python_func(
        dataset_digest="d" * 64,
        request=RunRequest().model_dump_json(),
        gpus=4,
        nodes=1,
        eval_gpus=gpus,
        node_selector={"pool": "gpu"},
        job_id="job",
        prepared=artifact,
        split=artifact,
    )
    assert found == ("key", "4", str(gpus), selector)


def test_training_alone_shares_memory(platform: dict[str, Any]) -> None:
    assert {name for name, executor in platform.items() if "emptyDirMounts" in executor} == {"exec-train"}
    (volume,) = platform["exec-train"]["emptyDirMounts"]
    assert (volume["mountPath"], volume["medium"]) == ("/dev/shm", "Memory")
    assert "sizeLimit" not in volume, "KFP's driver cannot read it from a parameter; the pod's memory limits it"
    assert all(executor["tolerations"] for executor in platform.values())


def test_outputs_that_the_ui_draws(pipeline: dict[str, Any]) -> None:
    def types(step: str) -> set[str]:
        artifacts = pipeline["components"][f"comp-{step}"]["outputDefinitions"]["artifacts"]
        return {artifact["artifactType"]["schemaTitle"] for artifact in artifacts.values()}

    drawn = {"system.Metrics", "system.ClassificationMetrics", "system.HTML", "system.Markdown"}
    assert types("select") == {*drawn, "system.Model"}
    assert "system.HTML" in types("predict")


def test_keys_come_from_the_named_secret_and_are_no_parameters(
    pipeline: dict[str, Any], platform: dict[str, Any]
) -> None:
    assert set(platform) == set(pipeline["deploymentSpec"]["executors"])
    for name, executor in platform.items():
        secret, tracking, *others = executor["secretAsEnv"]
        assert (tracking["secretName"], tracking["optional"]) == ("cps-mlflow", True), name
        variables = [entry["envVar"] for entry in tracking["keyToEnv"]]
        assert variables == ["MLFLOW_TRACKING_USERNAME", "MLFLOW_TRACKING_PASSWORD"], name
        assert all(entry["optional"] for entry in others), name
        variables = [entry["envVar"] for secret in others for entry in secret["keyToEnv"]]
        assert variables == OTHER_SECRETS.get(name, []), name
        assert secret["secretNameParameter"]["componentInputParameter"].endswith("store_secret"), name
        variables = [entry["envVar"] for entry in secret["keyToEnv"]]
        assert variables == ["AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"], name
        required, optional = executor["configMapAsEnv"]
        assert not required["optional"]
        assert optional["optional"]
    names = pipeline["root"]["inputDefinitions"]["parameters"]
    assert not [name for name in names if "key" in name or "password" in name or "token" in name]


def test_no_value_of_this_environment_is_in_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    variables = {*SETTINGS, *OPTIONAL_SETTINGS, *KEYS, *TRACKING_LOGIN, *LOGIN, WEBHOOK, "KFP_EXISTING_TOKEN"}
    for name in variables:
        monkeypatch.setenv(name, f"planted-{name.lower()}")
    text = compile_pipeline(tmp_path / "cps.yaml").read_text()
    assert "planted" not in text
    assert variables - {"KFP_EXISTING_TOKEN"} <= set(re.findall(r"[A-Z][A-Z0-9_]+", text)), "by name they are in it"
    assert str(Path.home()) not in text


def test_the_secrets_fields_can_be_named(tmp_path: Path) -> None:
    path = compile_pipeline(tmp_path / "cps.yaml", ("accesskey", "secretkey"))
    pipeline, platform = yaml.safe_load_all(path.read_text())
    assert pipeline["pipelineInfo"]["name"] == "cross-pseudo-supervision"
    for executor in platform["platforms"]["kubernetes"]["deploymentSpec"]["executors"].values():
        fields = [entry["secretKey"] for entry in executor["secretAsEnv"][0]["keyToEnv"]]
        assert fields == ["accesskey", "secretkey"]
    (variable,) = pipeline["deploymentSpec"]["executors"]["exec-train"]["container"]["env"]
    assert variable == {"name": "CPS_STORE_SECRET_FIELDS", "value": "accesskey,secretkey"}


def test_another_suffix_is_refused(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"must end in \.yaml"):
        compile_pipeline(tmp_path / "cps.json")


def test_bodies_see_nothing_of_their_module() -> None:
    """KFP copies a body's source alone: a global of steps.py would be a NameError on the cluster."""
    import symtable

    table = symtable.symtable(inspect.getsource(steps), "steps.py", "exec")
    defined = [symbol for symbol in table.get_symbols() if symbol.is_imported() or symbol.is_assigned()]
    module_names = {symbol.get_name() for symbol in defined}
    assert "dsl" in module_names
    bodies = [child for child in table.get_children() if child.get_type() == "function"]
    assert len(bodies) == 7
    for body in bodies:
        outside = {symbol.get_name() for symbol in body.get_symbols() if symbol.is_global()}
        assert not outside & module_names, body.get_name()
