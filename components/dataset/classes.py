"""A dataset's classes: read from a class file, or those of a well-known dataset."""

import difflib
import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Annotated, Any

import yaml
from pydantic import BaseModel, BeforeValidator, Field, ValidationError

from components.contract import Class, canonical_json, problem_text
from components.dataset.class_files import RGB, Entry, is_class_file, read_entries
from components.dataset.layouts.files import is_text_file, read_text, subfolders
from components.errors import UserError
from components.pages.palette import class_colors

FILES = ("classes.json", "classes.yaml", "classes.yml")

CITYSCAPES = tuple(
    Class(name=name, color=color)
    for name, color in (
        ("road", (128, 64, 128)),
        ("sidewalk", (244, 35, 232)),
        ("building", (70, 70, 70)),
        ("wall", (102, 102, 156)),
        ("fence", (190, 153, 153)),
        ("pole", (153, 153, 153)),
        ("traffic light", (250, 170, 30)),
        ("traffic sign", (220, 220, 0)),
        ("vegetation", (107, 142, 35)),
        ("terrain", (152, 251, 152)),
        ("sky", (70, 130, 180)),
        ("person", (220, 20, 60)),
        ("rider", (255, 0, 0)),
        ("car", (0, 0, 142)),
        ("truck", (0, 0, 70)),
        ("bus", (0, 60, 100)),
        ("train", (0, 80, 100)),
        ("motorcycle", (0, 0, 230)),
        ("bicycle", (119, 11, 32)),
    )
)
"""Cityscapes' 19 evaluated classes with their official colours, by train id."""

CITYSCAPES_TRAIN_IDS = {
    label: train
    for train, label in enumerate((7, 8, 11, 12, 13, 17, 19, 20, 21, 22, 23, 24, 25, 26, 27, 28, 31, 32, 33))
}
"""The train id of each evaluated Cityscapes label id; the other label ids up to 33 are void."""

CAMVID = tuple(
    Class(name=name, color=color)
    for name, color in (
        ("sky", (128, 128, 128)),
        ("building", (128, 0, 0)),
        ("pole", (192, 192, 128)),
        ("road", (128, 64, 128)),
        ("pavement", (60, 40, 222)),
        ("tree", (128, 128, 0)),
        ("sign symbol", (192, 128, 128)),
        ("fence", (64, 64, 128)),
        ("car", (64, 0, 128)),
        ("pedestrian", (64, 64, 0)),
        ("bicyclist", (0, 128, 192)),
    )
)
"""CamVid's 11 classes in SegNet's numbering, where 11 is void."""

_VOC_NAMES = (
    *("background", "aeroplane", "bicycle", "bird", "boat", "bottle", "bus", "car", "cat", "chair", "cow"),
    *("diningtable", "dog", "horse", "motorbike", "person", "pottedplant", "sheep", "sofa", "train", "tvmonitor"),
)

MOST_CLASSES = 255
"""One value of a byte is left for void."""
_Id = Annotated[int, Field(ge=0, le=255)]
_Color = tuple[_Id, _Id, _Id]


def _numbers(value: Any) -> Any:
    """Return the numbers of a hex colour, and anything else unchanged."""
    is_hex = isinstance(value, str) and re.fullmatch("#[0-9a-fA-F]{6}", value)
    return list(bytes.fromhex(value[1:])) if is_hex else value


def _mark(value: Any) -> Any:
    """Convert hex colours. Raises ValueError for what is neither a label value nor a colour."""
    found = _numbers(value)
    numbers = found if isinstance(found, list | tuple) and len(found) == 3 else [found]
    if not all(str(number).isdecimal() and int(number) <= 255 for number in numbers):
        raise ValueError('must be a label value from 0 to 255, or a colour such as [128, 64, 128] or "#804080"')
    return found


_Mark = Annotated[_Id | _Color, BeforeValidator(_mark)]
_Name = Annotated[str, Field(min_length=1)]


class _ClassLine(BaseModel):
    id: _Id
    name: _Name
    color: _Color | None = None
    values: list[_Mark] = []
    names: list[_Name] = []


class _KnownFile(BaseModel):
    classes: str
    ignore_index: _Id | None = None
    ignore_names: list[_Name] = []


class _ClassesFile(BaseModel):
    classes: Annotated[list[_ClassLine], Field(min_length=2, max_length=MOST_CLASSES)]
    ignore_index: _Id | None = None
    ignore_values: list[_Mark] = []
    ignore_names: list[_Name] = []


