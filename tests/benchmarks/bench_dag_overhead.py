"""What the local DAG costs in seconds against calling the steps' functions one after the other in one process.

python -m tests.benchmarks.bench_dag_overhead [ROUNDS]

Both find a finished run, so that next to nothing but the overhead is left: the pipeline compiled and started, then for
each of its seven tasks a Python process, KFP's executor, and imports anew.
"""

import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from components.progress import Event
from components.runs.request import PredictionRequest, Resources, RunRequest
from pipeline.local.run import run_locally
from pipeline.parameters import PipelineParameters
from tests.benchmarks.measure import object_store, show

STEPS = ("prepare-dataset", "split-labels", "train", "evaluate", "select", "predict", "finish")
SIZES = {"augmentation.crop": [64, 64], "evaluation.crop": [64, 64], "evaluation.stride": [64, 64]}
REQUEST = RunRequest(
    dataset="scenes:train=16,val=2,width=128,height=64,seed=0", labeled_ratio="1/4", overrides=SIZES, epochs=1
)
DIRECT = """
import sys
from pathlib import Path
from components.runs.request import RunRequest
from components.runs.steps import prepare_dataset, split_labels_step
request, folder = RunRequest.model_validate_json(sys.argv[1]), sys.argv[2]
key = split_labels_step(prepare_dataset(request).digest, request, "job")
from components.training.train import train
train(key, 1)
from components.evaluation.publish import select_step
from components.evaluation.sweep import evaluate_step
evaluate_step(key, "0/1")
select_step(key, f"{folder}/report.html", f"{folder}/summary.md")
from components.prediction.predict import predict_step
predict_step(key, "val", 2, f"{folder}/gallery.html")
from components.runs.finish import finish_job
finish_job("job", "SUCCEEDED")
"""


def by_dag(folder: Path, environment: dict[str, str]) -> tuple[float, float]:
    """Seconds of the whole, and those before the first step said that it was done."""
    began, first = time.perf_counter(), []

    def note(event: Event) -> None:
        if event["kind"] == "result":
            first.append(time.perf_counter() - began)

    parameters = PipelineParameters(REQUEST, Resources(eval_shards=1), PredictionRequest(limit=2))
    outcome = run_locally(parameters, home=folder / "home", environment=environment, on_event=note)
    if outcome.exit_code:
        raise SystemExit(outcome.failure)
    return time.perf_counter() - began, first[0]


def directly(folder: Path, environment: dict[str, str]) -> float:
    began = time.perf_counter()
    command = [sys.executable, "-c", DIRECT, REQUEST.model_dump_json(), str(folder)]
    subprocess.run(command, env={**os.environ, **environment}, check=True, stderr=subprocess.DEVNULL)
    return time.perf_counter() - began


def main(rounds: int) -> None:
    with object_store() as store, tempfile.TemporaryDirectory() as name:
        folder, settings = Path(name), store.settings
        os.environ.pop("MLFLOW_TRACKING_URI", None)
        environment = {
            "AWS_ENDPOINT_URL": settings.endpoint,
            "AWS_ACCESS_KEY_ID": settings.access_key,
            "AWS_SECRET_ACCESS_KEY": settings.secret_key,
            "CPS_BUCKET": settings.bucket,
            "CPS_CACHE": f"{name}/cache",
        }
        store.check()
        by_dag(folder, environment)  # trains
        directly(folder, environment)
        dag, start, direct = list[float](), list[float](), list[float]()
        for _ in range(rounds):
            whole, first = by_dag(folder, environment)
            dag.append(whole)
            start.append(first)
            direct.append(directly(folder, environment))
        show("the DAG, s", dag)
        show("  of it until the first step is done, s", start)
        show("the functions in one process, s", direct)
        show("overhead for each of 7 steps, s", [(a - b) / len(STEPS) for a, b in zip(dag, direct, strict=True)])
        later = [(a - b) / (len(STEPS) - 1) for a, b in zip(dag, start, strict=True)]
        show("each step after the first, all of it, s", later)


if __name__ == "__main__":
    main(int(sys.argv[1]) if len(sys.argv) > 1 else 7)
