"""The number of usable cores."""

import os
from pathlib import Path

import pytest

from components.networks.processor import usable_cores

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