@dataclass(frozen=True)
class Declared:
    """A dataset's classes, and the label values and colours of each.

    A class id is an index into `classes`; void is `ignore_index`.
    """

    classes: tuple[Class, ...]
    ignore_index: int
    values: Mapping[int, int]
    """The class id, or the ignore index, of each label value."""
    colors: Mapping[RGB, int] = field(default_factory=dict)
    """The class id, or the ignore index, of each label colour; empty if the dataset declares no colours."""
    names: Mapping[str, int] = field(default_factory=dict)
    """The class id, or the ignore index, of each name that annotation files use."""
    background: int | None = None
    """The class id, or the ignore index, of pixels without an annotation; None if labels are masks."""
    ignores_255: bool = False
    """Whether the dataset explicitly declares 255 as void, rather than by convention."""
    is_known: bool = False
    """Whether these are the classes of a well-known dataset rather than declared by this one."""
    files: tuple[str, ...] = ()
    """The class files, relative to the dataset's folder."""
    notes: tuple[str, ...] = ()

    def meanings(self) -> str:
        """Return everything that determines how labels are read, as canonical JSON."""
        described = {
            "values": sorted(self.values.items()),
            "colors": sorted([*color, number] for color, number in self.colors.items()),
            "names": sorted(self.names.items()),
            "background": self.background,
            "ignores_255": self.ignores_255,
            "is_known": self.is_known,
        }
        return canonical_json(described).decode()


UNDECLARED = Declared((), 255, {})
"""Stands in for the classes of a dataset that declares none."""


def known_classes(name: str, ignore_index: int | None = None, ignore_names: Sequence[str] = ()) -> Declared:
    """Return the classes of the well-known dataset `name`, a key of KNOWN."""
    classes, usual = KNOWN[name]
    ignored = usual if ignore_index is None else ignore_index
    names = {entry.name: number for number, entry in enumerate(classes)}
    return Declared(
        classes,
        ignored,
        {number: number for number in (*range(len(classes)), ignored)},
        {entry.color: number for number, entry in enumerate(classes)},
        names=names | dict.fromkeys(ignore_names, ignored),
        ignores_255=ignored == 255,
        is_known=True,
    )


def read_classes(folder: Path) -> Declared | None:
    """Read the class file of the dataset in `folder`; return None if it has no class file.

    Our own classes.json or classes.yaml takes precedence over the files of labelling tools.

    Raises:
        UserError: the file is malformed, or contradicts itself.
    """
    own = read_own_classes(folder)
    if own is not None:
        return own
    found = read_tool_entries(folder)
    return _from_entries(folder, *found) if found else None


def read_own_classes(folder: Path) -> Declared | None:
    """Read classes.json or classes.yaml; return None if there is neither. Raises UserError like `read_classes`."""
    path = next((folder / name for name in FILES if is_text_file(folder / name)), None)
    if path is None:
        return None
    try:
        text = read_text(path)
        value = json.loads(text) if path.suffix == ".json" else yaml.safe_load(text)
        if isinstance(value, dict) and isinstance(value.get("classes"), str):
            _check_keys(path, value, _KnownFile)
            return _known(path, _KnownFile.model_validate(value))
        listed = _ClassesFile.model_validate(_with_ids(path, value))
    except ValidationError as error:
        problem = error.errors()[0]
        where = ".".join(str(part) for part in problem["loc"]) or "the file"
        raise UserError(f"{path}: {where}: {problem_text(problem)}; write {_EXAMPLE}") from None
    except OSError as error:
        raise UserError(f"{path} cannot be read: {error.strerror}") from None
    except (ValueError, yaml.YAMLError) as error:
        raise UserError(f"{path} cannot be read: {' '.join(str(error).split())}; write {_EXAMPLE}") from None
    return _declared(path, listed)


def class_file(path: Path) -> dict[str, Any]:
    """Return the content of a valid classes.json in its long form: `classes` lists objects with `id` and `name`.

    Raises UserError if the file is YAML, whose comments a program cannot keep.
    """
    if path.suffix != ".json":
        raise UserError(f"{path} is YAML, whose comments an automatic edit would lose: edit it by hand")
    value: dict[str, Any] = _with_ids(path, json.loads(read_text(path)))
    return value


def _known(path: Path, named: _KnownFile) -> Declared:
    if named.classes not in KNOWN:
        raise UserError(f"{path}: unknown class set {named.classes!r}; available: {', '.join(KNOWN)}")
    return replace(known_classes(named.classes, named.ignore_index, named.ignore_names), files=(path.name,))


