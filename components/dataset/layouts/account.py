"""Account for every file in a dataset's folder: what it is used for, or why it is not used.

An unused image, label or list is worth a warning. If its folder or list is named like a part of the dataset, it is an
error: somebody set these validation images aside on purpose, and silently dropping them would change the result.
"""

import os
import re
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from fnmatch import fnmatchcase
from pathlib import Path, PurePosixPath
from typing import Literal

from components.dataset.class_files import is_class_file
from components.dataset.classes import FILES
from components.dataset.layouts.files import CONVERT, files_below, is_hidden, is_picture, read_text
from components.dataset.layouts.lists import SUFFIXES as LIST_SUFFIXES
from components.dataset.layouts.model import Layout, Use, counted
from components.dataset.layouts.names import (
    Part,
    is_named_like_a_part,
    is_other,
    label_stems,
    part_of,
    parts_in,
    role_of,
)
from components.errors import UserError
from components.reading import PLACEHOLDER, placeholder_of, shown

_STRUCTURED = (".json", ".jsonl", ".yaml", ".yml")
_TEXTS = (*LIST_SUFFIXES, *_STRUCTURED, "")
_TOKEN = re.compile(r"[^\s\"'\[\]{},:]+")
"""A word in a structured text: a name, a key or a value."""
_COLUMN = re.compile(r"is_?(val|valid|validation|train|test)|split|fold|subset|partition")
_RATIO = re.compile(r"[0-9]{1,9}[_-][0-9]{1,9}")
_LIST_BYTES = 20 << 20
"""Larger text files are not considered lists."""
_READ_AS_LISTS = "it assigns images to parts; convert it to train.txt and val.txt with one `image label` pair per line"
_ARCHIVES = frozenset({".zip", ".tar", ".gz", ".tgz", ".zst", ".7z", ".rar"})
_ANNOTATIONS = frozenset({".json", ".xml", ".npy", ".npz", ".mat"})
_UNREAD = frozenset(CONVERT) | {".jp2", ".tga"}


@dataclass(frozen=True)
class _Kind:
    """The purpose of a file; `place` is the folder to report it under, if not its own."""

    what: str
    state: Literal["used", "explained", "unused", "refused"]
    why: str = ""
    place: str = ""


def with_account(layout: Layout) -> Layout:
    """Return the layout with `account` filled in for every file below the folder that the user gave."""
    return replace(layout, account=tuple(_account(layout, layout.top or layout.folder)))


def unused(layout: Layout, state: str) -> list[Use]:
    """Return the account's entries in `state`: `unused` (worth a warning) or `refused` (an error)."""
    return [use for use in layout.account if use.state == state]


def refuse_unused(layout: Layout) -> None:
    """Raise UserError if files named like a part of the dataset are not used."""
    for use in unused(layout, "refused"):
        raise UserError(f"dataset {layout.origin or layout.folder}: {use.text()}")


def account_lines(account: Sequence[Use]) -> list[str]:
    """Return the account as one or two lines of text: the used files, then those that are safe to ignore and why."""
    used, explained = (_grouped(account, state) for state in ("used", "explained"))
    lines = [f"used: {', '.join(_line(what, uses) for (what, _), uses in sorted(used.items(), key=_order))}"]
    if explained:
        texts = [_line(what, uses) + (f": {why}" if why else "") for (what, why), uses in explained.items()]
        lines.append(f"not used: {'; '.join(texts)}")
    return lines


def _grouped(account: Sequence[Use], state: str) -> dict[tuple[str, str], list[Use]]:
    groups: dict[tuple[str, str], list[Use]] = {}
    for use in account:
        if use.state == state:
            groups.setdefault((use.what, use.why), []).append(use)
    return groups


def _order(group: tuple[tuple[str, str], list[Use]]) -> tuple[int, str]:
    what = group[0][0]
    parts = ("train", "val", "test", "unlabelled", "list", "class")
    return next((place for place, part in enumerate(parts) if what.startswith(part)), len(parts)), what


def _line(what: str, uses: Sequence[Use]) -> str:
    """Return, for example, `2,975 train images (leftImg8bit/train/)`."""
    number = sum(use.files for use in uses)
    places = [use.place for use in uses]
    place = places[0] if len(places) == 1 else os.path.commonpath([os.path.dirname(each) or "." for each in places])
    text = what if what == "classes" else counted(number, what)
    return text + (f" ({place})" if place not in ("", ".", "./") else "")


