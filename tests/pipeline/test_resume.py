"""`cps run --resume RUN` goes on with that run and no other: every difference to what is given is named."""

import json
import os
import subprocess
import sys
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path

import pytest

from components.dataset.step import prepare_dataset, split_step
from components.errors import UserError
from components.storage import keys
from pipeline.resume import Given, recorded_run, resumed_parameters

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
    return split_step(dataset_digest=prepared["digest"], job_id="", **parameters)


@pytest.fixture
def run_key(store_environment, tmp_path, monkeypatch) -> str:  # noqa: ARG001 - the steps read it
    monkeypatch.setenv("CPS_CACHE", str(tmp_path / "cache"))
    return make_run()


def test_the_parameters_make_the_very_same_run(store, run_key, tmp_path):
    record = recorded_run(store, run_key)
    parameters = resumed_parameters(record, tmp_path, Given())
    again = make_run(
        parameters["dataset"],
        labeled_ratio=parameters["labeled_ratio"],
        recipe=parameters["recipe"],
        overrides_json=parameters["overrides"],
        seed=parameters["seed"],
        batch_size=parameters["batch_size"],
    )
    assert again == run_key
    assert recorded_run(store, run_key[:12]) == record, "the beginning of a run key will do"


def test_what_is_given_and_the_same_is_no_difference(store, run_key, tmp_path):
    same = Given("demo", "2/8", 5, {"training.epochs": 3, "training.batch_size": 2})
    record = recorded_run(store, run_key)
    assert resumed_parameters(record, tmp_path, same) == resumed_parameters(record, tmp_path, Given())


@pytest.mark.parametrize(
    ("given", "named"),
    [
        (Given(ratio="1/2"), ["ratio 1/2 given, 1/4 recorded"]),
        (Given(seed=6), ["seed 6 given, 5 recorded"]),
        (Given(settings={"training.epochs": 4}), ["training.epochs 4 given, 3 recorded"]),
        (Given(settings={"split.stratify": True}), ["split.stratify True given, False recorded"]),
        (
            Given(settings={"cps.weight": 0.5, "augmentation.crop": [32, 32]}, seed=1),
            ["seed 1", "cps.weight 0.5 given", "augmentation.crop [32, 32] given"],
        ),
        (
            Given(recipe="cityscapes-deeplabv3p-resnet50"),
            ["recipe cityscapes-deeplabv3p-resnet50 given, demo recorded", "network.structure", "loss.kind ohem"],
        ),
        (Given(recipe="demo"), ["training.epochs", "training.batch_size"]),
        (Given(settings={"training.epoch": 4}), ["did you mean 'training.epochs'?"]),
    ],
    ids=str,
)
def test_every_difference_is_named_in_one_line(store, run_key, tmp_path, given, named):
    with pytest.raises(UserError) as refused:
        resumed_parameters(recorded_run(store, run_key), tmp_path, given)
    assert all(part in str(refused.value) for part in named), refused.value
    assert "\n" not in str(refused.value)


def test_an_unknown_run_names_the_nearest(store, run_key):
    wrong = run_key.replace("-s5-", "-s6-")
    with pytest.raises(UserError, match=f"no such run in .*; did you mean '{run_key}'"):
        recorded_run(store, wrong)
    with pytest.raises(UserError, match="`cps runs list` shows what there is"):
        recorded_run(store, "zzz")


def test_several_runs_that_begin_so_are_named(store, run_key):
    other = make_run(seed=6)
    with pytest.raises(UserError, match=f"may be any of {run_key}, {other}"):
        recorded_run(store, "demo-1-4")


def test_a_run_that_this_version_would_train_otherwise_is_refused(store, run_key):
    record = store.get_json(keys.run(run_key, "run.json"))
    record["settings"]["cps"]["weight"] = 0.25
    store.put_json(keys.run(run_key, "run.json"), record)
    with pytest.raises(UserError, match="this version would train another run from it"):
        recorded_run(store, run_key)


class Refusal(BaseHTTPRequestHandler):
    def do_GET(self) -> None:
        self.send_error(403)

    do_POST = do_GET

    def log_message(self, *_: object) -> None:
        pass


@pytest.fixture
def refusing_tracker() -> Iterator[str]:
    """An MLflow that lets nobody in: what would be logged is dropped at once, where one that is away is waited for."""
    with HTTPServer(("127.0.0.1", 0), Refusal) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield f"http://127.0.0.1:{server.server_port}"
        server.shutdown()


def cps(*arguments: str, folder: Path, environment: dict[str, str], tracker: str) -> "subprocess.CompletedProcess[str]":
    return subprocess.run(
        [sys.executable, "-m", "pipeline.cli", *arguments],
        cwd=folder,
        env={**os.environ, **environment, "MLFLOW_TRACKING_URI": tracker, "PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
    )


def test_the_command_refuses_another_dataset_and_other_options(run_key, store_environment, tmp_path, refusing_tracker):
    other = "scenes:train=8,val=2,width=64,height=48,seed=1"
    for options, named in (
        (["--seed", "7", "--epochs", "9"], "seed 7 given, 5 recorded; training.epochs 9 given, 3 recorded"),
        (["--dataset", other], f"dataset {other}, which is "),
        (["--dataset", "stored:12"], "64 hexadecimal digits"),
    ):
        ended = cps(
            "run",
            "--resume",
            run_key,
            *options,
            folder=tmp_path,
            environment=store_environment,
            tracker=refusing_tracker,
        )
        assert ended.returncode == 2, ended.stderr
        last = ended.stderr.splitlines()[-1]
        assert last.startswith("cps: error: ")
        assert named in last
        assert ended.stdout == ""


@pytest.mark.slow
def test_the_command_finishes_the_recorded_run(store, run_key, store_environment, tmp_path, refusing_tracker):
    ended = cps(
        "run",
        "--resume",
        run_key,
        "--dataset",
        SCENES,
        "--json",
        folder=tmp_path,
        environment=store_environment,
        tracker=refusing_tracker,
    )
    assert ended.returncode == 0, ended.stderr
    assert json.loads(ended.stdout)["run_key"] == run_key
    assert store.stat(keys.run(run_key, "result.json")) is not None
