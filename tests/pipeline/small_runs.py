"""A run of a few small scenes, recorded but not trained, and the command in a process of its own."""

import os
import subprocess
import sys
from pathlib import Path

from components.runs.request import RunRequest
from components.runs.steps import prepare_dataset, split_labels_step

ROOT = Path(__file__).parents[2]
SCENES = "scenes:train=8,val=2,width=256,height=128"


REQUEST = RunRequest(dataset=SCENES, labeled_ratio="1/4", overrides={"training.epochs": 3}, seed=5, batch_size=2)


def make_run(request: RunRequest = REQUEST) -> str:
    return split_labels_step(prepare_dataset(request).digest, request)


def cps(*arguments: str, folder: Path, environment: dict[str, str], tracker: str) -> "subprocess.CompletedProcess[str]":
    return subprocess.run(
        [sys.executable, "-m", "pipeline.cli", *arguments],
        cwd=folder,
        env={**os.environ, **environment, "MLFLOW_TRACKING_URI": tracker, "PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
    )
