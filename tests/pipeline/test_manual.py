"""COMMANDS.md, and the completion that shells ask for."""

import os
import pty
import select
import shutil
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from pipeline.cli.main import cli
from pipeline.cli.manual import manual

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


@pytest.fixture
def shell(tmp_path: Path) -> dict[str, str]:
    """The environment of a shell that finds `cps` and none of the user's settings."""
    program = tmp_path / "bin" / "cps"
    program.parent.mkdir()
    program.write_text(f'#!/bin/sh\nPYTHONPATH={ROOT} exec {sys.executable} -m pipeline.cli "$@"\n')
    program.chmod(0o755)
    path = f"{program.parent}{os.pathsep}{os.environ['PATH']}"
    return {**os.environ, "PATH": path, "HOME": str(tmp_path), "TERM": "dumb"}


def test_bash_takes_the_script(shell: dict[str, str]) -> None:
    asked = 'eval "$(cps completion bash)"; COMP_WORDS=(cps recipes sh); COMP_CWORD=2; _cps_completion cps; '
    done = subprocess.run(
        ["bash", "--norc", "-c", asked + 'echo "${COMPREPLY[@]}"; complete -p cps'],
        env=shell,
        capture_output=True,
        text=True,
        check=True,
    )
    assert done.stdout.splitlines() == ["show", "complete -o nosort -F _cps_completion cps"]


@pytest.mark.skipif(not shutil.which("fish"), reason="there is no fish")
def test_fish_takes_the_script(shell: dict[str, str]) -> None:
    asked = 'cps completion fish | source; complete -C "cps recipes sh"; complete -C "cps run --recipe cam"'
    done = subprocess.run(["fish", "--no-config", "-c", asked], env=shell, capture_output=True, text=True, check=True)
    assert [line.split("\t")[0] for line in done.stdout.splitlines() if line] == ["show", "camvid-mobilenetv2"]


@pytest.mark.skipif(not shutil.which("zsh"), reason="there is no zsh")
def test_zsh_takes_the_script(shell: dict[str, str]) -> None:
    """By its Tab key, in a terminal: zsh completes nowhere else."""
    process, terminal = pty.fork()
    if process == 0:
        os.execvpe("zsh", ["zsh", "-f", "-i"], {**shell, "PS1": "ready>"})

    def answer(typed: str, until: str) -> str:
        os.write(terminal, typed.encode())
        said = ""
        while until not in said:
            assert select.select([terminal], [], [], 60)[0], said
            said += os.read(terminal, 4096).decode(errors="replace")
        return said

    try:
        answer("", "ready>")
        answer('autoload -U compinit; compinit -u -D; eval "$(cps completion zsh)"; echo comp""leted\n', "completed\r")
        assert "cps recipes show " in answer("cps recipes sh\t", "show ")
    finally:
        os.kill(process, signal.SIGKILL)
        os.waitpid(process, 0)
        os.close(terminal)


@pytest.mark.parametrize(("name", "mark"), [("zsh", "#compdef cps"), ("fish", "complete --no-files --command cps")])
def test_the_other_shells_scripts_are_printed(name: str, mark: str) -> None:
    done = subprocess.run(
        [sys.executable, "-m", "pipeline.cli", "completion", name],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=True,
    )
    assert mark in done.stdout
