"""The train step in processes of its own, on a real store: stopped, killed, damaged, and bit-equal all the same."""

import json
import math
import os
import re
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest

from components.runs.checkpoints import finished_index
from components.runs.request import RunRequest
from components.runs.steps import prepare_dataset, split_labels_step
from components.storage import keys
from components.training.loop import LAST_UPLOADS
from components.training.recovery import parse_recovery, recovery_key, unplaced_key
from components.training.supervision.pending import pending_folder, pending_path
from tests.components.training.small_training import METHOD_OPTIONS
from tests.object_stores import line_to

pytestmark = pytest.mark.slow

OVERRIDES = json.dumps(
    {
        "augmentation.crop": [48, 64],
        "training.epochs": 6,
        "training.checkpoints": 3,
        "training.batch_size": 2,
        "training.recovery_steps": 5,
        "training.recovery_seconds": 1e6,
        **METHOD_OPTIONS,
    }
)
TRAIN = "import sys; from components.training.train import train; train(sys.argv[1], int(sys.argv[2]))"


@pytest.fixture
def environment(store_environment, tmp_path, monkeypatch) -> dict[str, str]:
    variables = {"CPS_CACHE": str(tmp_path / "cache"), "PYTHONPATH": str(Path(__file__).parents[3])}
    for name, value in variables.items():
        monkeypatch.setenv(name, value)
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)
    return {**os.environ, **store_environment, **variables}


@pytest.fixture
def run_key(environment) -> str:  # noqa: ARG001 - the steps read it
    return record(json.loads(OVERRIDES))


def record(overrides: dict[str, Any]) -> str:
    request = RunRequest(
        dataset="scenes:train=16,val=2,width=96,height=64", labeled_ratio="1/4", seed=3, overrides=overrides
    )
    return split_labels_step(prepare_dataset(request).digest, request, "job")


def start(run_key: str, environment: dict[str, str], processes: int = 1) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [sys.executable, "-c", TRAIN, run_key, str(processes)], env=environment, stderr=subprocess.PIPE, text=True
    )


def finish(process: subprocess.Popen[str]) -> tuple[int, str]:
    _, text = process.communicate(timeout=240)
    return process.returncode, text


def kill_with_all_below(process: subprocess.Popen[str], count: int) -> None:
    """SIGKILL for the process alone; the `count` that it started end by themselves."""
    below = [pid for pid in descendants(process.pid) if cmdline(pid)]
    assert len(below) == count
    process.kill()
    finish(process)
    while any(cmdline(pid) for pid in below):  # the kernel's work: the test's time limit is enough of a bound
        time.sleep(0.02)


def descendants(pid: int) -> list[int]:
    try:
        children = Path(f"/proc/{pid}/task/{pid}/children").read_text().split()
    except FileNotFoundError:
        return []
    return [below for child in map(int, children) for below in (child, *descendants(child))]


def cmdline(pid: int) -> bytes:
    """Empty for a process that has ended."""
    try:
        return Path(f"/proc/{pid}/cmdline").read_bytes()
    except FileNotFoundError:
        return b""


def wait_for(store, key: str, process: subprocess.Popen[str]) -> None:
    while store.stat(key) is None:
        assert process.poll() is None, "the training ended before it was disturbed"
        time.sleep(0.02)


def digests(store, run_key: str) -> list[tuple[int, str]]:
    index = finished_index(store, run_key)
    assert index is not None
    return [(entry.epoch, entry.sha256) for entry in index.checkpoints]


def curve(store, run_key: str) -> Any:
    return store.get_json(keys.training_curve(run_key))


def forget(store, run_key: str) -> None:
    for item in store.list(keys.run(run_key, "checkpoints/")):
        store.remove(item.key)


@pytest.fixture
def undisturbed(store, run_key, environment, by_all) -> list[tuple[int, str]]:
    """Of the run without a fault. Every store holds the same one, so one training serves all tests."""

    def train() -> list[tuple[int, str]]:
        code, text = finish(start(run_key, environment))
        assert code == 0, text
        found = digests(store, run_key)
        assert len(found) == 3
        forget(store, run_key)
        return found

    return by_all.get(run_key, train)


