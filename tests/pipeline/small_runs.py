"""A run of a few small scenes, recorded but not trained, and the command in a process of its own."""

import os
import subprocess
import sys
from pathlib import Path

from components.runs.steps import prepare_dataset, split_labels_step

ROOT = Path(__file__).parents[2]
SCENES = "scenes:train=8,val=2,width=256,height=128"


def make_run(dataset: str = SCENES, **others) -> str:
    parameters = {
        "labeled_ratio": "1/4",
        "recipe": "demo",
        "overrides_json": '{"training.epochs": 3}',
        "seed": 5,
        "epochs": 0,
        "batch_size": 2,
        **others,
    }
    prepared = prepare_dataset(source=dataset, sha256="", **parameters)
    return split_labels_step(dataset_digest=prepared["digest"], job_id="", **parameters)


def cps(*arguments: str, folder: Path, environment: dict[str, str], tracker: str) -> "subprocess.CompletedProcess[str]":
    return subprocess.run(
        [sys.executable, "-m", "pipeline.cli", *arguments],
        cwd=folder,
        env={**os.environ, **environment, "MLFLOW_TRACKING_URI": tracker, "PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
    )
