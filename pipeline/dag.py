"""The whole method as a DAG, from a dataset with few labels to weights of known quality."""

# KFP's decorators have no types, and it reads a bare `list` as its own LIST.
# mypy: disable-error-code="untyped-decorator, type-arg"

from kfp import dsl

from pipeline import steps
from pipeline.placement import TRAINING_HOURS, Placement, give_gpus, give_login, give_training, give_webhook, place
from pipeline.version import DATA_IMAGE, IMAGE


@dsl.pipeline(name="evaluate-checkpoints")
def evaluate_checkpoints(
    shards: list,
    image: str,
    settings_config_map: str,
    store_secret: str,
    tolerations: list,
    cpu: str,
    memory: str,
    gpus: str,
    accelerator: str,
    node_selector: dict,
) -> None:
    """Score all checkpoints in parallel, one shard per iteration. The scores go to the object store."""
    where = Placement(image, settings_config_map, store_secret, tolerations, cpu, memory)
    # The loop uses no output of a task outside it; pipeline.lint explains why, and checks it.
    with dsl.ParallelFor(shards, name="shards") as item:
        scored = steps.evaluate(run_key=item.run_key, shard=item.shard)
        place(scored, where, "Score checkpoints", hours=48, retries=3)
        give_gpus(scored, gpus=gpus, accelerator=accelerator, node_selector=node_selector)


@dsl.pipeline(
    name="cross-pseudo-supervision",
    description="Semi-supervised semantic segmentation: split the labels, train two networks that teach each other, "
    "score every checkpoint, select the best, and segment images with it.",
)
def cross_pseudo_supervision(
    dataset: str = "scenes",
    dataset_sha256: str = "",
    dataset_pools: str = "",
    labeled_ratio: str = "auto",
    recipe: str = "auto",
    overrides: str = "{}",
    seed: int = 0,
    epochs: int = 0,
    batch_size: int = 0,
    gpus: int = 0,
    accelerator: str = "nvidia.com/gpu",
    nodes: int = 1,
    processes: int = 1,
    eval_shards: int = 2,
    eval_gpus: int = 0,
    predict_images: str = "val",
    predict_limit: int = 24,
    cpu: str = "2",
    memory: str = "8Gi",
    shm: str = "",
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
        dataset: Data: "scenes" (generated), a folder, or an archive (path or URL); separate several by spaces.
        dataset_sha256: Data: The sha256 of each dataset file, in the same order; empty skips the check.
        dataset_pools: Data: Further pools of unlabelled images, separated by commas; the first step lists them.
        labeled_ratio: Data: Share of the training labels to use, such as 1/16 or 1; auto: all, or 1/8 of scenes.
        recipe: Training: Name of a set of settings (see `cps recipes list`); auto: one that suits the dataset.
        overrides: Training: Changes to the recipe, as JSON: {"optimization.learning_rate": 0.01}.
        seed: Training: Seed of the split, the initial weights and the image order. A new seed makes a new run.
        epochs: Training: Passes over the longer of the labelled and unlabelled lists; 0 uses the recipe's value.
        batch_size: Training: Labelled images per step, over all processes; 0 uses the recipe's value.
        gpus: Cluster: GPUs per training node, with one process per GPU; 0 trains on the CPU.
        accelerator: Cluster: Kubernetes resource name of the GPUs, such as nvidia.com/gpu or amd.com/gpu.
        nodes: Cluster: Number of training nodes. More than 1 needs Kubeflow Trainer.
        processes: Training: Processes if gpus is 0. OHEM selects pixels within each process, and dropout differs.
        eval_shards: Cluster: Number of parallel evaluation tasks that share the checkpoints.
        eval_gpus: Cluster: GPUs, 0 or 1, for each pod that evaluates, selects or predicts; 0 uses the CPU.
        predict_images: Data: Images to segment: "val", "test", "unlabeled", an s3:// prefix, or a path in the pod.
        predict_limit: Data: Maximum number of images to segment with the best weights; 0 segments all.
        cpu: Cluster: CPU cores for each pod that trains, evaluates or predicts, as a Kubernetes quantity: 4, 500m.
        memory: Cluster: Memory for each pod that trains, evaluates or predicts, as a Kubernetes quantity: 16Gi.
        shm: Cluster: Size of /dev/shm in each training pod: 16Gi. Half is for decoded images. Empty: all its memory.
        node_selector: Cluster: Labels of the nodes for training, and for other steps on GPUs, as JSON: {"pool": "gpu"}.
        tolerations: Cluster: Taints that steps tolerate, as JSON: [{"key": "nvidia.com/gpu", "operator": "Exists"}].
        image: Cluster: Container image of the steps that train, evaluate, select or predict.
        data_image: Cluster: Container image of the steps that do not need Paddle.
        settings_config_map: Cluster: Name of the ConfigMap with AWS_ENDPOINT_URL and other addresses.
        store_secret: Cluster: Name of the Secret with the object store's access key and secret key.
        download_secret: Cluster: Name of the optional Secret with CPS_DOWNLOAD_TOKEN, for datasets with a login.
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
            eval_gpus=eval_gpus,
            predict_images=predict_images,
            predict_limit=predict_limit,
            cpu=cpu,
            memory=memory,
            shm=shm,
            accelerator=accelerator,
            node_selector=node_selector,
            tolerations=tolerations,
        )
        # No retries: failures here are caused by a parameter or the dataset.
        place(prepared, light, "Prepare the dataset", hours=48)
        give_login(prepared, download_secret)

        split = steps.split_labels(
            dataset_digest=prepared.outputs["digest"],
            request=prepared.outputs["request"],
            gpus=gpus,
            nodes=nodes,
            eval_gpus=eval_gpus,
            node_selector=node_selector,
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
            shm=shm,
            accelerator=accelerator,
            node_selector=node_selector,
            tolerations=tolerations,
            settings_config_map=settings_config_map,
            store_secret=store_secret,
            split=split.outputs["split"],
        )
        place(trained, heavy, "Train both networks", hours=TRAINING_HOURS, retries=3)
        give_gpus(trained, gpus=split.outputs["pod_gpus"], accelerator=accelerator, node_selector=node_selector)
        give_training(trained)
        on_gpus = {
            "gpus": split.outputs["eval_pod_gpus"],
            "accelerator": accelerator,
            "node_selector": split.outputs["eval_node_selector"],
        }

        scored = evaluate_checkpoints(
            shards=trained.outputs["shards"],
            image=image,
            settings_config_map=settings_config_map,
            store_secret=store_secret,
            tolerations=tolerations,
            cpu=cpu,
            memory=memory,
            **on_gpus,
        )
        scored.set_caching_options(False).set_display_name("Score checkpoints")

        best = steps.select(run_key=trained.outputs["run_key"], checkpoints=trained.outputs["checkpoints"])
        place(best.after(scored), heavy, "Pick the best", hours=24, retries=2)
        give_gpus(best, **on_gpus)

        segmented = steps.predict(
            run_key=trained.outputs["run_key"],
            images=predict_images,
            limit=predict_limit,
            best=best.outputs["best"],
        )
        place(segmented, heavy, "Segment images", hours=48, retries=3)
        give_gpus(segmented, **on_gpus)
