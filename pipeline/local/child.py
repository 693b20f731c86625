"""The process that runs the compiled pipeline on this machine: `python -m pipeline.local.child JOB_FOLDER`.

It is a separate process because KFP's local runs modify their process (a patched print, a singleton), and because a
process group can be stopped as a whole. The job folder contains job.json, the events of the steps in events.jsonl, and
everything that KFP writes.
"""

import hashlib
import json
import os
import re
import shutil
import signal
import sys
import threading
import warnings
from contextlib import suppress
from importlib.metadata import version
from pathlib import Path
from types import FrameType, ModuleType
from typing import Any

from components import progress
from components.disk import default_cache, machine_error
from components.errors import one_line
from components.step_guard import FAILED, STOPPING_VARIABLE, USERS_MISTAKE, on_parents_death

GRACE_SECONDS = 25.0
"""Time that a step has to save its work after a stop request, in seconds."""


def main(folder: Path) -> int:
    _stop_together()
    parent = os.getppid()
    job = json.loads((folder / "job.json").read_text())
    try:
        _run(folder, job["parameters"], job["compiled"])
    except Exception as error:
        if not progress.first_failure():  # otherwise a step has reported its error
            progress.failure("pipeline", _explain(error), USERS_MISTAKE if machine_error(error) else FAILED)
        print(f"pipeline: {error}", file=sys.stderr, flush=True)
        return FAILED
    finally:
        if os.getppid() != parent:
            shutil.rmtree(folder, ignore_errors=True)  # the parent, which would do this, has died
    return 0


def _run(folder: Path, parameters: dict[str, Any], compiled: str) -> None:
    warnings.filterwarnings(
        "ignore", module=r"kfp\..*"
    )  # its warnings about images and display names do not apply to local runs
    leave_out_kfps_client()
    from kfp import components, local

    compiled = compiled or str(compiled_pipeline(folder))
    # KFP replaces every "python3" with the interpreter's path, even inside users' paths. This makes the replacement
    # a no-op; the PATH that the parent sets finds the same interpreter.
    sys.executable = "python3"
    local.init(
        local.SubprocessRunner(use_venv=False),
        pipeline_root=str(folder / "artifacts"),
        workspace_root=str(folder / "workspace"),
    )
    components.load_component_from_text(_without_retries(Path(compiled).read_text()))(**parameters)


def leave_out_kfps_client() -> None:
    """Spare this process the client of KFP servers, which kfp always imports, and with it Kubernetes' whole API."""
    sys.modules["kfp.client"] = client = ModuleType("kfp.client")
    client.__dict__["Client"] = None


def compiled_pipeline(folder: Path) -> Path:
    """Return the compiled pipeline from the cache, because compiling it takes three times as long as loading it.

    It is compiled into the cache if that has none of this code, or into `folder` if the cache cannot be written.
    """
    cached = default_cache() / "pipelines" / f"{_digest_of_code()}.yaml"
    with suppress(OSError):
        if cached.exists():
            return cached
    from pipeline.compile import compile_pipeline

    try:
        return compile_pipeline(cached)
    except OSError:
        return compile_pipeline(folder / "pipeline.yaml")


def _digest_of_code() -> str:
    """Return a digest of everything that a compilation depends on."""
    packages = [f"{name} {version(name)}" for name in ("kfp", "kfp-kubernetes")]
    digest = hashlib.sha256("\n".join([sys.version, *packages]).encode())
    for path in sorted(path for folder in ("components", "pipeline") for path in (_ROOT / folder).rglob("*.py")):
        digest.update(path.read_bytes())
    return digest.hexdigest()[:32]


_ROOT = Path(__file__).parents[2]


def _without_retries(text: str) -> str:
    """Return the pipeline without retries: a local user sees the error, and the same command resumes the run."""
    import yaml

    spec, *platform = yaml.safe_load_all(text)
    for component in (spec["root"], *spec["components"].values()):
        for task in component.get("dag", {}).get("tasks", {}).values():
            task.pop("retryPolicy", None)
    return yaml.safe_dump_all([spec, *platform])


def _stop_together() -> None:
    """On SIGTERM, forward it to every process of the group, and let the pipeline end with its exit handler.

    The parent's death has the same effect, so that no training continues unattended.
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
    if machine := machine_error(error):
        return one_line(machine)
    text = re.sub(r"\x1b\[[0-9;]*m", "", str(error))
    failed = re.search(r"Inner task failed: '([^']+)'", text)
    if failed:
        return f"step {failed.group(1)!r} was killed before it could report an error (out of memory?)"
    return " ".join(text.split()) or type(error).__name__


if __name__ == "__main__":
    sys.exit(main(Path(sys.argv[1])))
