"""Examine the installation, the machine and the services without starting or changing any of them."""

import importlib.util
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from email.utils import parsedate_to_datetime
from pathlib import Path
from typing import Literal

import psutil
import urllib3

from components.addresses import proxy_of, without_login
from components.disk import CACHE_VARIABLE, HOME_VARIABLE, WORK_VARIABLE, default_cache, free, work_folder
from components.errors import UserError, WorkFailed, one_line
from components.storage.connection import MAX_SKEW_SECONDS
from components.storage.settings import settings_from_environment
from components.units import memory_text, seconds_text, size_text
from pipeline.local import object_store, tracking_server
from pipeline.local.ports import answers
from pipeline.local.services import MLFLOW, STORE, STORE_BYTES, services_status

PYTHON = (3, 11)
_PADDLE = (
    "import paddle; print(paddle.__version__, paddle.device.get_device(), "
    "paddle.device.cuda.device_count() if paddle.device.is_compiled_with_cuda() else 0)"
)
_PADDLE_SECONDS = 120
_LEAST_MEMORY = 3 << 30
_LEAST_SCRATCH = 1 << 30


@dataclass(frozen=True)
class Finding:
    """One thing that was examined; `remedy` is empty if nothing needs to be done."""

    what: str
    state: Literal["ok", "note", "wrong"]
    text: str
    remedy: str = ""


def examine(home: Path, kfp: Callable[[], str]) -> Iterator[Finding]:
    """Yield the findings as they are made.

    Args:
        home: the state folder.
        kfp: returns a description of the KFP server, or raises UserError or WorkFailed.
    """
    yield _python()
    yield _paddle()
    yield _memory()
    yield from _disks(home)
    yield from _services(home)
    yield from _proxies()
    yield _clock()
    yield _kfp(kfp)


def _python() -> Finding:
    text = f"{'.'.join(map(str, sys.version_info[:3]))} at {sys.executable}"
    if sys.version_info[:2] != PYTHON:
        return Finding("Python", "wrong", text, f"Install this package with Python {PYTHON[0]}.{PYTHON[1]}.")
    return Finding("Python", "ok", text)


def _paddle() -> Finding:
    if importlib.util.find_spec("paddle") is None:
        return Finding("Paddle", "wrong", "not installed", "Install cps-pipeline[train].")
    # In a process of its own, because a broken installation may crash.
    command = [sys.executable, "-c", _PADDLE]
    try:
        asked = subprocess.run(command, capture_output=True, text=True, timeout=_PADDLE_SECONDS, check=False)
    except subprocess.TimeoutExpired:
        advice = "Wait until the machine is less busy, and try again."
        return Finding("Paddle", "wrong", f"its import takes more than {_PADDLE_SECONDS} s", advice)
    if asked.returncode:
        reason = (asked.stderr.strip().splitlines() or [f"signal {-asked.returncode}"])[-1]
        return Finding("Paddle", "wrong", f"cannot be imported: {reason}", "Install it again.")
    version, device, gpus = asked.stdout.split()[-3:]
    if gpus == "0" and Path("/dev/nvidiactl").exists():
        text = f"{version} on {device}, although this machine has an NVIDIA GPU"
        return Finding("Paddle", "note", text, "Install paddlepaddle-gpu instead of paddlepaddle to use it.")
    return Finding("Paddle", "ok", f"{version} on {device}")


def _memory() -> Finding:
    available = psutil.virtual_memory().available
    text = f"{memory_text(available)} free, {os.cpu_count()} cores"
    if available < _LEAST_MEMORY:
        return Finding("memory", "note", text, "`cps plan` tells how much a run needs.")
    return Finding("memory", "ok", text)


def _disks(home: Path) -> Iterator[Finding]:
    places: dict[str, tuple[Callable[[], Path], int]] = {
        HOME_VARIABLE: (lambda: home, STORE_BYTES),
        CACHE_VARIABLE: (default_cache, _LEAST_SCRATCH),
        WORK_VARIABLE: (work_folder, _LEAST_SCRATCH),
    }
    for variable, (place, least) in places.items():
        try:
            folder = place()
            room = free(folder)
        except (UserError, OSError) as error:
            yield Finding("disk", "wrong", one_line(error), f"Set {variable} to a folder that you may write to.")
            continue
        text = f"{folder} ({variable}) has {size_text(room)} free"
        if not _can_write(folder):
            yield Finding("disk", "wrong", f"{folder} cannot be written", f"Set {variable} to another folder.")
        elif room < least:
            advice = f"Make room, or set {variable} to a folder on a larger disk."
            yield Finding("disk", "wrong", f"{text}; {size_text(least)} are needed", advice)
        else:
            yield Finding("disk", "ok", text)


