"""Each step of the pipeline as a KFP component: a signature, a docstring, one call into `components`.

KFP copies a body's source into the pipeline, so a body sees nothing of this module: it imports what it calls.
Artifacts are small JSON files that name objects of the store by URI and sha256; big data never travels through KFP.
`from __future__ import annotations` must stay out: KFP reads the annotations as types.
"""

# KFP's decorators have no types; an artifact that a body does not read is there for the lineage in KFP's UI.
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
    predict_images: str,
    predict_limit: int,
    cpu: str,
    memory: str,
    accelerator: str,
    node_selector: dict,
    tolerations: list,
    prepared: Output[Dataset],
) -> NamedTuple("Outputs", [("digest", str), ("request", str)]):
    """Validate every parameter, then fetch, check and store the dataset once.

    Returns its digest, and the run's request as JSON.
    """
    from components.step_guard import step_guard

    with step_guard("prepare-dataset") as step:
        from components.runs.request import PredictionRequest, Resources, RunRequest, parse_overrides
        from components.runs.steps import prepare_dataset

        # Checked now, so that no mistake waits for the step that would need the value.
        Resources(
            processes=processes,
            gpus=gpus,
            nodes=nodes,
            eval_shards=eval_shards,
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
            overrides=parse_overrides(overrides),
            seed=seed,
            epochs=epochs,
            batch_size=batch_size,
        )
        stored = prepare_dataset(request).model_dump(mode="json")
        step.describe(prepared, stored)
        step.result(stored)
    return stored["digest"], request.model_dump_json()


@dsl.component(base_image=DATA_IMAGE, install_kfp_package=False)
def split_labels(
    dataset_digest: str,
    request: str,
    gpus: int,
    nodes: int,
    job_id: str,
    prepared: Input[Dataset],
    split: Output[Artifact],
) -> NamedTuple("Outputs", [("run_key", str), ("pod_gpus", str)]):
    """Choose whose labels are used, and write down what the run depends on.

    Returns the run key, and how many GPUs the pod of `train` asks for: none where it makes pods of its own.
    """
    from components.step_guard import step_guard

    with step_guard("split-labels") as step:
        from components.runs.request import RunRequest
        from components.runs.steps import split_labels_step

        run_key = split_labels_step(dataset_digest, RunRequest.model_validate_json(request), job_id)
        step.describe(split, {"run_key": run_key, "dataset": prepared.metadata.get("uri", dataset_digest)})
        step.result({"run_key": run_key})
    # As text: of a number KFP makes an empty amount when it writes a pod, and the pod gets no GPU.
    return run_key, str(gpus if nodes == 1 else 0)


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
    """Train both networks, every checkpoint into the store. Returns the shares that `evaluate` fans out over."""
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
        step.describe(checkpoints, index.model_dump(mode="json"))
        step.result({"run_key": run_key, "checkpoints": len(index.checkpoints)})
    # All that an iteration needs travels in its item, as strings: KFP's local runs replace anything else in a loop.
    return run_key, [{"run_key": run_key, "shard": f"{number}/{shards}"} for number in range(shards)]


@dsl.component(base_image=IMAGE, install_kfp_package=False)
def evaluate(run_key: str, shard: str) -> None:
    """Score a share of the checkpoints on the validation images; the scores go to the store."""
    from components.step_guard import step_guard

    with step_guard("evaluate") as step:
        from components.evaluation.sweep import evaluate_step

        evaluate_step(run_key, shard)
        step.result({"shard": shard})


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
    """Pick the best checkpoint and network by mIoU, extract its weights, and write the report."""
    from components.step_guard import step_guard

    with step_guard("select") as step:
        from components.evaluation.publish import metrics as shown_metrics
        from components.evaluation.publish import select_step

        result = select_step(run_key, report.path, summary.path)
        metrics.metadata.update(shown_metrics(result))
        matrix = result.confusion_matrix
        confusion.log_confusion_matrix(list(matrix.classes), [list(row) for row in matrix.matrix])
        step.describe(best, {**result.weights.model_dump(mode="json"), "checkpoints": checkpoints.uri})
        step.result({"run_key": run_key, "best_mIoU": result.best.mIoU})


@dsl.component(base_image=IMAGE, install_kfp_package=False)
def predict(
    run_key: str, images: str, limit: int, best: Input[Model], predictions: Output[Artifact], gallery: Output[HTML]
) -> None:
    """Segment images with the best weights: masks, overlays, and a gallery to look through."""
    from components.step_guard import step_guard

    with step_guard("predict") as step:
        from components.prediction.predict import predict_step

        made = predict_step(run_key, images, limit, gallery.path).model_dump(mode="json")
        step.describe(predictions, {**made, "weights": best.metadata.get("uri", "")})
        step.result(made)


@dsl.component(base_image=DATA_IMAGE, install_kfp_package=False)
def finish(status: dsl.PipelineTaskFinalStatus, job_id: str) -> None:
    """Close the MLflow run with its true status and tell the webhook, however the pipeline ended."""
    from components.step_guard import step_guard

    with step_guard("finish", even_when_stopping=True) as step:
        from components.runs.finish import finish_job

        step.result(finish_job(job_id, status.state, status.error_message or ""))
