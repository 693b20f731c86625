"""How much an archive may unpack to: a small file can hold any number of bytes."""

import os
import shutil
from dataclasses import dataclass
from pathlib import Path

from components.errors import UserError
from components.files import ADVICE
from components.units import size_text

BYTES, RATIO, FILES = "CPS_UNPACK_MAX_BYTES", "CPS_UNPACK_MAX_RATIO", "CPS_UNPACK_MAX_FILES"
_DEFAULTS = {BYTES: 500_000_000_000, RATIO: 100, FILES: 5_000_000}
_HARMLESS = 100_000_000
"""Bytes up to which the ratio does not matter: lists and flat labels compress very well."""


@dataclass
class Limits:
    """Counts what an archive says it holds, and refuses it at the first member that is too much."""

    archive: Path
    size: int
    """Of the archive, in bytes."""
    most_bytes: int
    most_ratio: int
    most_files: int
    files: int = 0
    bytes: int = 0

    def add(self, size: int) -> None:
        self.files += 1
        self.bytes += size
        if self.files > self.most_files:
            raise self._too_much(f"more than {self.most_files} files", FILES)
        if self.bytes > self.most_bytes:
            raise self._too_much(f"more than {self.most_bytes / 1e9:g} GB", BYTES)
        if self.bytes > max(_HARMLESS, self.size * self.most_ratio):
            raise self._too_much(f"more than {self.most_ratio} times its {self.size} bytes", RATIO)

    def check_room(self, folder: Path) -> None:
        """UserError where the disk of `folder` has no room for all of it."""
        free = shutil.disk_usage(folder).free
        if self.bytes > free:
            raise UserError(
                f"archive {self.archive} unpacks to {size_text(self.bytes)} and {folder} has {size_text(free)} free: "
                f"{ADVICE}"
            )

    def _too_much(self, what: str, variable: str) -> UserError:
        return UserError(
            f"archive {self.archive} unpacks to {what}; refused, set {variable} higher if it is meant to be so large"
        )


def limits_for(archive: Path) -> Limits:
    """With what the environment sets."""
    values = {name: _number(name, default) for name, default in _DEFAULTS.items()}
    return Limits(archive, archive.stat().st_size, values[BYTES], values[RATIO], values[FILES])


def _number(name: str, default: int) -> int:
    text = os.environ.get(name, "").strip()
    if text and not (text.isascii() and text.isdigit() and int(text) > 0):
        raise UserError(f"{name} is {text!r}: set a whole number above 0, or leave it out for {default}")
    return int(text) if text else default
