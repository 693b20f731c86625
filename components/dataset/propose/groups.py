"""Group images that show the same place or clip, as far as the names of folders and files tell.

A name is a chain from coarse to fine: folders, then the words of the file name, and last its number. In
`oslo/clipA_0003.jpg`, the chain is oslo, clipA, and the number is 3.
"""

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import PurePosixPath

from components.dataset.layouts.names import image_stems, own_words, residue

_COPY = re.compile(r"[._-](?:jpe?g|png|bmp|tiff?|webp)\.rf\.[0-9a-f]{32}", re.IGNORECASE)
"""What Roboflow appends to the name of an image for each augmented copy of it."""
_SEPARATORS = re.compile(r"[_\-. ()+]+")
_NUMBERED = 0.9
"""Share of the images whose names must end in a number for the numbers to count as an order."""


@dataclass(frozen=True)
class Name:
    """What an image's name tells about the images that belong to it."""

    chain: tuple[str, ...]
    number: int | None
    """The number at the end of the name, if it has one."""
    original: str
    """The folder and the file name without the mark of an augmented copy."""


def parse_name(image: str) -> Name:
    path = PurePosixPath(image)
    folders = [text for part in path.parts[:-1] if (text := residue(part) or " ".join(own_words(part)))]
    stem = _COPY.sub("", image_stems(path)[-1])
    fields = [field for field in _SEPARATORS.split(stem) if field]
    match = re.fullmatch(r"(.*?)([0-9]{1,18})", fields[-1]) if fields else None
    if match:
        fields[-1:] = [match[1]] if match[1] else []
    return Name((*folders, *fields), int(match[2]) if match else None, "/".join((*folders, stem)))


def levels(names: Sequence[Name]) -> Iterator[list[str]]:
    """Yield the group of each image, coarsest grouping first, while groups average at least two images."""
    before: list[str] = []
    for depth in range(1, max((len(name.chain) for name in names), default=0) + 1):
        groups = ["/".join(name.chain[:depth]) if name.chain else name.original for name in names]
        if len(set(groups)) > len(groups) / 2:
            return
        if len(set(groups)) > 1 and groups != before:
            yield groups
        before = groups


def numbered_sequences(names: Sequence[Name]) -> list[list[Name]]:
    """Return the names that differ only in their number, in the order of the numbers; each name once."""
    sequences: dict[tuple[str, ...], set[Name]] = {}
    for name in names:
        if name.number is not None:
            sequences.setdefault(name.chain, set()).add(name)
    return [sorted(found, key=lambda name: (name.number or 0, name.original)) for found in sequences.values()]


def numbered_blocks(names: Sequence[Name], length: int) -> list[str] | None:
    """Return the group of each image such that a group is a block of `length` images with consecutive numbers.

    Returns None if the names are not numbered. A last, shorter block joins the one before it.
    """
    numbered = [name for name in names if name.number is not None]
    sequences = numbered_sequences(names)
    if len(numbered) < _NUMBERED * len(names) or len(sequences) > len(names) / 2:
        return None
    found: dict[Name, str] = {}
    for ordered in sequences:
        blocks = max(1, len(ordered) // length)
        for place, name in enumerate(ordered):
            block = min(place // length, blocks - 1)
            first, last = ordered[block * length], ordered[-1 if block == blocks - 1 else (block + 1) * length - 1]
            is_one = first.original == last.original
            found[name] = first.original if is_one else f"{first.original} to {PurePosixPath(last.original).name}"
    return [found.get(name, name.original) for name in names]