_EXAMPLE = '{"classes": [{"id": 0, "name": "road", "color": [128, 64, 128]}, …], "ignore_index": 255}'


def _with_ids(path: Path, value: Any) -> Any:
    """Convert a file's content to our format: give bare names their ids, and hex colours their numbers.

    Raises UserError for an unknown key that resembles a known one.
    """
    if isinstance(value, list):
        value = {"classes": value}
    elif isinstance(value, dict) and isinstance(value.get("categories"), list) and "classes" not in value:
        value = {"classes": value["categories"]}  # COCO's name for classes
    elif isinstance(value, dict) and "classes" not in value and value:
        if all(str(key).isdigit() and isinstance(name, str) for key, name in value.items()):
            value = {"classes": [{"id": int(key), "name": name} for key, name in value.items()]}
        elif all(isinstance(number, int) for number in value.values()):
            value = {"classes": [{"id": number, "name": str(name)} for name, number in value.items()]}
    if not isinstance(value, dict) or not isinstance(value.get("classes"), list):
        return value
    _check_keys(path, value, _ClassesFile)
    lines: list[Any] = [
        {"id": number, "name": line} if isinstance(line, str) else line for number, line in enumerate(value["classes"])
    ]
    for line in lines:
        if isinstance(line, dict):
            _check_keys(path, line, _ClassLine)
            if "color" in line:
                line["color"] = _numbers(line["color"])
    if len(lines) > MOST_CLASSES:
        raise UserError(
            f"{path} names {len(lines)} classes, but masks store a class in one byte, and one value is void: merge "
            f'classes until at most {MOST_CLASSES} are left; a class takes several values with "values": [7, 8]'
        )
    return {**value, "classes": lines}


def _check_keys(path: Path, given: Mapping[Any, Any], model: type[BaseModel]) -> None:
    for key in given:
        if key in model.model_fields:
            continue
        near = difflib.get_close_matches(str(key).lower(), model.model_fields, 1, 0.85)
        near = near or [name for name in model.model_fields if str(key).startswith("ignore") and "ignore" in name]
        if near:
            raise UserError(f"{path}: unknown key {key!r}; write {' or '.join(map(repr, near))}")


def _declared(path: Path, listed: _ClassesFile) -> Declared:
    lines = sorted(listed.classes, key=lambda line: line.id)
    ids = [line.id for line in lines]
    repeated = next((number for number in ids if ids.count(number) > 1), None)
    if repeated is not None:
        raise UserError(f"{path}: class id {repeated} is used twice; give each class its own id")
    colors = class_colors([line.name for line in lines], [line.color for line in lines])
    classes = tuple(Class(name=line.name, color=color) for line, color in zip(lines, colors, strict=True))
    ignored = listed.ignore_index
    if ignored is not None and ignored in ids:
        raise UserError(f"{path}: ignore_index {ignored} is also a class id; use another value, such as 255")
    ignore_index = ignored if ignored is not None and ignored >= len(classes) else 255
    found = _Meanings(path, classes)
    for number, line in enumerate(lines):
        found.add(line.color, number)
        for value in (*(line.values or [line.id]), line.name, *line.names):
            found.add(value, number)
    for value in (*listed.ignore_values, *listed.ignore_names):
        found.add(value, ignore_index)
    if ignored is not None:
        found.add(ignored, ignore_index)
    if ignored is None:
        found.values.setdefault(255, ignore_index)
    notes: tuple[str, ...] = ()
    if ids != list(range(len(ids))):
        notes = (f"class ids {_span(ids)} are renumbered 0 to {len(ids) - 1}, in order",)
    return Declared(
        classes,
        ignore_index,
        found.values,
        found.colors,
        found.names,
        ignores_255=ignored == 255 or 255 in listed.ignore_values,
        files=(path.name,),
        notes=notes,
    )


