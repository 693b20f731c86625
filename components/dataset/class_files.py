"""Read class files of labelling tools and other trainers: names, and the value or colour of each class.

A class file is recognised by its name (classes.txt, labelmap.txt, class_dict.csv, data.yaml …). Its format follows from
its lines, with or without a header: `road`, `0 road`, `128 64 128 road`, `0,road,128,64,128`, `road:128,64,128::`,
`road,#804080`.
"""

import csv
import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from components.errors import UserError

RGB = tuple[int, int, int]

_VOID = frozenset({"__ignore__", "ignore", "ignored", "void", "unlabeled", "unlabelled"})
_STEMS = re.compile(
    r"_?(label_?)?class(es)?(_?(names?|dict|map|list|colou?rs|labels))?"
    r"|labels?_?(map|names?|list|colou?rs|classes)?|colou?r_?map|palette|categories|names",
    re.IGNORECASE,
)
_SUFFIXES = (".txt", ".csv", ".tsv", ".names")
_YAML = ("data.yaml", "data.yml", "dataset.yaml", "dataset.yml")
_HEX = re.compile(r"#?([0-9a-f]{2})([0-9a-f]{2})([0-9a-f]{2})", re.IGNORECASE)
_NUMBERS = re.compile(r"[0-9]+(\s+[0-9]+)*")
_HEADER = re.compile(
    r"#?\s*(name|class|classes|label|category|title|id|index|value|pixel value|class_?(id|name)|colou?r|colou?r_rgb|"
    r"hex|r|g|b|red|green|blue|parts|actions)",
    re.IGNORECASE,
)


@dataclass(frozen=True)
class Entry:
    """A class or void, with the value and colour of its pixels in label files, if known."""

    name: str
    value: int | None = None
    color: RGB | None = None

    @property
    def is_void(self) -> bool:
        return self.name.lower() in _VOID


def is_class_file(name: str) -> bool:
    """Return whether a tool would use this file name for a list of classes."""
    path = Path(name)
    return name.lower() in _YAML or bool(path.suffix.lower() in _SUFFIXES and _STEMS.fullmatch(path.stem))


def read_entries(path: Path, text: str) -> list[Entry]:
    """Return the classes in a tool's file; empty if it contains none.

    Raises UserError with the number of a line that is not a class.
    """
    if path.name.lower() in _YAML:
        return _read_yaml(path, text)
    lines = [(number, line.strip()) for number, line in enumerate(text.splitlines(), start=1) if line.strip()]
    header = _fields(lines[0][1]) if lines else []
    if len(header) > 1 and all(map(_HEADER.fullmatch, header)) and len(lines) > 1:
        del lines[0]
    lines = [(number, line) for number, line in lines if not line.startswith("#")]
    entries = [_entry(path, number, line) for number, line in lines]
    if any(entry.value is None and entry.color is None for entry in entries):
        # The lines are bare names, which may begin with a number; a name's position is its value. labelme's __ignore__
        # means -1, which becomes 255 in 8-bit files, and takes no position.
        names = [line for _, line in lines if line != "__ignore__"]
        return [Entry(name, value=value) for value, name in enumerate(names)]
    return entries


def _entry(path: Path, number: int, line: str) -> Entry:
    """Parse a line into a name and the value or colour that its numbers give."""
    fields = _fields(line)
    if len(fields) == len(line.split()) and not fields[0].isdigit() and sum(map(str.isdigit, fields)) < 3:
        return Entry(line)  # `level 2` is a name
    numbers = [int(field) for field in fields if field.isdigit()]
    words = [field for field in fields if not field.isdigit()]
    color: RGB | None = None
    hexes = [match for field in words if field.startswith("#") and (match := _HEX.fullmatch(field))]
    if hexes:
        red, green, blue = (int(part, 16) for part in hexes[0].groups())
        color = red, green, blue
        words = [field for field in words if not field.startswith("#")]
    if len(numbers) in (3, 4) and color is None:
        color = numbers[-3], numbers[-2], numbers[-1]
        numbers = numbers[:-3]
    if not words or len(numbers) > 1 or any(value > 255 for value in (*numbers, *(color or ()))):
        raise UserError(
            f"{path}:{number}: {line!r} is not a valid class: write a name with a value or colour of 0 to 255"
        )
    return Entry(" ".join(words), numbers[0] if numbers else None, color)


def _fields(line: str) -> list[str]:
    """Split a line at its separator, and numbers at spaces."""
    separator = next((each for each in (":", ";", ",", "\t") if each in line), None)
    if separator is None:
        return line.split()
    if separator == ":":
        # CVAT writes name:r,g,b:parts:actions.
        name, _, rest = line.partition(":")
        return [name.strip(), *re.split(r"[,\s]+", rest.split(":")[0].strip())] if rest.strip(": ") else [name.strip()]
    fields = [field.strip() for field in next(csv.reader([line], delimiter=separator)) if field.strip()]
    return [part for field in fields for part in (field.split() if _NUMBERS.fullmatch(field) else [field])]


def _read_yaml(path: Path, text: str) -> list[Entry]:
    try:
        value = yaml.load(text, Loader=yaml.BaseLoader)  # keep everything as text, so that `off` is a name
    except yaml.YAMLError as error:
        raise UserError(f"{path} cannot be read: {' '.join(str(error).split())}") from None
    names: Any = value.get("names") if isinstance(value, dict) else None
    if isinstance(names, list):
        names = dict(enumerate(names))
    if not isinstance(names, Mapping) or not all(str(number).isdigit() for number in names):
        return []
    return [
        Entry(str(name), value=int(number)) for number, name in sorted(names.items(), key=lambda item: int(item[0]))
    ]
