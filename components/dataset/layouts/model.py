"""The layout of a dataset in a folder, and the use of each of its files."""

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Literal

from components.dataset.classes import Declared
from components.dataset.manifest import Lists
from components.errors import UserError
from components.units import quantity

_PLURAL = re.compile(r"(?<=image)s|(?<=label)s|(?<=picture)s|(?<=file)s|(?<=list)s")

if TYPE_CHECKING:
    from components.dataset.check.facts import FileFacts
    from components.dataset.layouts.annotations.model import Drawing


def counted(number: int, what: str) -> str:
    """Return `1 train image` or `2 train images`."""
    return f"{number:,} {what if number != 1 else _PLURAL.sub('', what, 1)}"


class Incomplete(UserError):
    """A folder that has no classes, no validation images or no lists, and is otherwise a dataset."""

    remedy = "which proposes what is missing"
    """What `cps init` does about it."""


@dataclass(frozen=True)
class Use:
    """The use of the files in one folder, or the reason why they are not used."""

    place: str
    """The folder, or the single file, relative to the dataset's folder."""
    files: int
    what: str
    """`train images`, `val labels`, `images`, `list`, `classes`, `other files` …"""
    state: Literal["used", "explained", "unused", "refused"]
    """`unused` is worth a warning and `refused` is fatal; `explained` is neither."""
    first: str = ""
    """Name of the first file."""
    why: str = ""
    """Why the files are not used, and what to do."""

    def text(self) -> str:
        """Return, for example, `images/extra/: 12 images (first: 000.jpg) are not used: …`."""
        more = f" (first: {self.first}) are" if self.files > 1 else " is"
        return f"{self.place}: {counted(self.files, self.what)}{more} not used: {self.why}"


@dataclass(frozen=True)
class Layout:
    """A recognised dataset. Every file that its lists name exists, except for labels that are still to be drawn."""

    folder: Path
    name: str
    kind: str
    lists: Lists
    declared: Declared
    """The classes, and the label values or colours of each."""
    read: tuple[str, ...] = ()
    """The lists that were read, relative to `folder`."""
    explained: tuple[tuple[str, str], ...] = ()
    """Files that belong to this layout but are not needed, as (file name pattern, reason)."""
    held_out: bool = False
    """Whether the dataset has no validation images of its own, so that `val` is a part of its training images."""
    joined: bool = False
    """Whether these are several folders side by side, which only lists make one dataset."""
    top: Path | None = None
    """The folder that the user gave; the dataset may be in a subfolder."""
    account: tuple[Use, ...] = ()
    """What every file below `top` is used for."""
    pools: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    """Additional unlabelled images by pool name. Used, and checked for existence, only on request."""
    label_ids: Mapping[int, int] | None = None
    """Class ids by label value, for well-known datasets that number their labels differently."""
    label_colors: Mapping[tuple[int, int, int], int] | None = None
    """Class ids by colour, for well-known datasets with colour masks."""
    drawing: "Drawing | None" = None
    """How to draw the labels, for annotations that are not drawn yet: no file of a label exists until then."""
    refused: Mapping[str, tuple[str, str]] = field(default_factory=dict)
    """Labels that cannot be converted to class ids and were left as they are, with the finding's kind and text."""
    label_sources: Mapping[str, str] = field(default_factory=dict)
    """The label that each converted one was made from, for messages."""
    label_facts: Mapping[str, "FileFacts"] = field(default_factory=dict)
    """Facts about labels that are already decoded, by name, so that a check need not decode them again."""
    notes: tuple[str, ...] = ()
    """Remarks for the user on how the folder was interpreted."""
    origin: str = ""
    """The name to show for a temporary folder: the archive that was unpacked there."""

    @property
    def root(self) -> str:
        """Return the prefix of file names in messages."""
        return f"{self.origin or self.folder}/"

    @property
    def source_files(self) -> list[str]:
        """Return the sorted names of the files that the dataset is read from."""
        if self.drawing is None:
            return self.lists.file_names()
        return sorted((set(self.lists.file_names()) - self.drawing.labels.keys()) | self.drawing.files)

    @property
    def pool_sizes(self) -> dict[str, int]:
        """Return the number of images in each pool."""
        return {name: len(images) for name, images in self.pools.items()}


def pools_text(sizes: Mapping[str, int]) -> str:
    """Return, for example, `train_extra_3000 (3,000 images), train_extra_6000 (6,000 images)`."""
    return ", ".join(f"{name} ({quantity(number, 'image')})" for name, number in sizes.items())
