"""The check as it runs: on the CPU at the small size, and what it makes of parts that fail."""

import json
import os
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest

from components.training.gpu_check import run as check
from components.training.gpu_check.part import ERROR, Place
from components.training.gpu_check.table import Row, verdict
from tests.project_files import REPOSITORY

DEVICE = {"model": "H100", "versions": "Paddle", "cards": 1, "cores": 16, "memory": 1 << 36}
TRAINED = {
    "first_loss": 20.0,
    "losses": [1.0],
    "seconds": [1.0],
    "waiting": 0.0,
    "memory": 1 << 30,
    "back": {},
    "up": 1,
}
SWEEP = {"equal": 1.0, "worst": 1.0, "counts": 0, "pixels": 1, "device_seconds": 1.0, "cpu_seconds": 1.0}
ALL = {
    "device": DEVICE,
    "pictures": {},
    "reference": {"loss": 20.0},
    **dict.fromkeys(("float32", "TF32", "bfloat16"), TRAINED),
    "shared": {},
    "alone": {"loss": 0.0, "statistics": 0.0, "updates": 0.0},
    "scored": {},
    "compared": SWEEP,
}


def rows(monkeypatch: pytest.MonkeyPatch, **changes: Any) -> dict[str, Row]:
    """The table if the parts find this."""
    found = ALL | changes
    monkeypatch.setattr(check._Parts, "run", lambda _, name, **__: found[name])
    return {row.check: row for row in check.check_device("gpu")}


def test_one_card_skips_what_needs_two(monkeypatch: pytest.MonkeyPatch) -> None:
    found = rows(monkeypatch)
    assert verdict(found.values()) == ""
    assert {name: row.reason for name, row in found.items() if row.state == "skipped"} == {
        "two processes": "needs two GPUs; this machine has one"
    }
    two = rows(monkeypatch, device={**DEVICE, "cards": 2})
    assert {f"two processes: {what}" for what in ("loss", "running statistics", "updates")} <= two.keys()
    assert all(row.state == "ok" for row in two.values())


def test_a_part_that_fails_stops_no_other(monkeypatch: pytest.MonkeyPatch) -> None:
    found = rows(monkeypatch, float32={ERROR: "out of memory on gpu:0"}, scored={ERROR: "killed"})
    assert verdict(found.values()) == "float32: out of memory on gpu:0; sweep of two checkpoints: killed"
    assert found["TF32: first loss"].state == "ok"
    assert found["transfers of a step"].state == "ok"


def test_without_a_gpu_nothing_else_is_tried(monkeypatch: pytest.MonkeyPatch) -> None:
    [row] = rows(monkeypatch, device={ERROR: "Paddle finds no GPU on this machine"}).values()
    assert verdict([row]) == "device: Paddle finds no GPU on this machine"


def test_an_unknown_loss_on_the_cpu_fails_once(monkeypatch: pytest.MonkeyPatch) -> None:
    found = rows(monkeypatch, reference={ERROR: "its process was ended by SIGKILL: out of memory?"})
    assert verdict(found.values()) == "first loss on the CPU: its process was ended by SIGKILL: out of memory?"
    assert found["float32: first loss"].state == "skipped"


def test_a_process_that_dies_is_told_from_one_that_is_killed(tmp_path: Path) -> None:
    log = tmp_path / "log"
    log.write_text("first\nCUDA error 700\n")
    parts = check._Parts(Place("cpu", tmp_path))
    assert parts._found("float32", -9, log) == {ERROR: "its process was ended by SIGKILL: out of memory?"}
    assert parts._found("float32", 1, log) == {ERROR: "its process ended with code 1: CUDA error 700"}
    (tmp_path / "float32.json").write_text('{"a": 1}')
    assert parts._found("float32", 0, log) == {"a": 1}


def test_no_part_starts_after_the_time_is_used_up(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(time, "monotonic", lambda: 0.0)
    parts = check._Parts(Place("gpu", tmp_path))
    monkeypatch.setattr(time, "monotonic", lambda: 480.0)
    assert parts.run("device") == {ERROR: "not run: the check is limited to 480 s, which are used up"}


def test_a_machine_without_a_gpu_is_told_so_in_one_line() -> None:
    ended = subprocess.run(
        [sys.executable, "-m", "components.training.gpu_check"],
        cwd=REPOSITORY,
        capture_output=True,
        text=True,
        check=False,
    )
    assert ended.returncode == 1
    assert ended.stderr.startswith("failed: device: the installed Paddle supports only the CPU: ")
    assert len(ended.stderr.splitlines()) == 1


@pytest.mark.slow
@pytest.mark.timeout(1200)
def test_the_whole_check_on_the_cpu() -> None:
    ended = subprocess.run(
        [sys.executable, "-m", "pipeline.cli", "doctor", "--device", "cpu", "--json"],
        cwd=REPOSITORY,
        env={**os.environ, "NO_COLOR": "1"},
        capture_output=True,
        text=True,
        check=False,
    )
    assert ended.returncode == 0, ended.stderr
    found = {row["check"]: row["state"] for row in json.loads(ended.stdout)}
    assert found == {
        "device": "ok",
        **{f"float32: {what}": "ok" for what in ("a step", "memory", "waiting for images", "first loss")},
        "TF32": "skipped",
        "bfloat16": "skipped",
        "transfers of a step": "ok",
        **{f"two processes: {what}": "ok" for what in ("loss", "running statistics", "updates")},
        "sweep of two checkpoints": "ok",
    }
