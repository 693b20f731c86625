"""`cps plan`: what a probe finds becomes a forecast of the whole run, and is held against what is given."""

import json
import os
import signal
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path

import psutil
import pytest

from components.errors import UserError, WorkFailed
from components.runs.planning.probes import EvaluationProbe, TrainingProbe, WorkProbe
from components.runs.record import load_run
from components.runs.request import RunRequest
from components.training.train import train
from pipeline.cli.commands.plan import _size
from pipeline.local.forecast import this_machine as forecasting
from pipeline.local.forecast.gpu import gpu_forecast, gpu_lines, parse_card, speeds, step_flops
from pipeline.local.forecast.this_machine import Limits, Probes, exceeded, forecast, probe, slowdowns
from pipeline.local.services import end_killed_plans
from tests.pipeline import in_process
from tests.pipeline.small_runs import SCENES, cps

GIB = 1 << 30
FOUND = Probes(
    TrainingProbe(
        steps_probed=8,
        step_seconds=2.0,
        step_seconds_range=(1.5, 2.5),
        start_seconds=10.0,
        epochs=4,
        steps=100,
        checkpoints=4,
        checkpoint_bytes=100,
        recovery_bytes=300,
        dataset_bytes=1000,
        decoded_bytes=6 * GIB,
        private_bytes=GIB,
        shm_bytes=32 * GIB,
        peak_rss_bytes=2 * GIB,
    ),
    EvaluationProbe(
        images_probed=4, image_seconds=0.5, start_seconds=7.0, open_seconds=3.0, images=20, peak_rss_bytes=GIB
    ),
)


def test_the_forecast_counts_steps_checkpoints_and_bytes():
    expected = forecast(FOUND, Limits())
    assert expected.training_seconds == 10 + 100 * 2
    assert expected.evaluation_seconds == 7 + 4 * (3 + 20 * 0.5)
    assert expected.seconds == 210 + 59
    assert expected.storage_bytes == 1000 + 5 * 100 + 2 * 300
    assert expected.memory_bytes == 2 * GIB + 6 * GIB, "decoded images fit into half of this machine's /dev/shm"


def test_steps_of_the_burn_in_have_a_time_of_their_own():
    training = FOUND.training.model_copy(update={"burn_in_steps": 60, "burn_in_step_seconds": 0.5})
    assert forecast(replace(FOUND, training=training), Limits()).training_seconds == 10 + 60 * 0.5 + 40 * 2


def test_a_small_shared_memory_costs_time_and_not_memory():
    limits = Limits(shm=2 * GIB)
    expected = forecast(FOUND, limits)
    assert expected.memory_bytes == 2 * GIB + GIB + GIB, "half of /dev/shm, and what a process keeps"
    assert slowdowns(expected, limits)[0].startswith(
        "/dev/shm: decoded images take 6.0 GiB, but only half of 2.0 GiB is used"
    )
    assert slowdowns(expected, Limits(shm=12 * GIB)) == slowdowns(expected, Limits()) == []


def test_each_limit_is_held_to_and_what_is_not_given_is_not():
    expected = forecast(FOUND, Limits())
    assert exceeded(expected, Limits()) == []
    assert exceeded(expected, Limits(memory=8 * GIB, disk=2100, hours=1)) == []
    assert exceeded(expected, Limits(memory=8 * GIB - 1, disk=2099, hours=0.05)) == [
        "memory: needs 8.0 GiB, limit 8.0 GiB",
        "storage: needs 2 KiB, limit 2 KiB",
        "time: needs 0.1 h, limit 0.05 h",
    ]


@pytest.mark.parametrize("text", ["much", "8GiBs", "0"])
def test_other_amounts_are_refused(text):
    with pytest.raises(UserError, match=r"--memory .* must be a size such as 8GiB"):
        _size("memory", text)


def stored(store, run_key: str) -> str:
    return f"stored:{load_run(store, run_key)[0].dataset.digest}"


def test_a_probe_that_dies_or_fails_is_told_from_a_mistake(store, run_key, tmp_path, monkeypatch):
    (tmp_path / "dies.py").write_text("import os; os.kill(os.getpid(), 9)")
    (tmp_path / "breaks.py").write_text("raise SystemExit(3)")
    (tmp_path / "mistake.py").write_text(
        "from components.errors import UserError\n"
        "from components.step_guard import step_guard\n"
        "with step_guard('probe'):\n    raise UserError('the crop is too large')\n"
    )
    monkeypatch.setenv("PYTHONPATH", str(tmp_path))
    for module, error, text in (
        ("dies", WorkFailed, "out of memory"),
        ("breaks", WorkFailed, "exit code 3"),
        ("mistake", UserError, "^the crop is too large$"),
    ):
        monkeypatch.setattr(forecasting, "PROBES", {"training": module})
        with pytest.raises(error, match=text):
            probe(RunRequest(dataset=stored(store, run_key), labeled_ratio="1/4", seed=5, epochs=3, batch_size=2), 1)


