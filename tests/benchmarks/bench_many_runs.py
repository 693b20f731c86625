"""How long commands take on a store and an MLflow server that hold many runs.

python -m tests.benchmarks.bench_many_runs [RUNS] [MLFLOW_RUNS] [--folder FOLDER]

The runs are records of trainings that never took place, with as many objects and as large documents as real ones. With
a folder, they are made once; without, in a temporary one.
"""

import argparse
import os
import random
import sqlite3
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from functools import partial
from pathlib import Path

from components.runs.record import DatasetRef, RunOutcome
from components.storage import keys
from components.storage.client import Store
from components.storage.settings import settings_from_environment
from pipeline.local.services import services_down, services_up, wait_tracking
from tests.benchmarks.measure import seconds, show
from tests.run_objects import make_best, make_record, make_result

CHECKPOINTS = 6
DATASETS = ("scenes", "camvid", "cityscapes")
COMMANDS = (
    ("runs", "list"),
    ("runs", "show", "LAST"),
    ("weights", "list"),
    ("weights", "link", "LAST"),
    ("reproduce", "LAST", "--check"),
    ("compare",),
    ("compare", "--dataset", "camvid"),
)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("runs", nargs="?", type=int, default=1100)
    parser.add_argument("mlflow_runs", nargs="?", type=int, default=5000)
    parser.add_argument("--folder", type=Path)
    parser.add_argument("--rounds", type=int, default=3)
    given = parser.parse_args()
    if given.folder:
        measure(given.folder, given.runs, given.mlflow_runs, given.rounds)
        return
    with tempfile.TemporaryDirectory(prefix="many-runs-") as folder:
        measure(Path(folder), given.runs, given.mlflow_runs, given.rounds)


def measure(folder: Path, runs: int, mlflow_runs: int, rounds: int) -> None:
    home = folder / ".cps"
    environment = services_up(home).environment
    try:
        wait_tracking(home)
        store = Store(settings_from_environment(environment))
        store.check()
        names = [run_key(number) for number in range(runs)]
        if store.stat(keys.run(names[-1], "run.json")) is None:
            with ThreadPoolExecutor(8) as pool:
                list(pool.map(lambda number: put_run(store, number), range(runs)))
        put_mlflow_runs(home / "mlflow" / "mlflow.db", mlflow_runs)
        child = {**os.environ, "CPS_HOME": str(home), "CPS_CACHE": str(folder / "cache")}
        for command in COMMANDS:
            arguments = [names[-1] if part == "LAST" else part for part in command]
            show(f"cps {' '.join(command)}", [seconds(partial(run, arguments, child)) for _ in range(rounds)])
        completion = {**child, "_CPS_COMPLETE": "bash_complete", "COMP_WORDS": "cps runs show sce", "COMP_CWORD": "3"}
        show("completion of a run's name", [seconds(partial(run, [], completion)) for _ in range(rounds)])
    finally:
        services_down(home)


def run(arguments: list[str], environment: dict[str, str]) -> None:
    command = [sys.executable, "-m", "pipeline.cli", *arguments]
    ended = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
    if ended.returncode not in (0, 2):  # a reproduction of a run without a training is refused
        raise SystemExit(ended.stderr)


def run_key(number: int) -> str:
    return f"{DATASETS[number % len(DATASETS)]}-demo-1-8-s{number}-{number:012x}"


def put_run(store: Store, number: int) -> None:
    name, key = DATASETS[number % len(DATASETS)], run_key(number)
    dataset = DatasetRef(digest=f"{number % len(DATASETS)}" * 64, name=name)
    miou = random.Random(number).uniform(0.2, 0.8)
    weights = dict.fromkeys(range(CHECKPOINTS), "a" * 64)
    outcome = RunOutcome(mean_iou=miou, epoch=5, variant="ensemble", weights=weights)
    created = f"2026-01-01T{number // 3600 % 24:02}:{number // 60 % 60:02}:{number % 60:02}+00:00"
    record = make_record(key, dataset=dataset, seed=number, outcome=outcome, created=created)
    store.put_json(keys.run(key, "split.json"), {"images": ["some/image-0001.png"] * 200})
    for epoch in range(CHECKPOINTS):
        store.put_bytes(keys.checkpoint(key, epoch), b"weights")
        store.put_bytes(keys.scores(key, epoch), b"scores")
    store.put_json(keys.checkpoint_index(key), {})
    store.put_bytes(keys.best_weights(key, pair=True), b"weights")
    result = make_result(key, dataset=dataset, best=make_best(mIoU=miou))
    store.put_json(keys.run(key, "result.json"), result.model_dump(mode="json"))
    store.put_json(keys.run(key, "run.json"), record.model_dump(mode="json"))


def put_mlflow_runs(database: Path, runs: int) -> None:
    """Insert runs into the server's database, since as many over its API take half an hour."""
    with closing(sqlite3.connect(database, timeout=60)) as connection, connection:
        if connection.execute("SELECT count(*) FROM runs").fetchone()[0] >= runs:
            return
        for number, name in enumerate(DATASETS):
            connection.execute(
                "INSERT OR IGNORE INTO experiments (experiment_id, name, artifact_location, lifecycle_stage, "
                "creation_time, last_update_time) VALUES (?, ?, 'mlflow-artifacts:/', 'active', 1, 1)",
                (100 + number, f"cps/{name}"),
            )
        for number in range(runs):
            for statement, values in rows(number):
                connection.execute(statement, values)


def rows(number: int) -> Iterator[tuple[str, tuple[object, ...]]]:
    """Yield what a run is in MLflow's tables."""
    run_id, key, dataset = f"{number:032x}", run_key(number), DATASETS[number % len(DATASETS)]
    began = 1_760_000_000_000 + 1000 * number
    yield (
        "INSERT INTO runs (run_uuid, name, source_type, user_id, status, start_time, end_time, lifecycle_stage, "
        "artifact_uri, experiment_id) VALUES (?, ?, 'LOCAL', 'me', 'FINISHED', ?, ?, 'active', '', ?)",
        (run_id, key, began, began + 60_000, 100 + number % len(DATASETS)),
    )
    tags = {
        "cps.run_key": key,
        "dataset": dataset,
        "recipe": "demo",
        "labeled_ratio": "1/8",
        "seed": str(number),
        "method": "cps" if number % 4 else "supervised",
        "best_epoch": "5",
        "best_variant": "ensemble",
        "weights": f"s3://cps/{keys.best_weights(key, pair=True)}",
        "mlflow.note.content": "| class | IoU |\n" * 200,
    }
    for name, value in tags.items():
        yield "INSERT INTO tags (key, value, run_uuid) VALUES (?, ?, ?)", (name, value, run_id)
    params = {"split_fingerprint": f"{number % 60:064x}", **{f"training.setting{index}": "1" for index in range(40)}}
    for name, value in params.items():
        yield "INSERT INTO params (key, value, run_uuid) VALUES (?, ?, ?)", (name, value, run_id)
    chance = random.Random(number)
    for name in ("best_mIoU", "best_mIoU_low", "best_mIoU_high", *(f"IoU/class-{index}" for index in range(30))):
        yield (
            "INSERT INTO latest_metrics (key, value, timestamp, step, is_nan, run_uuid) VALUES (?, ?, ?, 5, 0, ?)",
            (name, chance.uniform(0.2, 0.8), began, run_id),
        )


if __name__ == "__main__":
    main()
