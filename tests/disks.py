"""Folders that cannot be written or read, made with real mounts and permissions."""

import ctypes
import os
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from tests.object_stores import small_disk

__all__ = ["permissions_count", "read_only", "small_disk"]

_VERSION = 0x20080522
_IGNORES_PERMISSIONS = 1 << 1 | 1 << 2  # CAP_DAC_OVERRIDE and CAP_DAC_READ_SEARCH


@contextmanager
def read_only(folder: Path) -> Iterator[Path]:
    """Mount the folder read-only; only root may do that."""
    for options in (["--bind", str(folder)], ["-o", "remount,ro,bind"]):
        done = subprocess.run(["mount", *options, str(folder)], capture_output=True)
        if done.returncode:
            pytest.skip(f"a folder cannot be mounted read-only here: {done.stderr.decode().strip()}")
    try:
        yield folder
    finally:
        subprocess.run(["umount", "--lazy", str(folder)], check=True)


@contextmanager
def permissions_count() -> Iterator[None]:
    """Take from this thread, and those that it starts, the privilege with which root ignores permissions."""
    header = (ctypes.c_uint32 * 2)(_VERSION, 0)
    sets = (ctypes.c_uint32 * 6)()  # effective, permitted, inheritable: of the low and of the high capabilities
    libc = ctypes.CDLL(None, use_errno=True)
    if os.geteuid() == 0 and libc.capget(header, sets):
        pytest.skip(f"root ignores permissions, and capget failed: {os.strerror(ctypes.get_errno())}")
    before, sets[0] = sets[0], sets[0] & ~_IGNORES_PERMISSIONS
    assert libc.capset(header, sets) == 0
    try:
        yield
    finally:
        sets[0] = before
        assert libc.capset(header, sets) == 0