WORK = WorkProbe(
    epochs=10,
    steps=1000,
    checkpoints=8,
    batch_size=8,
    crop=(800, 640),
    precision="float32",
    has_unlabeled=True,
    crop_flops=10**12,
    window_flops=2 * 10**11,
    windows=6,
    val_images=100,
    test_images=50,
    images_per_step=24,
    loader_images_per_second=48,
    cores=2,
)


def test_a_gpus_time_follows_from_the_arithmetic_and_the_loader():
    card = parse_card("100")
    assert card.sustained
    assert step_flops(WORK) == 8 * 8 * 10**12
    assert step_flops(WORK.model_copy(update={"has_unlabeled": False})) == 3 * 8 * 10**12
    assert step_flops(WORK.model_copy(update={"strong_views": 2})) == step_flops(WORK) + 3 * 8 * 10**12
    expected = gpu_forecast(WORK, card, 1)
    assert expected.compute_seconds == pytest.approx(1000 * 0.64)
    assert expected.training_seconds == expected.compute_seconds > expected.loader_seconds == 500
    assert expected.sweep_seconds == pytest.approx((8 * 100 + 50) * 6 * 0.002)
    assert expected.prediction_seconds == pytest.approx(24 * 6 * 0.002)
    on_four = gpu_forecast(WORK, card, 4)
    assert on_four.training_seconds == on_four.loader_seconds == 500, "four cards wait for two cores"
    assert on_four.sweep_seconds == expected.sweep_seconds
    early = gpu_forecast(WORK.model_copy(update={"burn_in_steps": 600}), card, 1)
    assert early.compute_seconds == pytest.approx(400 * 0.64 + 600 * 0.24)
    assert early.loader_seconds == pytest.approx((400 * 24 + 600 * 8) / 48)
    lines = "\n".join(gpu_lines(WORK, card, 4))
    assert "1000 steps of 64 TFLOP; the loader decides" in lines
    assert "48 images of 640 x 800 pixels a second on this machine's 2 cores (24 for each), 0.5 s a step;" in lines
    assert "it does not keep up with a step of 0.16 s: use 7 cores for all cards together" in lines
    assert "it keeps up with a step of 0.64 s" in "\n".join(gpu_lines(WORK, card, 1))


def test_a_card_has_the_speed_of_the_recipes_precision():
    card = parse_card("h100")
    training, inference = speeds(WORK, card)
    assert training == pytest.approx(0.3 * 494.7e12)
    assert inference == pytest.approx(0.5 * 66.9e12)
    assert speeds(WORK.model_copy(update={"precision": "bfloat16"}), card)[0] == pytest.approx(0.3 * 989.4e12)
    assert parse_card("40 TFLOP/s") == parse_card("40")
    for text in ("H1000", "0", "fast", "-3"):
        with pytest.raises(UserError, match=rf"--gpu '{text}' is not one of H200, H100, .*: give the TFLOP/s"):
            parse_card(text)


def test_bad_input_is_one_line_and_exit_code_2(store_environment, tmp_path, refusing_tracker):
    for options, named in (
        (["--memory", "lots"], "--memory 'lots' must be a size"),
        (["--dataset", "stored:" + "0" * 64], "does not exist: prepare it from its source"),
        (["--dataset", "s3://bucket/data.tar"], "`cps plan` cannot read s3:// sources"),
        (["--ratio", "2"], "labelled ratio '2'"),
        (["--gpu", "Z80"], "--gpu 'Z80' is not one of H200"),
        (["--gpus", "2"], "--gpus 2 needs --gpu"),
        (["--gpu", "H100", "--memory", "8GiB"], "--memory does not apply to --gpu"),
    ):
        environment = {**store_environment, "MLFLOW_TRACKING_URI": refusing_tracker}
        ended = in_process.cps("plan", *options, folder=tmp_path, **environment)
        assert ended.returncode == 2, ended.stderr
        assert named in ended.stderr.splitlines()[-1]
        assert ended.stdout == ""


