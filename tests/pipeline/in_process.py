"""The `cps` command in this process: what it says and how it ends, without the seconds that a process of its own takes.

Tests of signals, of what is imported and of exit codes as a shell sees them start a process instead.
"""

import contextlib
import io
import os
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from components import progress
from pipeline.cli.main import main

FOREIGN = ("AWS_", "MLFLOW_", "CPS_")


def cps(*arguments: str, folder: Path | None = None, **environment: str) -> "subprocess.CompletedProcess[str]":
    """Run the command in `folder`, with no variable of the services but those in `environment`."""
    out, err = io.StringIO(), io.StringIO()
    with _surroundings(folder, environment), contextlib.redirect_stdout(out), contextlib.redirect_stderr(err):
        try:
            main(arguments)
        except SystemExit as ended:
            code = int(ended.code or 0)
        finally:
            progress.be_quiet(False)
    return subprocess.CompletedProcess(["cps", *arguments], code, out.getvalue(), err.getvalue())


@contextlib.contextmanager
def _surroundings(folder: Path | None, environment: dict[str, str]) -> Iterator[None]:
    with pytest.MonkeyPatch.context() as patch:
        for name in list(os.environ):
            if name.startswith(FOREIGN):
                patch.delenv(name)
        for name, value in environment.items():
            patch.setenv(name, value)
        if folder:
            patch.chdir(folder)
        yield
