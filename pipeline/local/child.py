"""The process that runs the compiled pipeline on this machine: `python -m pipeline.local.child JOB_FOLDER`.

It is a process of its own because KFP's local runs change the process they are in (a patched print, a singleton),
and because a whole process group can be stopped together. The job folder has job.json; everything KFP writes goes
below it, and the events of the steps to events.jsonl there.
"""

import json
import os
import re
import shutil
import signal
import sys
import threading
import warnings
from pathlib import Path
from types import FrameType
from typing import Any

from components import progress
from components.step_guard import FAILED, STOPPING_VARIABLE, on_parents_death

GRACE_SECONDS = 25.0
"""How long a step has to save its work after it was told to stop."""


def main(folder: Path) -> int:
    _stop_together()
    parent = os.getppid()
    job = json.loads((folder / "job.json").read_text())
    try:
        _run(folder, job["parameters"], job["compiled"])
    except Exception as error:
        # A step that failed has said why; this is for one that was killed before it could say anything.
        progress.failure("pipeline", _explain(error), FAILED)
        print(f"pipeline: {error}", file=sys.stderr, flush=True)
        return FAILED
    finally:
        if os.getppid() != parent:
            shutil.rmtree(folder, ignore_errors=True)  # whose task it is has died
    return 0


def _run(folder: Path, parameters: dict[str, Any], compiled: str) -> None:
    warnings.filterwarnings("ignore", module=r"kfp\..*")  # images and display names mean nothing here
    from kfp import components, local

    if not compiled:
        from pipeline.compile import compile_pipeline

        compiled = str(compile_pipeline(folder / "pipeline.yaml"))
    # KFP writes the interpreter's path over the text "python3" wherever it stands, in people's paths too. With
    # this the text stays as it is, and the PATH that the parent made finds the same interpreter.
    sys.executable = "python3"
    local.init(
        local.SubprocessRunner(use_venv=False),
        pipeline_root=str(folder / "artifacts"),
        workspace_root=str(folder / "workspace"),
    )
    components.load_component_from_text(_without_retries(Path(compiled).read_text()))(**parameters)


def _without_retries(text: str) -> str:
    """A retry is for a container that was taken away. Here the person reads why, and a second run goes on."""
    import yaml

    spec, *platform = yaml.safe_load_all(text)
    for component in (spec["root"], *spec["components"].values()):
        for task in component.get("dag", {}).get("tasks", {}).values():
            task.pop("retryPolicy", None)
    return yaml.safe_dump_all([spec, *platform])


def _stop_together() -> None:
    """On SIGTERM, tell every process of the group, and let the pipeline come to its end: the exit handler runs.

    The parent's death counts as one, so that nothing trains on where nobody sees it.
    """

    def stop(_number: int, _frame: FrameType | None) -> None:
        if os.environ.get(STOPPING_VARIABLE):
            return
        os.environ[STOPPING_VARIABLE] = "1"
        os.killpg(os.getpgrp(), signal.SIGTERM)
        overdue = threading.Timer(GRACE_SECONDS + 10, os.killpg, (os.getpgrp(), signal.SIGKILL))
        overdue.daemon = True
        overdue.start()

    signal.signal(signal.SIGTERM, stop)
    on_parents_death(signal.SIGTERM)


def _explain(error: Exception) -> str:
    text = re.sub(r"\x1b\[[0-9;]*m", "", str(error))
    failed = re.search(r"Inner task failed: '([^']+)'", text)
    if failed:
        return f"step {failed.group(1)!r} was killed before it could say why (out of memory?)"
    return " ".join(text.split()) or type(error).__name__


if __name__ == "__main__":
    sys.exit(main(Path(sys.argv[1])))