@pytest.mark.slow
def test_a_gpu_forecast_trains_nothing(store, run_key, store_environment, tmp_path, refusing_tracker):
    before = [(item.key, item.modified) for item in store.list("")]
    options = ["--ratio", "1/4", "--seed", "5", "--epochs", "3", "--batch-size", "2", "--gpu", "A100", "--json"]
    ended = cps(
        *("plan", "--dataset", stored(store, run_key), *options),
        folder=tmp_path,
        environment=store_environment,
        tracker=refusing_tracker,
    )
    assert ended.returncode == 0, ended.stderr
    told = json.loads(ended.stdout)
    assert told["run_key"] == run_key
    assert told["probe"]["steps"] > 0
    assert told["probe"]["crop_flops"] > 10**6
    assert 0 < told["forecast"]["seconds"] < 60
    assert [(item.key, item.modified) for item in store.list("")] == before


@pytest.mark.slow
def test_the_forecast_is_what_the_training_then_does(store, run_key, store_environment, tmp_path, refusing_tracker):
    before = [(item.key, item.modified) for item in store.list("")]
    options = ["--ratio", "1/4", "--seed", "5", "--epochs", "3", "--batch-size", "2", "--steps", "2"]
    ended = cps(
        *("plan", "--dataset", stored(store, run_key), *options, "--memory", "1KiB", "--json"),
        folder=tmp_path,
        environment=store_environment,
        tracker=refusing_tracker,
    )
    assert ended.returncode == 1, ended.stderr
    assert "does not fit: memory: " in ended.stderr.splitlines()[-1]
    assert [(item.key, item.modified) for item in store.list("")] == before, "nothing is left in the store"
    told = json.loads(ended.stdout)
    assert (told["run_key"], told["fits"]) == (run_key, False)
    training = told["probe"]["training"]
    checkpoints = train(run_key).checkpoints
    assert training["steps"] == checkpoints[-1].step
    assert training["checkpoints"] == len(checkpoints)
    # The files say their epoch and step, in as many digits as these have.
    assert training["checkpoint_bytes"] == pytest.approx(checkpoints[-1].size, rel=0.05)
    assert training["recovery_bytes"] > training["checkpoint_bytes"], "weights, and the optimizers' momentum"
    assert training["step_seconds"] > 0
    assert training["burn_in_steps"] == round(0.3 * training["steps"])
    assert training["burn_in_step_seconds"] > 0
    assert told["probe"]["evaluation"]["images"] == 2


@pytest.mark.slow
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_plan_that_is_stopped_leaves_no_file_and_no_process(tmp_path, number):
    running, everything, said = probing(tmp_path)
    running.send_signal(number)
    out, _ = running.communicate(timeout=60)
    assert (running.returncode, out) == (128 + number, ""), said.read_text()
    assert said.read_text().splitlines()[-1] == (
        "cps: stopped; nothing was kept; run the same command again to start over"
    )
    assert "Traceback" not in said.read_text()
    assert list((tmp_path / "work").iterdir()) == []
    assert len(everything) > 1, "the probe and the object store"
    assert psutil.wait_procs(everything, timeout=10)[1] == []


@pytest.mark.slow
def test_what_a_killed_plan_leaves_is_ended_by_down_and_by_the_next_plan(tmp_path, monkeypatch):
    monkeypatch.setenv("CPS_WORK", str(tmp_path / "work"))
    running, everything, _ = probing(tmp_path)
    end_killed_plans()
    assert running.is_running(), "a plan in progress is left alone"
    running.kill()
    running.communicate(timeout=60)
    [left] = (tmp_path / "work").iterdir()
    assert in_process.cps("down", CPS_HOME=str(tmp_path / "home"), CPS_WORK=str(tmp_path / "work")).returncode == 0
    assert not left.exists()
    assert psutil.wait_procs(everything, timeout=10)[1] == []


def probing(folder: Path) -> tuple[psutil.Popen, list[psutil.Process], Path]:
    """Return a plan whose probe runs, all its processes, and the file with its standard error."""
    work = folder / "work"
    work.mkdir()
    environment = {
        **os.environ,
        "PYTHONPATH": str(Path(__file__).parents[3]),
        "CPS_WORK": str(work),
        "CPS_CACHE": str(folder / "cache"),
    }
    options = ["--dataset", SCENES, "--recipe", "demo", "--batch-size", "2"]
    command = [sys.executable, "-m", "pipeline.cli", "plan", *options]
    said = folder / "stderr"
    with said.open("w") as stderr:
        running = psutil.Popen(command, env=environment, stdout=subprocess.PIPE, stderr=stderr, text=True)
    deadline = time.monotonic() + 120
    while not any(map(is_probe, everything := running.children(recursive=True))):
        assert running.poll() is None, said.read_text()
        assert time.monotonic() < deadline
        time.sleep(0.05)
    return running, everything, said


def is_probe(process: psutil.Process) -> bool:
    try:
        return "components.training.probe" in process.cmdline()
    except psutil.Error:  # it has ended meanwhile
        return False
