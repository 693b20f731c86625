"""The command reference, and the completion that shells ask for."""

import os
import subprocess
import sys
from pathlib import Path

import pytest
from click.testing import CliRunner

from pipeline.cli.main import cli
from pipeline.cli.manual import manual

ROOT = Path(__file__).parents[3]


def test_the_manual_is_up_to_date() -> None:
    assert (ROOT / "docs" / "reference" / "commands.md").read_text() == manual(cli, "cps"), "run `make reference`"


def complete(words: str, folder: Path) -> list[str]:
    """What bash's Tab offers at the end of `words`."""
    line = words.split(" ")
    question = {"_CPS_COMPLETE": "bash_complete", "COMP_WORDS": words, "COMP_CWORD": str(len(line) - 1)}
    done = subprocess.run(
        [sys.executable, "-m", "pipeline.cli"],
        cwd=folder,
        env={**os.environ, "PYTHONPATH": str(ROOT), **question},
        capture_output=True,
        text=True,
        check=True,
    )
    assert done.stderr == ""
    return done.stdout.split()


@pytest.mark.parametrize(
    ("words", "offered"),
    [
        ("cps run --recipe cam", ["plain,camvid-mobilenetv2"]),
        ("cps run --recipe ./mine", ["file,./mine"]),
        ("cps run --dataset pho", ["file,pho"]),
    ],
)
def test_tab_offers(words: str, offered: list[str], tmp_path: Path) -> None:
    assert complete(words, tmp_path) == offered
    assert list(tmp_path.iterdir()) == []


def test_the_script_for_a_shell_is_printed() -> None:
    done = CliRunner().invoke(cli, ["completion", "bash"])
    assert done.exit_code == 0
    assert "_cps_completion" in done.output
