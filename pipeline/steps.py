"""Each step of the pipeline as a KFP component: a signature, a docstring, and one call into `components`.

KFP copies the source of each function into the pipeline, so a function cannot use anything else in this module and has
to import what it calls. Artifacts are small JSON files that refer to objects in the store by URI and sha256; large data
never passes through KFP. Do not add `from __future__ import annotations`: KFP needs the annotations as types.
"""

# KFP's decorators are untyped. Artifacts that a function does not read exist for the lineage in the KFP UI.
# mypy: disable-error-code="untyped-decorator, no-any-return, valid-type, type-arg"
# ruff: noqa: ARG001

from typing import NamedTuple

from kfp import dsl
from kfp.dsl import HTML, Artifact, ClassificationMetrics, Dataset, Input, Markdown, Metrics, Model, Output

from pipeline.version import DATA_IMAGE, IMAGE


@dsl.component(base_image=DATA_IMAGE, install_kfp_package=False)
def prepare_dataset(
    dataset: str,
    dataset_sha256: str,
    dataset_pools: str,
    labeled_ratio: str,
    recipe: str,
    overrides: str,
    seed: int,
    epochs: int,
    batch_size: int,
    processes: int,
    gpus: int,
    nodes: int,
    eval_shards: int,
    eval_gpus: int,
    predict_images: str,
    predict_limit: int,
    cpu: str,
    memory: str,
    accelerator: str,
    node_selector: dict,
    tolerations: list,
    prepared: Output[Dataset],
) -> NamedTuple("Outputs", [("digest", str), ("request", str)]):
    """Validate all parameters, then fetch, check and store the dataset.

    Returns the dataset's digest, and the validated request as JSON.
    """
    from components.step_guard import step_guard

    with step_guard("prepare-dataset") as step:
        from components.runs.request import PredictionRequest, Resources, RunRequest, parse_overrides
        from components.runs.steps import prepare_dataset

        # Check all values now, so that mistakes surface here and not in the step that needs the value.
        Resources(
            processes=processes,
            gpus=gpus,
            nodes=nodes,
            eval_shards=eval_shards,
            eval_gpus=eval_gpus,
            cpu=cpu,
            memory=memory,
            accelerator=accelerator,
            node_selector=node_selector,
            tolerations=tolerations,
        )
        PredictionRequest(images=predict_images, limit=predict_limit).check()
        request = RunRequest(
            dataset=dataset,
            dataset_sha256=dataset_sha256,
            dataset_pools=dataset_pools,
            labeled_ratio=labeled_ratio,
            recipe=recipe,
            overrides=dict(parse_overrides(overrides)),
            seed=seed,
            epochs=epochs,
            batch_size=batch_size,
        )
        stored = prepare_dataset(request)
        step.describe(prepared, stored)
        step.result(stored)
    return stored.digest, request.model_dump_json()


@dsl.component(base_image=DATA_IMAGE, install_kfp_package=False)
def split_labels(
    dataset_digest: str,
    request: str,
    gpus: int,
    nodes: int,
    eval_gpus: int,
    node_selector: dict,
    job_id: str,
    prepared: Input[Dataset],
    split: Output[Artifact],
) -> NamedTuple("Outputs", [("run_key", str), ("pod_gpus", str), ("eval_pod_gpus", str), ("eval_node_selector", dict)]):
    """Choose the labels that training may use, and record everything the run depends on.

    Returns the run key; the number of GPUs for the `train` pod, which is 0 if training runs in separate pods; and GPUs
    and node labels for the pods that evaluate, select and predict, which need training's nodes only if they use GPUs.
    """
    from components.step_guard import step_guard

    with step_guard("split-labels") as step:
        from components.runs.request import RunRequest
        from components.runs.steps import split_labels_step

        run_key = split_labels_step(dataset_digest, RunRequest.model_validate_json(request), job_id)
        step.describe(split, run_key=run_key, dataset=prepared.metadata.get("uri", dataset_digest))
        step.result(run_key=run_key)
    # As text: KFP turns a number into an empty quantity in the pod spec, and the pod would get no GPU.
    return run_key, str(gpus if nodes == 1 else 0), str(eval_gpus), node_selector if eval_gpus else {}


