"""What a run was made with: versions, code and machine. A run on others is the same run, but for its last bits."""

import hashlib
import os
import platform
import subprocess
from functools import cache
from importlib import metadata
from pathlib import Path

from components.contract import Frozen
from components.networks.processor import THREADS_VARIABLE, thread_count, usable_cores

_VERSIONS_OF = (
    "cps-pipeline",
    "paddlepaddle",
    "paddlepaddle-gpu",
    "paddleseg",
    "numpy",
    "pillow",
    "opencv-python-headless",
    "onnxruntime",
    "openvino",
)
_COMPONENTS = Path(__file__).parents[1]


class Environment(Frozen):
    """Of one training: its first process's, where it has several."""

    versions: dict[str, str]
    code: str
    """Of components/: 12 hex digits of the sha256 over its sources and recipes."""
    commit: str
    """As `git describe` has it, with -dirty where files were changed; empty where there is no repository."""
    system: str
    processor: str
    cores: int
    threads: int
    """Of arithmetic, in each process."""
    processes: int
    device: str
    """As Paddle calls it, such as cpu or gpu:0; empty where nothing is trained."""


def this_environment(*, processes: int, networks: int = 1, device: str = "") -> Environment:
    """The environment of a training here; `networks` and `processes` as `networks.processor.prepare` takes them."""
    given = os.environ.get(THREADS_VARIABLE, "")
    return Environment(
        versions=installed_versions(),
        code=code_digest(),
        commit=_commit(),
        system=f"{platform.system()} {platform.machine()}",
        processor=_processor(),
        cores=usable_cores(),
        threads=int(given) if given.isdigit() else thread_count(networks, processes),
        processes=processes,
        device=device,
    )


def installed_versions() -> dict[str, str]:
    """Python and the packages whose versions may show in results."""
    versions = {"python": platform.python_version()}
    for name in _VERSIONS_OF:
        try:
            versions[name] = metadata.version(name)
        except metadata.PackageNotFoundError:
            continue
    return versions


@cache
def code_digest() -> str:
    """Says whether two installations have the same components, wherever they lie and whether or not git knows them."""
    digest = hashlib.sha256()
    for path in sorted(path for suffix in ("py", "yaml") for path in _COMPONENTS.rglob(f"*.{suffix}")):
        digest.update(f"{path.relative_to(_COMPONENTS).as_posix()}\0".encode())
        digest.update(hashlib.sha256(path.read_bytes()).digest())
    return digest.hexdigest()[:12]


@cache
def _commit() -> str:
    root = _COMPONENTS.parent
    if not (root / ".git").exists():
        return ""
    command = ["git", "-C", str(root), "describe", "--always", "--dirty", "--abbrev=12"]
    try:
        found = subprocess.run(command, capture_output=True, text=True, check=False, timeout=10)
    except (OSError, subprocess.TimeoutExpired):
        return ""
    return found.stdout.strip()


def _processor() -> str:
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:
        lines = []
    names = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    return names[0] if names else platform.processor()
