"""The figures are those of this process and this machine."""

import os
from pathlib import Path

import pytest

from components.training.supervision.resources import Resources


def test_figures_are_read_from_proc(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "self").mkdir()
    (tmp_path / "self" / "status").write_text("Name:\tpython\nVmPeak:\t 4000000 kB\nVmRSS:\t 2000000 kB\nThreads:\t9\n")
    (tmp_path / "meminfo").write_text("MemTotal:  8000000 kB\nMemFree:  1000 kB\nMemAvailable:  6000000 kB\n")
    moments, spent = iter([10.0, 14.0]), iter([(1.0, 0.5), (4.0, 1.5)])
    monkeypatch.setattr("components.training.supervision.resources.time.monotonic", lambda: next(moments))
    monkeypatch.setattr("components.training.supervision.resources.usable_cores", lambda: 2)
    monkeypatch.setattr(
        "components.training.supervision.resources.os.times", lambda: os.times_result((*next(spent), 0, 0, 0))
    )
    assert Resources(tmp_path).read() == {
        "system/cpu_utilization_percentage": 50.0,  # 4 seconds of two cores' 8
        "system/process_memory_megabytes": 2048.0,
        "system/system_memory_usage_percentage": 25.0,
    }


def test_a_system_without_proc_leaves_out_what_it_does_not_say(tmp_path: Path) -> None:
    assert set(Resources(tmp_path).read()) == {"system/cpu_utilization_percentage"}


def test_this_machine_says_everything() -> None:
    found = Resources().read()
    assert found["system/process_memory_megabytes"] > 10
    assert 0 < found["system/system_memory_usage_percentage"] < 100
