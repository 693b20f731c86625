"""A real CamVid training to measure: its store, its MLflow and its loader, stopped wherever the measurement likes."""

import os
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

from components.networks import processor
from components.recipes.loader import parse_recipe
from components.runs.record import load_run
from components.runs.request import RunRequest
from components.runs.steps import prepare_dataset, split_labels_step
from components.storage.client import open_store
from pipeline.local.services import services_down, services_up, wait_tracking

if TYPE_CHECKING:
    from components.training.loop import Training


@contextmanager
def camvid_training() -> Iterator["Training"]:
    """Recipe camvid-mobilenetv2 at ratio 1/8 in this process, which must not have imported paddle yet.

    CPS_TEST_DATA names the folder that has camvid/, CPS_TEST_WEIGHTS the one that has mobilenetv2_imagenet.npz.
    """
    overrides: dict[str, Any] = {"network.freeze_stem": False}
    if weights := os.environ.get("CPS_TEST_WEIGHTS"):
        overrides = {"network.pretrained": str(Path(weights) / "mobilenetv2_imagenet.npz")}
    with tempfile.TemporaryDirectory(prefix="benchmark-") as name:
        home = Path(name)
        try:
            os.environ.update(services_up(home).environment, CPS_CACHE=f"{name}/cache")
            wait_tracking(home)
            source = str(Path(os.environ["CPS_TEST_DATA"]) / "camvid")
            request = RunRequest(dataset=source, recipe="camvid-mobilenetv2", overrides=overrides)
            run_key = split_labels_step(prepare_dataset(request).digest, request)
            processor.prepare_training(networks=2)
            from components.training import process

            store = open_store()
            record, split = load_run(store, run_key)
            with process.tracker_of(record) as tracker:
                yield process.prepare_training(store, record, split, parse_recipe(record.settings, run_key), tracker)
        finally:
            services_down(home)
