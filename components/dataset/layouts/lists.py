"""Lists of `image label` lines: our own layout, those of other trainers, and SegNet's version of CamVid.

A list is named after its part: train.txt, val_list.txt, validation.txt, unlabelled.csv. It is in the dataset's folder,
or in lists/ or splits/. A tab, comma, semicolon, | or space separates the two names on a line.
"""

import os
import posixpath
import re
import unicodedata
from collections.abc import Callable, Iterator, Sequence
from functools import partial
from pathlib import Path, PurePosixPath

from components.dataset.classes import FILES, UNDECLARED, Declared, known_classes, read_classes
from components.dataset.layouts.files import is_text_file, read_text
from components.dataset.layouts.folders import Pairs, find_pairs
from components.dataset.layouts.model import Incomplete, Layout
from components.dataset.layouts.names import PARTS, Part, part_of
from components.dataset.layouts.ratio_lists import ratio_list_files, read_ratio_lists
from components.dataset.manifest import Lists, Sample
from components.errors import UserError
from components.reading import open_file

SUFFIXES = (".txt", ".lst", ".csv", ".tsv")
_PLACES = ("", "lists", "list", "splits", "split", "ImageSets", "ImageSets/Segmentation")
_RATIO_PLACES = ("", "splits")
_SEPARATORS = ("\t", ",", "|", ";")
_OURS = ("train.txt", "val.txt", "test.txt", "unlabeled.txt")
_ABSOLUTE = re.compile(r"/|[A-Za-z]:[\\/]")
_HEADER = re.compile(r"(image|img|label|mask|annotation)s?(_path|_file|_name)?|file_?name|file", re.IGNORECASE)

_SUFFIX = re.compile(r"\.[A-Za-z0-9]{2,5}$")

Existing = Callable[[Path, str, str], str]


def matches(root: Path) -> bool:
    return bool({"train", "val"} & find_lists(root).keys())


def matches_with_classes(root: Path) -> bool:
    """Return whether lists and classes are both in the folder: a declaration overrides a well-known layout."""
    return bool({"train", "val"} & _lists_in(root, "").keys()) and any((root / name).is_file() for name in FILES)


def matches_camvid(root: Path) -> bool:
    train, val = (root / f"{part}.txt" for part in ("train", "val"))
    return (train.is_file() or val.is_file()) and all((root / f"{part}annot").is_dir() for part in ("train", "val"))


def read(root: Path, _top: Path, name: str) -> Layout:
    found = find_lists(root)
    declared = read_classes(root)
    if declared is None:
        listed = found.get("train") or found["val"]
        raise Incomplete(f"dataset {root} declares no classes: add {FILES[0]} or {FILES[1]} next to {listed}")
    for part in ("train", "val"):
        if part not in found:
            raise Incomplete(f"dataset {root} has no {part}.txt: add it with one `image label` pair per line")
    return _read(root, name, "lists", found, declared, _Finder(root))


def read_draft(root: Path, _top: Path, name: str) -> Layout:
    """Read a dataset that may declare no classes, and may have a list for training only."""
    found = find_lists(root)
    if "train" not in found:
        raise UserError(f"dataset {root} has no train.txt: add it with one `image label` pair per line")
    return _read(
        root, name, "lists", found, read_classes(root) or UNDECLARED, _Finder(root), held_out="val" not in found
    )


def read_camvid(root: Path, _top: Path, name: str) -> Layout:
    declared = read_classes(root) or known_classes("camvid")
    found = {part_of(PurePosixPath(each).stem): each for each in _OURS if (root / each).is_file()}
    return _read(root, name, "camvid", {part: each for part, each in found.items() if part}, declared, _Finder(root))


def find_lists(root: Path) -> dict[Part, str]:
    """Return each part's list, by its name relative to the folder. Raises UserError if a part has two."""
    for place in _PLACES:
        if found := _lists_in(root, place):
            return found
    return {}


def _lists_in(root: Path, place: str) -> dict[Part, str]:
    found: dict[Part, str] = {}
    folder = root / place
    if not folder.is_dir():
        return {}
    for path in sorted(folder.iterdir()):
        part = part_of(path.stem) if path.suffix.lower() in SUFFIXES else None
        if part is None or not is_text_file(path):
            continue
        name = path.relative_to(root).as_posix()
        if part in found:
            raise UserError(f"dataset {root} has two lists of {part} images, {found[part]} and {name}: keep one")
        found[part] = name
    return found if {"train", "val"} & found.keys() else {}


