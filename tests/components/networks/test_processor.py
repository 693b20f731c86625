"""The number of usable cores, and of threads."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from components.networks.processor import BLAS_VARIABLE, THREADS_VARIABLE, usable_cores

ALLOWED = len(os.sched_getaffinity(0))


@pytest.mark.parametrize(
    ("limit", "cores"),
    [("100000 100000", 1), ("50000 100000", 1), ("6400000 100000", ALLOWED), ("max 100000", ALLOWED), ("", ALLOWED)],
)
def test_a_containers_limit_counts(limit: str, cores: int, tmp_path: Path) -> None:
    (tmp_path / "cpu.max").write_text(limit)
    assert usable_cores(tmp_path) == cores


def test_without_a_limit_it_is_what_the_process_may_run_on(tmp_path: Path) -> None:
    assert usable_cores(tmp_path) == ALLOWED


def blas_threads(**environment: str) -> list[int]:
    """Return the threads of numpy's BLAS in a process that imports numpy first and then prepares for one core."""
    script = (
        "import json, numpy, threadpoolctl\n"
        "from components.networks import processor\n"
        "processor.prepare_training(processes=processor.usable_cores())\n"
        "print(json.dumps([p['num_threads'] for p in threadpoolctl.threadpool_info() if p['user_api'] == 'blas']))\n"
    )
    inherited = {name: text for name, text in os.environ.items() if name not in (THREADS_VARIABLE, BLAS_VARIABLE)}
    done = subprocess.run(
        [sys.executable, "-c", script], env={**inherited, **environment}, capture_output=True, text=True, check=True
    )
    found: list[int] = json.loads(done.stdout)
    return found


def test_numpy_uses_no_more_threads_than_operations_do_though_it_is_imported_before() -> None:
    assert blas_threads() == [1]


@pytest.mark.skipif(ALLOWED < 2, reason="needs two cores")
@pytest.mark.parametrize("name", [THREADS_VARIABLE, BLAS_VARIABLE])
def test_the_users_number_of_threads_takes_precedence(name: str) -> None:
    assert blas_threads(**{name: "2"}) == [2]