@pytest.mark.timeout(600)
def test_killed_stopped_and_damaged_runs_end_bit_equal(store, run_key, environment, undisturbed):
    killed = start(run_key, environment)
    wait_for(store, recovery_key(run_key, 1), killed)
    kill_with_all_below(killed, 1)

    # What was killed goes on from its recovery, and is told to stop: it finishes the step, saves, ends with 143.
    stopped = start(run_key, environment)
    assert stopped.stderr is not None
    seen = ""
    while "resuming from step" not in seen:
        seen = stopped.stderr.readline()
        assert seen
    stopped.send_signal(signal.SIGTERM)
    code, text = finish(stopped)
    assert code == 143, text
    assert "state saved" in text

    # The newest recovery is damaged: the one before it serves.
    slots = [store.stat(recovery_key(run_key, slot)) for slot in (0, 1)]
    newest = max((slot for slot in slots if slot), key=lambda item: item.modified)
    store.put_bytes(newest.key, store.get_bytes(newest.key)[:1000])
    code, text = finish(start(run_key, environment))
    assert code == 0, text
    assert "ignoring a damaged recovery" in text
    assert digests(store, run_key) == undisturbed
    assert store.stat(recovery_key(run_key, 0)) is None, "a complete run needs no recovery"
    assert_found_without_importing_paddle(run_key, environment)


def assert_found_without_importing_paddle(run_key: str, environment: dict[str, str]) -> None:
    check = (
        "import sys; from components.training.train import train; train(sys.argv[1]); sys.exit('paddle' in sys.modules)"
    )
    again = subprocess.run([sys.executable, "-c", check, run_key], env=environment, capture_output=True, text=True)
    assert again.returncode == 0
    assert "already trained: 3 checkpoints" in again.stderr


EARLY = {
    "training.patience": 1,
    "training.holdout": 0.5,
    "training.epochs": 30,
    "training.recovery_steps": 4,
    "training.recovery_seconds": 1e6,
}


@pytest.mark.timeout(600)
def test_an_early_stop_is_the_same_after_a_kill(store, environment):
    run_key = record({**json.loads(OVERRIDES), **EARLY})
    code, text = finish(start(run_key, environment))
    assert code == 0, text
    undisturbed = digests(store, run_key)
    losses = curve(store, run_key)
    assert f"epoch {undisturbed[-1][0]}: mIoU" in text
    assert "2 labelled images held out" in text
    assert "and training.patience is 1" in text
    assert undisturbed[-1][0] < 30
    forget(store, run_key)

    killed = start(run_key, environment)
    wait_for(store, recovery_key(run_key, 0), killed)
    killed.kill()
    finish(killed)
    code, text = finish(start(run_key, environment))
    assert code == 0, text
    assert "resuming from step" in text
    assert digests(store, run_key) == undisturbed
    assert curve(store, run_key) == losses


@pytest.mark.timeout(600)
def test_two_processes_die_with_the_one_that_watches_them_and_go_on(store, run_key, environment):
    killed = start(run_key, environment, processes=2)
    wait_for(store, recovery_key(run_key, 0), killed)
    kill_with_all_below(killed, 3)
    code, text = finish(start(run_key, environment))  # alone, which takes half as many processes
    assert code == 0, text
    assert "resuming from step" in text
    assert len(digests(store, run_key)) == 3


def step_on_disk(path: Path, run_key: str) -> int:
    """The step of the recovery that waits there; 0 where none does."""
    return parse_recovery(path.read_bytes(), run_key, str(path)).step if path.exists() else 0


@pytest.mark.timeout(600)
@pytest.mark.parametrize(("percent", "killed"), [("15%", False), ("100%", True)])
def test_told_to_stop_by_a_slow_store_the_state_is_on_disk(store, run_key, environment, undisturbed, percent, killed):
    waiting = pending_folder(run_key)
    with line_to(store.settings, [], upstream=True, rate=30_000) as line:
        environment = {**environment, "AWS_ENDPOINT_URL": line.address}
        stopped = start(run_key, environment)
        assert stopped.stderr is not None
        while percent not in (seen := stopped.stderr.readline()):
            assert seen
        if percent == "100%":  # all steps are made, and the state after the last one is among the uploads
            while LAST_UPLOADS not in (seen := stopped.stderr.readline()):
                assert seen
        stopped.send_signal(signal.SIGTERM)
        if killed:
            # An upload that has failed may have left an older state there: the kill is to come after the newest.
            while step_on_disk(pending_path(waiting, unplaced_key(run_key)), run_key) < 36:
                assert stopped.poll() is None
                time.sleep(0.02)
            kill_with_all_below(stopped, 1)
        else:
            code, text = finish(stopped)
            assert code == 143, text
            after = "the last step" if percent == "100%" else r"step \d+ of 36"
            assert re.search(rf"stopped after {after}: the object store .* saved in {waiting}: rerun the same", text)
            assert "state saved" not in text
        assert pending_path(waiting, unplaced_key(run_key)).exists()
        line.rate = math.inf
        code, text = finish(start(run_key, environment))
        assert code == 0, text
        assert re.search(r"resuming from step \d+ of 36", text)
        assert percent != "100%" or "resuming from step 36" in text, "nothing is computed twice"
    assert digests(store, run_key) == undisturbed
    assert list(waiting.iterdir()) == []