def _read(
    root: Path,
    name: str,
    kind: str,
    found: dict[Part, str],
    declared: Declared,
    finder: "_Finder",
    *,
    held_out: bool = False,
) -> Layout:
    parts = {part: finder.samples(found[part], labels=part != "unlabeled") for part in PARTS if part in found}
    train, val = parts.get("train", ()), parts.get("val", ())
    if not any(sample.label for sample in (*train, *val)):
        train, val = finder.paired(train), finder.paired(val)
    if not held_out:
        _check_labeled(root / found.get("val", "val.txt"), val)
    train, val = _deduplicated(root, train), _deduplicated(root, val)
    _deduplicated(root, (*train, *val))
    labeled = [sample for sample in train if sample.label is not None]
    unlabeled = [sample.image for sample in (*train, *parts.get("unlabeled", ())) if sample.label is None]
    lists = Lists(
        classes=declared.classes,
        ignore_index=declared.ignore_index,
        train=tuple(labeled),
        val=val,
        test=parts.get("test", ()),
        unlabeled=tuple(dict.fromkeys(unlabeled)),
        ratio_lists=read_ratio_lists(
            root,
            _RATIO_PLACES,
            labeled,
            lambda each: all_labeled(root, each, find=finder),
            lambda each: read_list(root, each, labels=False, find=finder),
        ),
    )
    if not labeled:
        raise UserError(f"dataset {root}: no image in {found['train']} has a label; write `image label` on each line")
    return Layout(
        root,
        name,
        kind,
        lists,
        declared,
        read=(*found.values(), *ratio_list_files(root, _RATIO_PLACES)),
        notes=(*declared.notes, *finder.notes()),
        held_out=held_out,
    )


class _Finder:
    """Resolves the names in lists, as people and scripts write them, to files below the dataset's folder."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self._elsewhere = ""
        self._list_folder = ""
        self._paired = False
        self._by_stem: dict[str, list[str]] | None = None
        self._found: Pairs | None = None

    def __call__(self, root: Path, name: str, where: str) -> str:
        """Return a file's name relative to the root. Raises UserError if it does not exist or is outside the root."""
        return self.found(name) or self.stem(name) or existing(root, name, where)

    @property
    def lookups(self) -> tuple[Callable[[str], object], ...]:
        """Lookups for `line_names`, in order: complete names before the ends of absolute names from another machine."""
        return partial(self.found, whole=True), self.found

    def found(self, name: str, *, whole: bool = False) -> str | None:
        """Return the name of an existing file relative to the root, or None.

        An absolute name may come from another machine, so its end may match a file here, unless `whole` is set.
        """
        for spelled in self._spellings(name):
            parts = PurePosixPath(self._below(spelled).lstrip("/")).parts
            if not parts or ".." in parts:
                continue
            if (self.root / PurePosixPath(*parts)).is_file():
                return str(PurePosixPath(*parts))
            if whole or not _ABSOLUTE.match(spelled):
                continue
            for start in range(1, len(parts)):
                if (self.root / PurePosixPath(*parts[start:])).is_file():
                    self._elsewhere = self._elsewhere or name
                    return str(PurePosixPath(*parts[start:]))
        return None

    def _spellings(self, name: str) -> Iterator[str]:
        """Yield variants of a name: as written, with / for \\, in Unicode's forms, relative to the list's folder."""
        forward = name.replace("\\", "/")
        beside = posixpath.normpath(posixpath.join(self._list_folder, forward))
        yield from dict.fromkeys((name, forward, *(unicodedata.normalize(form, forward) for form in ("NFC", "NFD"))))
        if self._list_folder and not beside.startswith(".."):
            yield beside

    def samples(self, name: str, *, labels: bool) -> tuple[Sample, ...]:
        """Read the samples of a list."""
        self._list_folder = posixpath.dirname(name)
        return read_list(self.root, name, labels=labels, find=self)

    def paired(self, samples: Sequence[Sample]) -> tuple[Sample, ...]:
        """Return the images with labels of matching names, for lists that name no labels at all."""
        labels = self._pairs.labels
        self._paired = self._paired or any(sample.image in labels for sample in samples)
        return tuple(Sample(image=sample.image, label=labels.get(sample.image)) for sample in samples)

    def stem(self, name: str) -> str | None:
        """Return the image with this stem; None if the name has a suffix, or not exactly one image matches."""
        if _SUFFIX.search(name):
            return None
        if self._by_stem is None:
            self._by_stem = {}
            for image in self._pairs.images:
                self._by_stem.setdefault(PurePosixPath(image).stem, []).append(image)
                self._by_stem.setdefault(str(PurePosixPath(image).with_suffix("")), []).append(image)
        found = set(self._by_stem.get(name, ()))
        return found.pop() if len(found) == 1 else None

    def notes(self) -> tuple[str, ...]:
        found = []
        if self._elsewhere:
            found.append(
                f"the lists' paths, such as {self._elsewhere}, do not exist here: matched by the end of the path"
            )
        if self._paired:
            found.append("the lists name images only; labels are matched by file name")
            found += self._pairs.notes
        return tuple(found)

    def _below(self, name: str) -> str:
        """Return an absolute name below the dataset's folder relative to it; other names unchanged."""
        roots = (f"{self.root}/", f"{self.root.resolve()}/")
        return next((name.removeprefix(root) for root in roots if name.startswith(root)), name)

    @property
    def _pairs(self) -> Pairs:
        if self._found is None:
            self._found = find_pairs(self.root)
        return self._found


def existing(root: Path, name: str, where: str) -> str:
    """Return a file's name relative to the root. Raises UserError if it does not exist or is outside the root."""
    # In the lists of the reference implementation, a leading slash means the dataset's folder.
    relative = inside(name, where)
    if not (root / relative).is_file():
        raise _missing(root / relative, f"{where}: {name}", root)
    return str(relative)


