"""A dataset that was found in a folder."""

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Literal

from components.dataset.classes import Declared
from components.dataset.manifest import Lists

_PLURAL = re.compile(r"(?<=image)s|(?<=label)s|(?<=picture)s|(?<=file)s|(?<=list)s")

if TYPE_CHECKING:
    from components.dataset.check.facts import FileFacts


def counted(number: int, what: str) -> str:
    """`1 train image`, `2 train images`"""
    return f"{number:,} {what if number != 1 else _PLURAL.sub('', what, 1)}"


@dataclass(frozen=True)
class Use:
    """What files of one folder are used for, or why they are not."""

    place: str
    """The folder, or the one file, from the dataset's folder."""
    files: int
    what: str
    """`train images`, `val labels`, `images`, `list`, `classes`, `other files` …"""
    state: Literal["used", "explained", "unused", "refused"]
    """Unused is worth a warning; refused is fatal; explained is neither."""
    first: str = ""
    """The first file, by name."""
    why: str = ""
    """Why it is not used, and what to do."""

    def text(self) -> str:
        """For people: `images/extra/: 12 images (000.jpg first) are not used: …`"""
        more = f" ({self.first} first) are" if self.files > 1 else " is"
        return f"{self.place}: {counted(self.files, self.what)}{more} not used: {self.why}"


@dataclass(frozen=True)
class Layout:
    """Every file its lists name is there."""

    folder: Path
    name: str
    kind: str
    lists: Lists
    declared: Declared
    """The classes, and what in a label file stands for each."""
    read: tuple[str, ...] = ()
    """The lists that were read, from the folder."""
    explained: tuple[tuple[str, str], ...] = ()
    """Files that such a dataset has and that are not needed, as a pattern of their names and why."""
    top: Path | None = None
    """The folder that was given, where the dataset may lie deeper."""
    account: tuple[Use, ...] = ()
    """What every file below the dataset's folder is used for."""
    pools: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    """Further images without labels, by the name of their pool. Taken on demand, and looked for only then."""
    label_ids: Mapping[int, int] | None = None
    """Where labels hold the ids of a well-known dataset: what each means."""
    label_colors: Mapping[tuple[int, int, int], int] | None = None
    """Where labels are a well-known dataset's colour masks: what each colour means."""
    refused: Mapping[str, tuple[str, str]] = field(default_factory=dict)
    """Labels whose class ids cannot be read, and that lie there as they were: a kind of the check, and why."""
    label_facts: Mapping[str, "FileFacts"] = field(default_factory=dict)
    """What was learned of labels when they were read, by name: a check need not decode them again."""
    notes: tuple[str, ...] = ()
    """What people should know of how the folder was read."""
    origin: str = ""
    """What people call its folder, where that is a temporary one: the archive that was unpacked there."""

    @property
    def root(self) -> str:
        """What stands before its files' names in messages."""
        return f"{self.origin or self.folder}/"

    @property
    def pool_sizes(self) -> dict[str, int]:
        """Number of images by pool."""
        return {name: len(images) for name, images in self.pools.items()}


def pools_text(sizes: Mapping[str, int]) -> str:
    """For people: `train_extra_3000 (3,000 images), train_extra_6000 (6,000 images)`."""
    return ", ".join(f"{name} ({number:,} image{'' if number == 1 else 's'})" for name, number in sizes.items())
