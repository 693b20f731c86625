"""The limit of a step is read from the environment, and met by code that holds Python's lock, too."""

import subprocess
import sys

import pytest

from components.errors import UserError
from components.training.supervision.watchdog import DEFAULT_SECONDS, VARIABLE, step_timeout

# A regular expression that backtracks for ages keeps the lock: no thread of Python gets a turn meanwhile.
HANGS = """
import re, sys
from pathlib import Path
from components.training.supervision.watchdog import Watchdog
with Watchdog(float(sys.argv[2]), Path(sys.argv[1])) as watchdog:
    watchdog.alive()
    re.match("(a+)+b", "a" * 60) if sys.argv[3] == "hang" else None
"""


def run(*arguments: str) -> int:
    return subprocess.run([sys.executable, "-c", HANGS, *arguments], timeout=60).returncode


def test_a_hang_that_holds_the_lock_ends_the_process_with_its_stacks_on_record(tmp_path):
    stacks = tmp_path / "stacks.txt"
    assert run(str(stacks), "0.5", "hang") == 1
    assert stacks.read_text().startswith("Timeout (0:00:00.500000)!")
    assert 'File "<string>", line 7 in <module>' in stacks.read_text()


def test_who_ends_in_time_leaves_nothing(tmp_path):
    stacks = tmp_path / "stacks.txt"
    assert run(str(stacks), "30", "end") == 0
    assert stacks.read_text() == ""


def test_the_limit_is_read_from_the_environment(monkeypatch):
    monkeypatch.delenv(VARIABLE, raising=False)
    assert step_timeout() == DEFAULT_SECONDS
    for text, seconds in (("", DEFAULT_SECONDS), ("90", 90), ("0", 0)):
        monkeypatch.setenv(VARIABLE, text)
        assert step_timeout() == seconds
    for text in ("10m", "-1", "inf", "nan"):
        monkeypatch.setenv(VARIABLE, text)
        with pytest.raises(UserError, match=f"{VARIABLE} is '{text}'"):
            step_timeout()
