"""Limits on what an archive may unpack to, and checks of the names in it."""

import os
import re
import shutil
import unicodedata
from dataclasses import dataclass, field
from pathlib import Path, PurePosixPath

from components.disk import WORK_VARIABLE
from components.errors import UserError
from components.units import size_text

BYTES, RATIO, FILES = "CPS_UNPACK_MAX_BYTES", "CPS_UNPACK_MAX_RATIO", "CPS_UNPACK_MAX_FILES"
_DEFAULTS = {BYTES: 500_000_000_000, RATIO: 100, FILES: 5_000_000}
_RATIO_FREE_BYTES = 100_000_000
"""Bytes up to which the ratio is not checked: lists and flat labels compress very well."""
_DRIVE = re.compile(r"[A-Za-z]:[\\/]")
_NAME_MAX = 255
"""Bytes in one part of a path, the limit of most file systems."""
SUFFIXES = (".tar", ".tar.gz", ".tgz", ".tar.zst", ".zip")


@dataclass
class Limits:
    """Counts the declared members of an archive, and rejects it at the first one that exceeds a limit."""

    archive: Path
    size: int
    """Size of the archive in bytes."""
    most_bytes: int
    most_ratio: int
    most_files: int
    files: int = 0
    bytes: int = 0

    def add(self, size: int) -> None:
        self.files += 1
        self.bytes += size
        if self.files > self.most_files:
            raise self._exceeded(f"more than {self.most_files} files", FILES)
        if self.bytes > self.most_bytes:
            raise self._exceeded(f"more than {self.most_bytes / 1e9:g} GB", BYTES)
        if self.bytes > max(_RATIO_FREE_BYTES, self.size * self.most_ratio):
            raise self._exceeded(f"more than {self.most_ratio} times its {self.size} bytes", RATIO)

    def check_room(self, folder: Path) -> None:
        """Raise UserError if the disk of `folder` has no room for all of the archive."""
        free = shutil.disk_usage(folder).free
        if self.bytes > free:
            raise UserError(
                f"archive {self.archive} unpacks to {size_text(self.bytes)}, but {folder} has only "
                f"{size_text(free)} free: make room, or set {WORK_VARIABLE} to a folder on a larger disk"
            )

    def _exceeded(self, what: str, variable: str) -> UserError:
        return UserError(
            f"archive {self.archive} unpacks to {what}, which is not allowed: raise {variable} if you trust it"
        )


def limits_for(archive: Path) -> Limits:
    """Return the limits for an archive: those set in the environment, otherwise the defaults."""
    values = {name: _number(name, default) for name, default in _DEFAULTS.items()}
    return Limits(archive, archive.stat().st_size, values[BYTES], values[RATIO], values[FILES])


def _number(name: str, default: int) -> int:
    text = os.environ.get(name, "").strip()
    if text and not (text.isascii() and text.isdigit() and int(text) > 0):
        raise UserError(f"{name} is {text!r}: set it to a whole number above 0, or unset it for {default}")
    return int(text) if text else default


@dataclass
class Names:
    """The names in one archive, each checked against those before it."""

    archive: Path
    _files: set[str] = field(default_factory=set)
    _folders: set[str] = field(default_factory=set)
    _spelled: dict[str, str] = field(default_factory=dict)
    """Every name and every folder above it, by its normalized form on a system that ignores case."""

    def add_file(self, name: str) -> str:
        """Return the path below the target folder. Raises UserError if the name is not allowed."""
        place = self._add(name)
        if place in self._files:
            raise self.refusal(name, "occurs twice")
        if place in self._folders:
            raise self.refusal(name, "is a file and a folder")
        self._files.add(place)
        return place

    def add_folder(self, name: str) -> None:
        """Check a folder, which may occur any number of times. Raises UserError if the name is not allowed."""
        place = self._add(name)
        if place in self._files:
            raise self.refusal(name, "is a file and a folder")
        self._folders.add(place)

    def refusal(self, name: str, what: str) -> UserError:
        return UserError(f"archive {self.archive}: {name!r} {what}; refused")

    def _add(self, name: str) -> str:
        parts = self._parts(name)
        for count in range(1, len(parts) + 1):
            place = "/".join(parts[:count])
            seen = self._spelled.setdefault(unicodedata.normalize("NFC", place).casefold(), place)
            if seen != place:
                raise self.refusal(name, f"is the same name as {seen!r} on some file systems")
            if count < len(parts):
                if place in self._files:
                    raise self.refusal(place, "is a file and a folder")
                self._folders.add(place)
        return "/".join(parts)

    def _parts(self, name: str) -> tuple[str, ...]:
        try:
            name.encode()
        except UnicodeEncodeError:
            # Bytes that are not UTF-8 become lone surrogates.
            raise self.refusal(name, "is not UTF-8") from None
        unified = PurePosixPath(name.replace("\\", "/"))
        if unified.is_absolute() or ".." in unified.parts or "\0" in name or _DRIVE.match(name):
            raise self.refusal(name, "leads out of the target folder")
        if any(unicodedata.category(letter) == "Cc" for letter in name):
            raise self.refusal(name, "has control characters")
        parts = PurePosixPath(name).parts
        if any(len(part.encode()) > _NAME_MAX for part in parts):
            raise self.refusal(name[:80], f"has a part longer than {_NAME_MAX} bytes")
        return parts


def archive_stem(name: str) -> str | None:
    """Return `camvid` for `camvid.tar.gz`, or None if the name is not that of a supported archive."""
    lower = name.lower()
    suffix = next((suffix for suffix in SUFFIXES if lower.endswith(suffix)), None)
    return name[: -len(suffix)] if suffix else None