@dsl.component(base_image=IMAGE, install_kfp_package=False)
def train(
    run_key: str,
    processes: int,
    gpus: int,
    nodes: int,
    eval_shards: int,
    image: str,
    cpu: str,
    memory: str,
    accelerator: str,
    node_selector: dict,
    tolerations: list,
    settings_config_map: str,
    store_secret: str,
    split: Input[Artifact],
    checkpoints: Output[Model],
) -> NamedTuple("Outputs", [("run_key", str), ("shards", list)]):
    """Train both networks and upload every checkpoint. Returns the shards that `evaluate` fans out over."""
    from components.step_guard import step_guard

    with step_guard("train") as step:
        from components.runs.request import Resources
        from components.training.multi_node.pod_settings import Pods
        from components.training.train import train

        resources = Resources(
            processes=processes,
            gpus=gpus,
            nodes=nodes,
            cpu=cpu,
            memory=memory,
            accelerator=accelerator,
            node_selector=node_selector,
            tolerations=tolerations,
        )
        pods = Pods(image, settings_config_map, store_secret, resources)
        index = train(run_key, gpus or processes, gpus=gpus, nodes=nodes, pods=pods)
        shards = min(eval_shards, len(index.checkpoints))
        step.describe(checkpoints, index)
        step.result(run_key=run_key, checkpoints=len(index.checkpoints))
    # The item contains all that an iteration needs, as strings: KFP's local runs replace any other input of a loop.
    return run_key, [{"run_key": run_key, "shard": f"{number}/{shards}"} for number in range(shards)]


@dsl.component(base_image=IMAGE, install_kfp_package=False)
def evaluate(run_key: str, shard: str) -> None:
    """Score one shard of the checkpoints on the validation images, and upload the scores."""
    from components.step_guard import step_guard

    with step_guard("evaluate") as step:
        from components.evaluation.sweep import evaluate_step

        evaluate_step(run_key, shard)
        step.result(shard=shard)


@dsl.component(base_image=IMAGE, install_kfp_package=False)
def select(
    run_key: str,
    checkpoints: Input[Model],
    best: Output[Model],
    metrics: Output[Metrics],
    confusion: Output[ClassificationMetrics],
    report: Output[HTML],
    summary: Output[Markdown],
) -> None:
    """Select the best checkpoint and network by mIoU, extract its weights, and write the report."""
    from components.step_guard import step_guard

    with step_guard("select") as step:
        from components.evaluation.publish import metrics as shown_metrics
        from components.evaluation.publish import select_step

        result = select_step(run_key, report.path, summary.path)
        metrics.metadata.update(shown_metrics(result))
        matrix = result.confusion_matrix
        confusion.log_confusion_matrix(list(matrix.classes), [list(row) for row in matrix.matrix])
        step.describe(best, result.weights, checkpoints=checkpoints.uri)
        step.result(run_key=run_key, best_mIoU=result.best.mIoU)


@dsl.component(base_image=IMAGE, install_kfp_package=False)
def predict(
    run_key: str, images: str, limit: int, best: Input[Model], predictions: Output[Artifact], gallery: Output[HTML]
) -> None:
    """Segment images with the best weights, and write masks, overlays and a gallery."""
    from components.step_guard import step_guard

    with step_guard("predict") as step:
        from components.prediction.predict import predict_step

        made = predict_step(run_key, images, limit, gallery.path)
        step.describe(predictions, made, weights=best.metadata.get("uri", ""))
        step.result(made)


@dsl.component(base_image=DATA_IMAGE, install_kfp_package=False)
def finish(status: dsl.PipelineTaskFinalStatus, job_id: str) -> None:
    """Close the MLflow run with its final status and post a notification, however the pipeline ended."""
    from components.step_guard import step_guard

    with step_guard("finish", even_when_stopping=True) as step:
        from components.runs.finish import finish_job

        step.result(**finish_job(job_id, status.state, status.error_message or ""))
