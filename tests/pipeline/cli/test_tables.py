"""What `cps run` prints at its end, on terminals and elsewhere."""

import os
import pty
import sys
from contextlib import suppress

import click
import pytest

from pipeline.cli.tables import print_outcome
from pipeline.local.outcome import LocalResult
from tests.run_objects import make_result

REASONS = (
    "4 training steps are few: raise --epochs",
    "the networks start from random weights: use --recipe photos, or set network.pretrained",
)


def collected() -> LocalResult:
    result = make_result("scenes-demo-1-8-s0-0123456789ab", is_better_than_constant=False, likely_reasons=REASONS)
    return LocalResult(result, None, {}, "", "", "http://127.0.0.1:9000", 61.0, "log")


def everything(terminal: int) -> str:
    """Return what was written to a terminal that its writer has closed; it comes in several parts."""
    parts = []
    with suppress(OSError):  # at the end, Linux raises an error
        while part := os.read(terminal, 100_000):
            parts.append(part)
    return b"".join(parts).decode()


def test_lines_are_whole_where_no_terminal_is(capsys: pytest.CaptureFixture[str]) -> None:
    print_outcome(collected())
    shown = capsys.readouterr().out.splitlines()
    assert [line for line in shown if line.startswith("  - ")] == [f"  - {reason}" for reason in REASONS]


def test_a_terminal_of_any_width_breaks_lines_between_words(monkeypatch: pytest.MonkeyPatch) -> None:
    words = {word for text in (*REASONS, "everywhere", "predicts", "--epochs") for word in text.split()}
    for width in range(60, 100, 3):
        monkeypatch.setenv("COLUMNS", str(width))
        master, slave = pty.openpty()
        with os.fdopen(slave, "w") as stream, monkeypatch.context() as patch:
            patch.setattr(sys, "stdout", stream)
            patch.setenv("TERM", "xterm")
            patch.setenv("NO_COLOR", "1")
            print_outcome(collected())
        lines = click.unstyle(everything(master)).splitlines()
        os.close(master)
        assert words <= {word for line in lines for word in line.split()}
        prose = [line for line in lines if not line.startswith(("weights", "report", "gallery", " " * 14))]
        assert max(map(len, prose)) <= width
