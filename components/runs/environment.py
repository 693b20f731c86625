"""Record the versions, code and machine of a training. A run keeps its identity on others, up to rounding."""

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
    """The environment of a training; with several processes, that of the first one."""

    versions: dict[str, str]
    code: str
    """The first 12 hex digits of the sha256 over the sources and recipes in components/."""
    commit: str
    """Output of `git describe`, with -dirty if files were changed; empty outside a repository."""
    system: str
    processor: str
    cores: int
    threads: int
    """Compute threads in each process."""
    processes: int
    device: str
    """Paddle's name for the device, such as cpu or gpu:0; empty if nothing is trained."""


def this_environment(*, processes: int, networks: int = 1, device: str = "") -> Environment:
    """Return the environment of a training on this machine.

    Args:
        processes, networks: as in `networks.processor.prepare`.
    """
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
    """Return the versions of Python and of the packages that can affect results."""
    versions = {"python": platform.python_version()}
    for name in _VERSIONS_OF:
        try:
            versions[name] = metadata.version(name)
        except metadata.PackageNotFoundError:
            continue
    return versions


@cache
def code_digest() -> str:
    """Return a digest of components/ that does not depend on the installation's path or on git."""
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