def _account(layout: Layout, top: Path) -> Iterator[Use]:
    prefix = layout.folder.relative_to(top).as_posix()
    names = _Names(layout, top, "" if prefix == "." else f"{prefix}/")
    loops: list[str] = []
    files = list(files_below(top, hidden=True, loops=loops))
    names.find_used_folders(files)
    groups: dict[_Kind, list[str]] = {}
    for name in files:
        kind = names.kind(PurePosixPath(name))
        groups.setdefault(replace(kind, place=kind.place or str(PurePosixPath(name).parent)), []).append(name)
    order = ("refused", "unused", "used", "explained")
    for kind, found in sorted(groups.items(), key=lambda item: order.index(item[0].state)):
        if len(found) == 1 and not kind.place.endswith(PurePosixPath(found[0]).name):
            place = found[0]
        else:
            place = kind.place if kind.place == found[0] else f"{kind.place}/"
        yield Use(shown(place), len(found), kind.what, kind.state, shown(PurePosixPath(found[0]).name), kind.why)
    for link in loops:
        yield Use(shown(link), 1, "link", "explained", why="points to a folder that contains it")


class _Names:
    """Classifies file names by how the layout's lists use them."""

    def __init__(self, layout: Layout, top: Path, prefix: str) -> None:
        self.layout, self.top, self.prefix = layout, top, prefix
        self.uses: dict[str, str] = {}
        lists = layout.lists
        for part, samples in (("train", lists.train), ("val", lists.val), ("test", lists.test)):
            for sample in samples:
                bare = part == "test" and sample.label is None
                self._add(sample.image, "test images without labels, for prediction" if bare else f"{part} images")
                if sample.label:
                    self._add(sample.label, f"{part} labels")
        for own in lists.ratio_lists.values():
            for sample in own.labeled:
                self._add(sample.image, "train images")
                if sample.label:
                    self._add(sample.label, "train labels")
            for image in own.unlabeled:
                self._add(image, "unlabelled images")
        for image in lists.unlabeled:
            self._add(image, "unlabelled images")
        self.pools = {self.prefix + image: name for name, images in layout.pools.items() for image in images}
        self.stems: dict[str, set[str]] = {}
        for name, use in self.uses.items():
            if "labels" not in use:
                self.stems.setdefault(PurePosixPath(name).stem, set()).add(use)
        self.folders: set[PurePosixPath] = set()
        self.annotations = layout.drawing.files if layout.drawing else frozenset[str]()
        self.has_lists = layout.kind != "folders" and layout.drawing is None

    def _add(self, name: str, use: str) -> None:
        self.uses.setdefault(self.prefix + name, use)

    def find_used_folders(self, files: Iterable[str]) -> None:
        """Record every folder that contains a used image, at any depth."""
        for name in files:
            if name in self.uses or name in self.pools:
                self.folders.update(PurePosixPath(name).parents)

    def kind(self, path: PurePosixPath) -> _Kind:
        name = str(path)
        if name in self.uses:
            return _Kind(self.uses[name], "used")
        if name in self.pools:
            return _Kind("images", "explained", f"unlabelled pool {self.pools[name]} (add it with --pools)")
        own = name.removeprefix(self.prefix)
        if own in self.layout.read:
            return _Kind("lists", "used")
        if own in self.layout.declared.files:
            return _Kind("classes", "used")
        if own in self.annotations:
            return _Kind("annotation files", "used")
        if placeholder_of(path.name):
            return _Kind("files", "refused", PLACEHOLDER)
        if any(is_hidden(part) for part in path.parts):
            return _Kind("hidden files", "explained", place=".")
        why = next((why for pattern, why in self.layout.explained if fnmatchcase(own, pattern)), None)
        if why is not None:
            return _Kind("files", "explained", why)
        return self._unused(path)

    def _unused(self, path: PurePosixPath) -> _Kind:
        if is_picture(path.name):
            return self._unused_picture(path)
        if path.name in FILES or is_class_file(path.name):
            return _Kind("classes", "explained", f"{self._classes()} takes precedence")
        if path.suffix.lower() in _TEXTS and (kind := self._unread_list(path)):
            return kind
        if path.suffix.lower() in _UNREAD:
            return _Kind(
                f"{path.suffix[1:].upper()} files", "unused", CONVERT.get(path.suffix.lower(), "convert them to PNG")
            )
        if path.suffix.lower() in _ARCHIVES:
            return _Kind("archives", "unused", "unpack them, or pass them as additional sources")
        if path.suffix.lower() in _ANNOTATIONS:
            return _Kind(f"{path.suffix[1:].upper()} files", "explained", "labels are read from image files only")
        return _Kind("other files", "explained")

    def _unused_picture(self, path: PurePosixPath) -> _Kind:
        roles = [role for part in path.parts[:-1] if (role := role_of(part))]
        if is_other(path) or (roles and roles[-1] == "other"):
            return _Kind("pictures", "explained", "instance masks or visualisations")
        what = "labels" if roles and roles[-1] == "label" else "images"
        dropped = [
            folder for folder in path.parents if is_named_like_a_part(folder.name) and folder not in self.folders
        ]
        if dropped:
            return _Kind(what, "refused", self._folder_advice(dropped[-1]), str(dropped[-1]))
        if what == "labels":
            return _Kind(what, "unused", "no used image has a matching name")
        if not roles and self.layout.kind == "folders" and any(stem in self.stems for stem in label_stems(path)):
            return _Kind(what, "unused", self._sibling_advice(path.parent))
        if not self.has_lists:
            return _Kind(what, "unused", "they belong to no part; move them to a train, val, test or unlabeled folder")
        return _Kind(what, "unused", "no list names them; add them to a list, such as unlabeled.txt")

    def _unread_list(self, path: PurePosixPath) -> _Kind | None:
        """Classify a text file that assigns images to parts but is not read; return None for other texts.

        A list whose images are all used in the part it is named after adds nothing, and is not reported.
        """
        try:
            text = read_text(self.top / path) if (self.top / path).stat().st_size <= _LIST_BYTES else ""
        except (OSError, UserError):
            text = ""
        structured = path.suffix.lower() in _STRUCTURED
        lines = _TOKEN.findall(text) if structured else [line.strip() for line in text.splitlines() if line.strip()]
        used = [use for line in lines if (use := self._use_of(line, whole=structured))]
        named = parts_in(path.stem)
        if named and used and not all(self._is_of(use, named) for use in used):
            return _Kind("list", "refused", self._list_advice(), str(path))
        if len(used) > 1 and (structured or path.suffix.lower() in LIST_SUFFIXES) and _assigns_parts(lines):
            return _Kind("list", "refused", _READ_AS_LISTS, str(path))
        if _RATIO.fullmatch(path.parent.name) and path.stem.lower() in ("labeled", "unlabeled"):
            return _Kind("list", "refused", "ratio lists need train.txt and val.txt; add these", str(path))
        if structured or path.suffix.lower() not in LIST_SUFFIXES or len(used) == len(lines):
            return None
        if named and (used or any(map(_names_picture, lines)) or all(len(line.split()) == 1 for line in lines)):
            return _Kind("list", "refused", self._list_advice(), str(path))
        listed = all(_names_picture(line) or self._use_of(line) for line in lines)
        return _Kind("list", "unused", self._list_advice(), str(path)) if listed else None

    def _use_of(self, line: str, *, whole: bool = False) -> set[str]:
        """Return the uses of the image that a line names; for a bare stem, the uses of every image with that stem."""
        names = [line] if whole else [line, *re.split(r"[\t,;| ]+", line)]
        return next((use for name in names if (use := self._used_as(name.strip().strip("\"'")))), set())

    def _used_as(self, name: str) -> set[str]:
        path = PurePosixPath(name.replace("\\", "/").lstrip("/"))
        use = self.uses.get(self.prefix + str(path))
        return {use} if use else self.stems.get(path.stem, set()) if len(path.parts) == 1 else set()

    def _is_of(self, uses: set[str], parts: set[Part]) -> bool:
        words = tuple("unlabelled" if part == "unlabeled" else part for part in parts)
        return any(use.startswith(words) for use in uses)

    def _folder_advice(self, folder: PurePosixPath) -> str:
        away = "or move it out of the dataset"
        if not self.has_lists:
            return f"rename {folder.name} to train, val, test or unlabeled, {away}"
        return f"add its images to a list, such as unlabeled.txt, {away}"

    def _sibling_advice(self, folder: PurePosixPath) -> str:
        return (
            "their names match images whose labels are elsewhere; if these are the labels, rename "
            f"{folder.name} to labels, and move the others out of the dataset"
        )

    def _list_advice(self) -> str:
        listed = ", ".join(self.layout.read)
        if listed:
            return f"the dataset is read from {listed}; remove this list, or merge it into one of those"
        return "the dataset is read from its folders; move the lists of all parts next to them as train.txt and val.txt"

    def _classes(self) -> str:
        files = self.layout.declared.files
        return files[0] if files else "the layout's own classes"


def _assigns_parts(lines: Sequence[str]) -> bool:
    """Return whether lines or words assign images to parts, as in `000.jpg,train` or a column `is_valid`."""
    fields = [field.strip("\"' ").lower() for line in lines for field in re.split(r"[\t,;| ]+", line)]
    parts = {part for field in fields if field.isalpha() and (part := part_of(field))}
    return len(parts) > 1 or any(map(_COLUMN.fullmatch, fields))


def _names_picture(line: str) -> bool:
    return any(is_picture(field.strip("\"' ")) for field in re.split(r"[\t,;| ]+", line))
