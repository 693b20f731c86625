"""What an archive may call its files: names that lie inside the folder on every system, each of them once."""

import re
import unicodedata
from dataclasses import dataclass, field
from pathlib import Path, PurePosixPath

from components.errors import UserError

_DRIVE = re.compile(r"[A-Za-z]:[\\/]")
_LONGEST = 255
"""Bytes in one part of a path, which is what most file systems take."""


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
