"""How much an archive may unpack to: a small file can hold any number of bytes."""

import os
import re
import shutil
import unicodedata
from dataclasses import dataclass, field
from pathlib import Path, PurePosixPath

from components.errors import UserError
from components.files import ADVICE
from components.units import size_text

BYTES, RATIO, FILES = "CPS_UNPACK_MAX_BYTES", "CPS_UNPACK_MAX_RATIO", "CPS_UNPACK_MAX_FILES"
_DEFAULTS = {BYTES: 500_000_000_000, RATIO: 100, FILES: 5_000_000}
_HARMLESS = 100_000_000
"""Bytes up to which the ratio does not matter: lists and flat labels compress very well."""
_DRIVE = re.compile(r"[A-Za-z]:[\\/]")
_LONGEST = 255
"""Bytes in one part of a path, which is what most file systems take."""
SUFFIXES = (".tar", ".tar.gz", ".tgz", ".tar.zst", ".zip")


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


@dataclass
class Names:
    """The names of one archive, as they come; every one is checked against those before it."""

    archive: Path
    _files: set[str] = field(default_factory=set)
    _folders: set[str] = field(default_factory=set)
    _spelled: dict[str, str] = field(default_factory=dict)
    """Every name and every folder above it, by how a system that ignores case sees it."""

    def add_file(self, name: str) -> str:
        """The name's place below the folder. UserError where it must not be written."""
        place = self._add(name)
        if place in self._files:
            raise self.refusal(name, "is there twice")
        if place in self._folders:
            raise self.refusal(name, "is a file and a folder")
        self._files.add(place)
        return place

    def add_folder(self, name: str) -> None:
        """UserError where it must not be made; the same folder may be named any number of times."""
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
                raise self.refusal(name, f"and {seen!r} are one name where case does not count")
            if count < len(parts):
                if place in self._files:
                    raise self.refusal(place, "is a file and a folder")
                self._folders.add(place)
        return "/".join(parts)

    def _parts(self, name: str) -> tuple[str, ...]:
        try:
            name.encode()
        except UnicodeEncodeError:
            # Bytes that are no UTF-8 come as lone surrogates.
            raise self.refusal(name, "is not UTF-8") from None
        unified = PurePosixPath(name.replace("\\", "/"))
        if unified.is_absolute() or ".." in unified.parts or "\0" in name or _DRIVE.match(name):
            raise self.refusal(name, "leads out of the folder it is unpacked in")
        if any(unicodedata.category(letter) == "Cc" for letter in name):
            raise self.refusal(name, "has control characters")
        parts = PurePosixPath(name).parts
        if any(len(part.encode()) > _LONGEST for part in parts):
            raise self.refusal(name[:80], f"has a part longer than {_LONGEST} bytes")
        return parts


def archive_stem(name: str) -> str | None:
    """`camvid` of `camvid.tar.gz`; None where the name is not that of an archive we can unpack."""
    lower = name.lower()
    suffix = next((suffix for suffix in SUFFIXES if lower.endswith(suffix)), None)
    return name[: -len(suffix)] if suffix else None