def _missing(path: Path, named: str, root: Path) -> UserError:
    """Return the error for a name in a list that leads to no file, which may be a broken link or a pipe."""
    if os.path.lexists(path):
        try:
            open_file(path).close()
        except OSError as error:
            return UserError(f"{named} cannot be read: {error.strerror}")
    return UserError(f"{named} does not exist in {root}; correct the line or add the file")


def inside(name: str, where: str) -> PurePosixPath:
    relative = PurePosixPath(name.lstrip("/"))
    if ".." in relative.parts or not relative.parts:
        raise UserError(f"{where}: {name!r} points outside the dataset's folder; write a path relative to it")
    return relative


def all_labeled(root: Path, name: str, *, find: Existing = existing) -> tuple[Sample, ...]:
    samples = read_list(root, name, find=find)
    _check_labeled(root / name, samples)
    return samples


def _deduplicated(root: Path, samples: Sequence[Sample]) -> tuple[Sample, ...]:
    """Drop repeated samples. Raises UserError if an image has two labels, or a label two images."""
    labels: dict[str, str] = {}
    images: dict[str, str] = {}
    for sample in samples:
        if sample.label is None:
            continue
        if labels.setdefault(sample.image, sample.label) != sample.label:
            raise UserError(
                f"dataset {root}: the lists pair {sample.image} with two labels, {labels[sample.image]} and "
                f"{sample.label}; keep one"
            )
        if images.setdefault(sample.label, sample.image) != sample.image:
            raise UserError(
                f"dataset {root}: the lists pair {sample.label} with two images, {images[sample.label]} and "
                f"{sample.image}; keep one"
            )
    return tuple(dict.fromkeys(samples))


def _check_labeled(path: Path, samples: Sequence[Sample]) -> None:
    for sample in samples:
        if sample.label is None:
            raise UserError(f"{path}: {sample.image} has no label; write `image label` on every line")
    if not samples:
        raise UserError(f"{path} is empty: write one `image label` pair per line")


def read_list(root: Path, name: str, *, labels: bool = True, find: Existing = existing) -> tuple[Sample, ...]:
    samples = []
    lines = list_lines(root, name)
    if lines and all(_HEADER.fullmatch(field) for field in next(_splits(lines[0][1]))):
        del lines[0]
    for where, line in lines:
        fields = line_names(line, where, *(find.lookups if isinstance(find, _Finder) else ()))
        names = [find(root, each, where) for each in (fields if labels else fields[:1])]
        samples.append(Sample(image=names[0], label=names[1] if len(names) == 2 else None))
    return tuple(samples)


def list_lines(root: Path, name: str) -> list[tuple[str, str]]:
    """Return (location, text) for each line, without blank lines and comments, which begin with #."""
    path = root / name
    try:
        lines = read_text(path).splitlines()
    except FileNotFoundError:
        raise UserError(f"dataset {root} has no {name}: add it with one `image label` pair per line") from None
    except OSError as error:
        raise UserError(f"list {path} cannot be read: {error.strerror}") from None
    return [
        (f"{path}:{number}", line.strip())
        for number, line in enumerate(lines, start=1)
        if line.strip() and not line.startswith("#")
    ]


def first_name(line: str) -> str:
    """Return the first name on a line."""
    return next(_splits(line))[0]


def line_names(line: str, where: str, *lookups: Callable[[str], object]) -> list[str]:
    """Return the one or two names on a line, split so that the files exist if that is possible.

    Args:
        lookups: functions that return something truthy if a file exists; a later one is used if the earlier find none.

    Raises:
        UserError: several ways of splitting the line name existing files, or the line has more than two names.
    """
    splits = [list(names) for names in dict.fromkeys(map(tuple, _splits(line)))]
    for number, exists in enumerate(lookups):
        # A line may be one name with spaces. Only the first lookup may accept that, because a lookup by the end of
        # the path would also match a line of two names.
        tried = [[line], *(names for names in splits if names != [line])] if number == 0 else splits
        working = [names for names in tried if all(map(exists, names))]
        if len(working) > 1:
            raise UserError(f"{where}: {line!r} matches several pairs of files; separate the two names with a tab")
        if working:
            return working[0]
    if len(splits[0]) > 2:
        raise UserError(
            f"{where}: {len(splits[0])} names on one line; write `image label` or `image`, and separate the two names "
            "with a tab if one contains spaces"
        )
    return splits[0]


def _splits(line: str) -> Iterator[list[str]]:
    """Yield ways to split a line into names, likeliest first; all after the first give two names."""
    separator = next((each for each in _SEPARATORS if each in line), None)
    if separator is not None:
        yield [field.strip().strip("\"'") for field in line.split(separator) if field.strip()]
    else:
        yield line.split()
    spaces = [match.span() for match in re.finditer(r"\s+", line)]
    for start, end in spaces:
        if separator is None and len(spaces) > 1:
            yield [line[:start], line[end:]]
