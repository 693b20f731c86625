"""`cps run --resume RUN` goes on with that run and no other: every difference to what is given is named."""

import pytest

from components.errors import UserError
from components.runs.request import RunRequest
from components.runs.resume import recorded_run, resumed_request
from components.storage import keys
from tests.pipeline.in_process import cps
from tests.pipeline.small_runs import REQUEST, make_run


def test_the_request_makes_the_very_same_run(store, run_key, tmp_path):
    record = recorded_run(store, run_key)
    again = make_run(resumed_request(record, tmp_path, RunRequest()).model_copy(update={"batch_size": 2}))
    assert again == run_key
    assert recorded_run(store, run_key[:12]) == record, "the beginning of a run key will do"


def test_what_is_given_and_the_same_is_no_difference(store, run_key, tmp_path):
    same = RunRequest(recipe="demo", labeled_ratio="2/8", seed=5, overrides={"training.epochs": 3}, batch_size=2)
    record = recorded_run(store, run_key)
    assert resumed_request(record, tmp_path, same) == resumed_request(record, tmp_path, RunRequest())


def test_a_default_that_has_changed_since_and_has_no_effect_is_no_difference(store, run_key, tmp_path):
    stored = store.get_json(keys.run(run_key, "run.json"))
    stored["settings"]["training"]["recovery_steps"] = 50
    store.put_json(keys.run(run_key, "run.json"), stored)
    record = recorded_run(store, run_key)
    same = RunRequest(recipe="demo", labeled_ratio="2/8", seed=5, overrides={"training.epochs": 3}, batch_size=2)
    assert resumed_request(record, tmp_path, same) == resumed_request(record, tmp_path, RunRequest())
    asked = RunRequest(overrides={"training.recovery_steps": 7})
    with pytest.raises(UserError, match=r"training\.recovery_steps 7 given, 50 recorded"):
        resumed_request(record, tmp_path, asked)


@pytest.mark.parametrize(
    ("given", "named"),
    [
        (RunRequest(labeled_ratio="1/2"), ["ratio 1/2 given, 1/4 recorded"]),
        (RunRequest(seed=6), ["seed 6 given, 5 recorded"]),
        (RunRequest(overrides={"training.epochs": 4}), ["training.epochs 4 given, 3 recorded"]),
        (RunRequest(overrides={"split.stratify": True}), ["split.stratify True given, False recorded"]),
        (
            RunRequest(overrides={"cps.weight": 0.5, "augmentation.crop": [32, 32]}, seed=1),
            ["seed 1", "cps.weight 0.5 given", "augmentation.crop [32, 32] given"],
        ),
        (
            RunRequest(recipe="cityscapes-deeplabv3p-resnet50"),
            ["recipe cityscapes-deeplabv3p-resnet50 given, demo recorded", "network.structure", "loss.kind ohem"],
        ),
        (RunRequest(recipe="demo"), ["training.epochs", "training.batch_size"]),
        (RunRequest(overrides={"training.epoch": 4}), ["did you mean 'training.epochs'?"]),
    ],
    ids=str,
)
def test_every_difference_is_named_in_one_line(store, run_key, tmp_path, given, named):
    with pytest.raises(UserError) as refused:
        resumed_request(recorded_run(store, run_key), tmp_path, given)
    assert all(part in str(refused.value) for part in named), refused.value
    assert "\n" not in str(refused.value)


def test_an_unknown_run_names_the_nearest(store, run_key):
    wrong = run_key.replace("-s5-", "-s6-")
    with pytest.raises(UserError, match=f"is not a run in .*; did you mean '{run_key}'"):
        recorded_run(store, wrong)
    with pytest.raises(UserError, match=f"; available: {run_key}$"):
        recorded_run(store, "zzz")


def test_several_runs_that_begin_so_are_named(store, run_key):
    other = make_run(REQUEST.model_copy(update={"seed": 6}))
    with pytest.raises(UserError, match=f"matches several: {run_key}, {other}"):
        recorded_run(store, "demo-1-4")


def test_a_run_that_this_version_would_train_otherwise_is_refused(store, run_key):
    record = store.get_json(keys.run(run_key, "run.json"))
    record["settings"]["cps"]["weight"] = 0.25
    store.put_json(keys.run(run_key, "run.json"), record)
    with pytest.raises(UserError, match="this version would train a different run"):
        recorded_run(store, run_key)


def test_the_command_refuses_another_dataset_and_other_options(run_key, store_environment, tmp_path, refusing_tracker):
    other = "scenes:train=8,val=2,width=64,height=48,seed=1"
    environment = {**store_environment, "MLFLOW_TRACKING_URI": refusing_tracker}
    for options, named in (
        (["--seed", "7", "--epochs", "9"], "seed 7 given, 5 recorded; training.epochs 9 given, 3 recorded"),
        (["--dataset", other], f"dataset {other} ("),
        (["--dataset", "stored:12"], "64 hexadecimal digits"),
    ):
        ended = cps("run", "--resume", run_key, *options, folder=tmp_path, **environment)
        assert ended.returncode == 2, ended.stderr
        last = ended.stderr.splitlines()[-1]
        assert last.startswith("cps: error: ")
        assert named in last
        assert ended.stdout == ""
