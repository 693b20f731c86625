"""COMMANDS.md, and the completion that shells ask for."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from pipeline.cli import cli
from pipeline.manual import manual

ROOT = Path(__file__).parents[2]


def test_the_manual_is_up_to_date() -> None:
    assert (ROOT / "COMMANDS.md").read_text() == manual(cli, "cps"), "run `make commands`"


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
        ("cps label", ["plain,label-next"]),
        ("cps weights pull RUN --form", ["plain,--format"]),
        ("cps weights pull RUN --format on", ["plain,onnx"]),
        ("cps run --recipe cam", ["plain,camvid-mobilenetv2"]),
        ("cps run --recipe ./mine", ["file,./mine"]),
        ("cps run --dataset pho", ["file,pho"]),
        ("cps predict pho", ["file,pho"]),
        ("cps completion ", ["plain,bash", "plain,zsh", "plain,fish"]),
    ],
)
def test_tab_offers(words: str, offered: list[str], tmp_path: Path) -> None:
    assert complete(words, tmp_path) == offered
    assert list(tmp_path.iterdir()) == []


def test_bash_takes_the_script(tmp_path: Path) -> None:
    program = tmp_path / "cps"
    program.write_text(f'#!/bin/sh\nPYTHONPATH={ROOT} exec {sys.executable} -m pipeline.cli "$@"\n')
    program.chmod(0o755)
    asked = 'eval "$(cps completion bash)"; COMP_WORDS=(cps recipes sh); COMP_CWORD=2; _cps_completion cps; '
    path = f"{tmp_path}{os.pathsep}{os.environ['PATH']}"
    done = subprocess.run(
        ["bash", "--norc", "-c", asked + 'echo "${COMPREPLY[@]}"; complete -p cps'],
        env={**os.environ, "PATH": path},
        capture_output=True,
        text=True,
        check=True,
    )
    assert done.stdout.splitlines() == ["show", "complete -o nosort -F _cps_completion cps"]


@pytest.mark.parametrize(("shell", "mark"), [("zsh", "#compdef cps"), ("fish", "complete --no-files --command cps")])
def test_the_other_shells_scripts_are_printed(shell: str, mark: str) -> None:
    done = subprocess.run(
        [sys.executable, "-m", "pipeline.cli", "completion", shell],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=True,
    )
    assert mark in done.stdout
