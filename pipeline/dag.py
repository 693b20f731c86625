"""The whole method: a folder of images with few labels in, trained weights that are known to be good out."""

# KFP's decorators have no types, and it reads a bare `list` as its own LIST.
# mypy: disable-error-code="untyped-decorator, type-arg"

from kfp import dsl

from pipeline import steps
from pipeline.placement import TRAINING_HOURS, Placement, give_login, give_training, give_webhook, place
from pipeline.version import DATA_IMAGE, IMAGE


@dsl.pipeline(name="evaluate-checkpoints")
def evaluate_checkpoints(
    shards: list, image: str, settings_config_map: str, store_secret: str, tolerations: list, cpu: str, memory: str
) -> None:
    """Score all checkpoints, a share of them in each iteration; the scores are found in the store."""
    where = Placement(image, settings_config_map, store_secret, tolerations, cpu, memory)
    # Nothing in the loop comes from a task outside it: pipeline.lint says why, and checks it.
    with dsl.ParallelFor(shards, name="shards") as item:
        scored = steps.evaluate(run_key=item.run_key, shard=item.shard)
        place(scored, where, "Score checkpoints", hours=48, retries=3)


@dsl.pipeline(
    name="cross-pseudo-supervision",
    description="Semi-supervised semantic segmentation: split by label ratio, train two networks that teach each "
    "other, score every checkpoint, keep the best, segment images with it.",
)
def cross_pseudo_supervision(
    dataset: str = "scenes",
    dataset_sha256: str = "",
    dataset_pools: str = "",
    labeled_ratio: str = "1/8",
    recipe: str = "demo",
    overrides: str = "{}",
    seed: int = 0,
    epochs: int = 0,
    batch_size: int = 0,
    gpus: int = 0,
    accelerator: str = "nvidia.com/gpu",
    nodes: int = 1,
    processes: int = 1,
    eval_shards: int = 2,
    predict_images: str = "val",
    predict_limit: int = 24,
    cpu: str = "2",
    memory: str = "8Gi",
    node_selector: dict = {},  # noqa: B006 - KFP reads the default, and nothing changes it
    tolerations: list = [],  # noqa: B006
    image: str = IMAGE,
    data_image: str = DATA_IMAGE,
    settings_config_map: str = "cps-settings",
    store_secret: str = "cps-store",
    download_secret: str = "cps-download",
) -> None:
    """Cross Pseudo Supervision (Chen et al., CVPR 2021).

    Args:
        dataset: "scenes" (generated), or a folder, an archive, its http(s) address or s3:// URI; several by spaces.
        dataset_sha256: The sha256 that each dataset file must have, in their order; empty does not check.
        dataset_pools: Further unlabelled pools of the dataset to use, by commas; the first step names what there is.
        labeled_ratio: The share of the training labels that is used: 1/16, 1/8, 1/4, 1/2, or any fraction up to 1.
        recipe: Named settings of the training; `cps recipes` lists them.
        overrides: Changes to the recipe, as JSON: {"optimization.learning_rate": 0.01}.
        seed: Decides the split, both initialisations and the order of the images. Another seed is another run.
        epochs: Passes over the longer list; 0 takes the recipe's.
        batch_size: Labelled images in a step, over all processes; 0 takes the recipe's.
        gpus: GPUs on each node that trains, a process for each; 0 trains on the CPU.
        accelerator: What the nodes call a GPU, such as nvidia.com/gpu or amd.com/gpu.
        nodes: Nodes that train together. More than 1 needs Kubeflow Trainer.
        processes: Training processes where gpus is 0; the result does not depend on it beyond rounding.
        eval_shards: How many evaluation tasks share the checkpoints.
        predict_images: What the best weights segment at the end: "val", "test", "unlabeled", or a path in the image.
        predict_limit: At most so many images; 0 segments all.
        cpu: Cores for each pod that trains, evaluates or predicts, as Kubernetes writes them: 4, or 500m.
        memory: Memory for each pod that trains, evaluates or predicts: 16Gi.
        node_selector: Labels of the nodes that train, as JSON: {"cloud.google.com/gke-spot": "true"}.
        tolerations: Taints that all steps put up with, as JSON: [{"key": "nvidia.com/gpu", "operator": "Exists"}].
        image: Container image of the steps that train, evaluate and predict.
        data_image: Container image of the steps that need no Paddle.
        settings_config_map: Name of the ConfigMap with AWS_ENDPOINT_URL, AWS_DEFAULT_REGION and MLFLOW_TRACKING_URI.
        store_secret: Name of the Secret with the object store's access key and secret key.
        download_secret: Name of the Secret with CPS_DOWNLOAD_TOKEN, where the dataset needs a login; may be missing.
    """
    job = dsl.PIPELINE_JOB_ID_PLACEHOLDER
    light = Placement(data_image, settings_config_map, store_secret, tolerations)
    heavy = Placement(image, settings_config_map, store_secret, tolerations, cpu, memory)

    finished = steps.finish(job_id=job)
    place(finished, light, "Close the MLflow run", hours=1, retries=2)
    give_webhook(finished)

    with dsl.ExitHandler(finished, name="cross-pseudo-supervision"):
        prepared = steps.prepare_dataset(
            dataset=dataset,
            dataset_sha256=dataset_sha256,
            dataset_pools=dataset_pools,
            labeled_ratio=labeled_ratio,
            recipe=recipe,
            overrides=overrides,
            seed=seed,
            epochs=epochs,
            batch_size=batch_size,
            processes=processes,
            gpus=gpus,
            nodes=nodes,
            eval_shards=eval_shards,
            predict_images=predict_images,
            predict_limit=predict_limit,
            cpu=cpu,
            memory=memory,
            accelerator=accelerator,
            node_selector=node_selector,
            tolerations=tolerations,
        )
        # Not tried again: what fails here is a parameter or the dataset.
        place(prepared, light, "Prepare the dataset", hours=48)
        give_login(prepared, download_secret)

        split = steps.split_labels(
            dataset_digest=prepared.outputs["digest"],
            request=prepared.outputs["request"],
            gpus=gpus,
            nodes=nodes,
            job_id=job,
            prepared=prepared.outputs["prepared"],
        )
        place(split, light, "Split by label ratio", hours=6, retries=2)

        trained = steps.train(
            run_key=split.outputs["run_key"],
            processes=processes,
            gpus=gpus,
            nodes=nodes,
            eval_shards=eval_shards,
            image=image,
            cpu=cpu,
            memory=memory,
            accelerator=accelerator,
            node_selector=node_selector,
            tolerations=tolerations,
            settings_config_map=settings_config_map,
            store_secret=store_secret,
            split=split.outputs["split"],
        )
        place(trained, heavy, "Train both networks", hours=TRAINING_HOURS, retries=3)
        give_training(trained, gpus=split.outputs["pod_gpus"], accelerator=accelerator, node_selector=node_selector)

        scored = evaluate_checkpoints(
            shards=trained.outputs["shards"],
            image=image,
            settings_config_map=settings_config_map,
            store_secret=store_secret,
            tolerations=tolerations,
            cpu=cpu,
            memory=memory,
        )
        scored.set_caching_options(False).set_display_name("Score checkpoints")

        best = steps.select(run_key=trained.outputs["run_key"], checkpoints=trained.outputs["checkpoints"])
        place(best.after(scored), heavy, "Pick the best", hours=24, retries=2)

        segmented = steps.predict(
            run_key=trained.outputs["run_key"],
            images=predict_images,
            limit=predict_limit,
            best=best.outputs["best"],
        )
        place(segmented, heavy, "Segment images", hours=48, retries=3)