class _Meanings:
    """The class id of each value, colour and name. Raises UserError if one would get two class ids."""

    def __init__(self, path: Path, classes: Sequence[Class]) -> None:
        self.path, self.classes = path, classes
        self.values: dict[int, int] = {}
        self.colors: dict[RGB, int] = {}
        self.names: dict[str, int] = {}

    def add(self, value: int | RGB | str | None, meaning: int) -> None:
        if value is None:
            return
        if isinstance(value, int):
            before, what = self.values.setdefault(value, meaning), f"value {value}"
        elif isinstance(value, str):
            before, what = self.names.setdefault(value, meaning), f"name {value!r}"
        else:
            before, what = self.colors.setdefault(value, meaning), f"colour {list(value)}"
        if before != meaning:
            raise UserError(
                f"{self.path}: {what} is assigned to both {self._name(before)} and {self._name(meaning)}; remove one"
            )

    def _name(self, meaning: int) -> str:
        return repr(self.classes[meaning].name) if meaning < len(self.classes) else "void"


def _span(ids: Sequence[int]) -> str:
    whole = list(range(ids[0], ids[-1] + 1))
    return f"{ids[0]} to {ids[-1]}" if list(ids) == whole else ", ".join(map(str, ids))


def read_tool_entries(folder: Path) -> tuple[tuple[str, ...], list[Entry]] | None:
    """Return the class files of labelling tools in the dataset's folder or its subfolders, and the classes in them.

    Raises:
        UserError: a file is malformed, or two files contradict each other.
    """
    by_name: dict[str, list[Path]] = {}
    for place in (folder, *subfolders(folder)):
        for path in sorted(place.iterdir()):
            if is_class_file(path.name) and is_text_file(path):
                by_name.setdefault(path.name, []).append(path)
    found: dict[str, list[Entry]] = {}
    for name, paths in by_name.items():
        texts = {path: read_text(path) for path in paths}
        if len({text.strip() for text in texts.values()}) > 1:
            one, other, *_ = (path.relative_to(folder).as_posix() for path in paths)
            raise UserError(
                f"{folder}: {one} and {other} differ, but all parts must have the same classes: correct one"
            )
        found[name] = read_entries(paths[0], texts[paths[0]])
    names = sorted((name for name, entries in found.items() if entries), key=lambda name: _rank(found[name]))
    if not names:
        return None
    declared = {tuple(entry.name for entry in found[name] if not entry.is_void) for name in names}
    if len(declared) > 1:
        raise UserError(f"{folder}: {names[0]} and {names[1]} declare different classes: remove one, or add {FILES[0]}")
    files = tuple(path.relative_to(folder).as_posix() for path in by_name[names[0]])
    return files, found[names[0]]


def _rank(entries: Sequence[Entry]) -> int:
    """Return the sort key of a class file: files with colours come first, because they say most."""
    return 0 if any(entry.color for entry in entries) else 1


def _from_entries(folder: Path, files: tuple[str, ...], entries: Sequence[Entry]) -> Declared:
    named = [entry for entry in entries if not entry.is_void]
    path = folder / files[0]
    if not 2 <= len(named) <= 255:
        raise UserError(
            f"{path} names {len(named)} classes, but 2 to 255 are required: name all classes, including the background"
        )
    colors = class_colors([entry.name for entry in named], [entry.color for entry in named])
    classes = tuple(Class(name=entry.name, color=color) for entry, color in zip(named, colors, strict=True))
    found = _Meanings(path, classes)
    for row, entry in enumerate(entries):
        meaning = 255 if entry.is_void else named.index(entry)
        # A file with colours only may come with grey labels, whose values are then the row numbers.
        found.add(row if entry.value is None else entry.value, meaning)
        found.add(entry.color, meaning)
        found.names[entry.name] = meaning
    found.values.setdefault(255, 255)
    void = [entry.name for entry in entries if entry.is_void and (entry.value is not None or entry.color)]
    notes = (f"classes from {files[0]}", *(f"{name!r} is treated as void because of its name" for name in void))
    return Declared(classes, 255, found.values, found.colors, found.names, files=files, notes=notes)


def voc_color(value: int) -> RGB:
    """Return a colour of PASCAL VOC's colour map, which labelling tools use for classes of any name."""
    red = green = blue = 0
    for bit in range(7, -1, -1):
        red |= (value & 1) << bit
        green |= (value >> 1 & 1) << bit
        blue |= (value >> 2 & 1) << bit
        value >>= 3
    return red, green, blue


VOC = tuple(Class(name=name, color=voc_color(number)) for number, name in enumerate(_VOC_NAMES))
"""PASCAL VOC's 21 classes, including background."""

KNOWN = {"cityscapes": (CITYSCAPES, 255), "voc": (VOC, 255), "camvid": (CAMVID, 11)}
"""Classes and ignore index of well-known datasets, which `classes: cityscapes` in a class file refers to."""