def _can_write(folder: Path) -> bool:
    """Return whether a file can be made in the folder, or in the one that it would be made in. Leaves nothing."""
    existing = next(path for path in (folder, *folder.absolute().parents) if path.exists())
    try:
        tempfile.TemporaryFile(dir=existing).close()
    except OSError:
        return False
    return True


def _services(home: Path) -> Iterator[Finding]:
    known = {status.name: status for status in services_status(home)}
    for name, variable, port in (
        (STORE, "AWS_ENDPOINT_URL", object_store.PORT),
        (MLFLOW, "MLFLOW_TRACKING_URI", tracking_server.PORT),
    ):
        given, status = os.environ.get(variable, ""), known.get(name)
        if given:
            yield _given_service(name, variable, given)
        elif status is None or not status.pid:
            yield Finding(name, "ok", "not running; commands start it when they need it")
            if answers(port):
                text = f"{port} is used by another program; {name} will take the next free one"
                yield Finding("port", "note", text)
            else:
                yield Finding("port", "ok", f"{port} is free for {name}")
        elif status.healthy:
            yield Finding(name, "ok", f"{status.address} answers")
        else:
            advice = f"Wait if it has just been started; otherwise `cps down && cps up`, or see {home / 'logs'}."
            yield Finding(name, "wrong", f"{status.address} does not answer", advice)


def _given_service(name: str, variable: str, address: str) -> Finding:
    try:
        if name == MLFLOW:
            from components.tracking.address import check_tracking_address
            from components.tracking.search import RunSearch

            check_tracking_address()
            RunSearch(address)
        else:
            from components.storage.client import Store

            Store(settings_from_environment()).check()
    except (UserError, WorkFailed) as error:
        return Finding(name, "wrong", one_line(error))
    return Finding(name, "ok", f"{without_login(address)} ({variable}) answers")


def _proxies() -> Iterator[Finding]:
    set_here = sorted(name for name in os.environ if name.lower() in ("http_proxy", "https_proxy", "all_proxy"))
    if not set_here:
        yield Finding("proxy", "ok", "none")
        return
    yield Finding("proxy", "ok", f"{', '.join(set_here)} set; services on this machine are reached directly")
    for variable in ("AWS_ENDPOINT_URL", "MLFLOW_TRACKING_URI", "KF_PIPELINES_ENDPOINT"):
        address = os.environ.get(variable, "")
        if address and proxy_of(address):
            text = f"{variable} is reached through {without_login(proxy_of(address))}"
            yield Finding("proxy", "note", text, "If it is in your own network, list its host in NO_PROXY.")


def _clock() -> Finding:
    """Compare the clock with that of the object store, where a difference does harm: leases depend on it."""
    address = os.environ.get("AWS_ENDPOINT_URL", "")
    if not address:
        return Finding("clock", "ok", f"{time.strftime('%Y-%m-%d %H:%M:%S %z')}; the object store is on this machine")
    try:
        with urllib3.PoolManager(timeout=5, retries=False) as pool:
            date = pool.request("GET", address).headers.get("Date", "")
        skew = time.time() - parsedate_to_datetime(date).timestamp()
    except (urllib3.exceptions.HTTPError, ValueError):
        return Finding("clock", "note", f"cannot be compared: {without_login(address)} does not tell the time")
    text = f"{seconds_text(abs(skew))} {'ahead of' if skew > 0 else 'behind'} the object store's"
    if abs(skew) > MAX_SKEW_SECONDS:
        return Finding("clock", "wrong", text, "Set the clock, for example with NTP.")
    return Finding("clock", "ok", text)


def _kfp(describe: Callable[[], str]) -> Finding:
    configured = os.environ.get("KF_PIPELINES_ENDPOINT") or os.environ.get("KUBECONFIG")
    try:
        return Finding("KFP server", "ok", describe())
    except (UserError, WorkFailed) as error:
        # Only commands for a cluster need one.
        return Finding("KFP server", "wrong" if configured else "note", one_line(error))
