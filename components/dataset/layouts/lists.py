"""Lists of `image label` lines: our own plain layout, those of other trainers, and CamVid as SegNet has it.

A list is called by its part: train.txt, val_list.txt, validation.txt, unlabelled.csv. It lies beside the images' and
labels' folders, or in lists/ or splits/. Tabs, commas, | or spaces separate the two names of a line.
"""

import posixpath
import re
import unicodedata
from collections.abc import Callable, Iterator, Sequence
from functools import partial
from pathlib import Path, PurePosixPath

from components.dataset.classes import FILES, Declared, known_classes, read_classes
from components.dataset.layouts.files import read_text
from components.dataset.layouts.folders import Pairs, find_pairs
from components.dataset.layouts.model import Layout
from components.dataset.layouts.names import PARTS, Part, part_of
from components.dataset.layouts.ratio_lists import own_ratio_lists, ratio_list_files
from components.dataset.manifest import Lists, Sample
from components.errors import UserError

SUFFIXES = (".txt", ".lst", ".csv", ".tsv")
_PLACES = ("", "lists", "list", "splits", "split", "ImageSets", "ImageSets/Segmentation")
_RATIO_PLACES = ("", "splits")
_SEPARATORS = ("\t", ",", "|", ";")
_OURS = ("train.txt", "val.txt", "test.txt", "unlabeled.txt")
_ABSOLUTE = re.compile(r"/|[A-Za-z]:[\\/]")
_HEADER = re.compile(r"(image|img|label|mask|annotation)s?(_path|_file|_name)?|file_?name|file", re.IGNORECASE)

_SUFFIX = re.compile(r"\.[A-Za-z0-9]{2,5}$")

Existing = Callable[[Path, str, str], str]


def is_there(root: Path) -> bool:
    return bool({"train", "val"} & find_lists(root).keys())


def is_described(root: Path) -> bool:
    """Lists with their classes: somebody's own word, which counts more than a well-known layout beside it."""
    return bool({"train", "val"} & _lists_in(root, "").keys()) and any((root / name).is_file() for name in FILES)


def is_camvid(root: Path) -> bool:
    train, val = (root / f"{part}.txt" for part in ("train", "val"))
    return (train.is_file() or val.is_file()) and all((root / f"{part}annot").is_dir() for part in ("train", "val"))


def read(root: Path, _top: Path, name: str) -> Layout:
    found = find_lists(root)
    declared = read_classes(root)
    if declared is None:
        beside = found.get("train") or found["val"]
        raise UserError(f"dataset {root} does not say its classes: add {FILES[0]} or {FILES[1]} beside {beside}")
    for part in ("train", "val"):
        if part not in found:
            raise UserError(f"dataset {root} has no {part}.txt: add it, a line is `image label`")
    return _read(root, name, "lists", found, declared, _Finder(root))


def read_camvid(root: Path, _top: Path, name: str) -> Layout:
    declared = read_classes(root) or known_classes("camvid")
    found = {part_of(PurePosixPath(each).stem): each for each in _OURS if (root / each).is_file()}
    return _read(root, name, "camvid", {part: each for part, each in found.items() if part}, declared, _Finder(root))


def find_lists(root: Path) -> dict[Part, str]:
    """The lists of a dataset by part, as names from its folder. Raises UserError where a part has two."""
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
        part = part_of(path.stem) if path.suffix.lower() in SUFFIXES and path.is_file() else None
        if part is None:
            continue
        name = path.relative_to(root).as_posix()
        if part in found:
            raise UserError(f"dataset {root} has two lists of {part} images, {found[part]} and {name}: keep one")
        found[part] = name
    return found if {"train", "val"} & found.keys() else {}


def _read(root: Path, name: str, kind: str, found: dict[Part, str], declared: Declared, finder: "_Finder") -> Layout:
    parts = {part: finder.samples(found[part], labels=part != "unlabeled") for part in PARTS if part in found}
    train, val = parts.get("train", ()), parts.get("val", ())
    if not any(sample.label for sample in (*train, *val)):
        train, val = finder.paired(train), finder.paired(val)
    _check_labeled(root / found.get("val", "val.txt"), val)
    train, val = _once(root, train), _once(root, val)
    _once(root, (*train, *val))
    labeled = [sample for sample in train if sample.label is not None]
    unlabeled = [sample.image for sample in (*train, *parts.get("unlabeled", ())) if sample.label is None]
    lists = Lists(
        classes=declared.classes,
        ignore_index=declared.ignore_index,
        train=tuple(labeled),
        val=val,
        test=parts.get("test", ()),
        unlabeled=tuple(dict.fromkeys(unlabeled)),
        ratio_lists=own_ratio_lists(
            root,
            _RATIO_PLACES,
            labeled,
            lambda each: all_labeled(root, each, find=finder),
            lambda each: read_list(root, each, labels=False, find=finder),
        ),
    )
    if not labeled:
        raise UserError(f"dataset {root}: no image of {found['train']} has a label; write `image label` on a line")
    return Layout(
        root,
        name,
        kind,
        lists,
        declared,
        read=(*found.values(), *ratio_list_files(root, _RATIO_PLACES)),
        notes=(*declared.notes, *finder.notes()),
    )


class _Finder:
    """Files that lists name: below the dataset's folder, by names as people and scripts write them."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self._elsewhere = ""
        self._list_folder = ""
        self._paired = False
        self._by_stem: dict[str, list[str]] | None = None
        self._found: Pairs | None = None

    def __call__(self, root: Path, name: str, where: str) -> str:
        """The name below the root. Raises UserError where there is no such file, or it lies elsewhere."""
        return self.found(name) or self.stem(name) or existing(root, name, where)

    @property
    def there(self) -> tuple[Callable[[str], object], ...]:
        """For `line_names`: a name from here counts before the end of one from elsewhere."""
        return partial(self.found, whole=True), self.found

    def found(self, name: str, *, whole: bool = False) -> str | None:
        """The name of an existing file below the root, or None.

        An absolute name may be that of another machine: its end counts, unless `whole` asks for all of it.
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
        """A name as it is, and as it may be meant: with other slashes, in Unicode's forms, from the list's folder."""
        forward = name.replace("\\", "/")
        beside = posixpath.normpath(posixpath.join(self._list_folder, forward))
        yield from dict.fromkeys((name, forward, *(unicodedata.normalize(form, forward) for form in ("NFC", "NFD"))))
        if self._list_folder and not beside.startswith(".."):
            yield beside

    def samples(self, name: str, *, labels: bool) -> tuple[Sample, ...]:
        """The images of a list, with their labels."""
        self._list_folder = posixpath.dirname(name)
        return read_list(self.root, name, labels=labels, find=self)

    def paired(self, samples: Sequence[Sample]) -> tuple[Sample, ...]:
        """The same images with the labels of their names, for lists that name no label at all."""
        labels = self._pairs.labels
        self._paired = self._paired or any(sample.image in labels for sample in samples)
        return tuple(Sample(image=sample.image, label=labels.get(sample.image)) for sample in samples)

    def stem(self, name: str) -> str | None:
        """The image of a name that is a stem alone; None unless exactly one image has it."""
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
                f"lists name files from elsewhere, such as {self._elsewhere}: found here by the end of the name"
            )
        if self._paired:
            found.append("lists name images alone; labels are those of the same names")
        return tuple(found)

    def _below(self, name: str) -> str:
        """The name from the dataset's folder, where it is an absolute one below it."""
        roots = (f"{self.root}/", f"{self.root.resolve()}/")
        return next((name.removeprefix(root) for root in roots if name.startswith(root)), name)

    @property
    def _pairs(self) -> Pairs:
        if self._found is None:
            self._found = find_pairs(self.root)
        return self._found


def existing(root: Path, name: str, where: str) -> str:
    """The name of a file below the root. UserError where there is none, or it lies elsewhere."""
    # The reference's lists begin names with a slash and mean the dataset's folder.
    relative = inside(name, where)
    if not (root / relative).is_file():
        raise UserError(f"{where}: {name} does not exist in {root}; correct the line or add the file")
    return str(relative)


def inside(name: str, where: str) -> PurePosixPath:
    relative = PurePosixPath(name.lstrip("/"))
    if ".." in relative.parts or not relative.parts:
        raise UserError(f"{where}: {name!r} leads out of the dataset's folder; names are relative to it")
    return relative


def all_labeled(root: Path, name: str, *, find: Existing = existing) -> tuple[Sample, ...]:
    samples = read_list(root, name, find=find)
    _check_labeled(root / name, samples)
    return samples


def _once(root: Path, samples: Sequence[Sample]) -> tuple[Sample, ...]:
    """The samples without repeated lines. Raises UserError for an image with two labels, or a label of two images."""
    labels: dict[str, str] = {}
    images: dict[str, str] = {}
    for sample in samples:
        if sample.label is None:
            continue
        if labels.setdefault(sample.image, sample.label) != sample.label:
            raise UserError(
                f"dataset {root}: lists give {sample.image} two labels, {labels[sample.image]} and {sample.label}"
            )
        if images.setdefault(sample.label, sample.image) != sample.image:
            raise UserError(
                f"dataset {root}: lists give {images[sample.label]} and {sample.image} one label, {sample.label}"
            )
    return tuple(dict.fromkeys(samples))


def _check_labeled(path: Path, samples: Sequence[Sample]) -> None:
    for sample in samples:
        if sample.label is None:
            raise UserError(f"{path}: {sample.image} has no label; write `image label` on every line")
    if not samples:
        raise UserError(f"{path} is empty: write a line of `image label` for each image")


def read_list(root: Path, name: str, *, labels: bool = True, find: Existing = existing) -> tuple[Sample, ...]:
    samples = []
    lines = list_lines(root, name)
    if lines and all(_HEADER.fullmatch(field) for field in next(_splits(lines[0][1]))):
        del lines[0]
    for where, line in lines:
        fields = line_names(line, where, *(find.there if isinstance(find, _Finder) else ()))
        names = [find(root, each, where) for each in (fields if labels else fields[:1])]
        samples.append(Sample(image=names[0], label=names[1] if len(names) == 2 else None))
    return tuple(samples)


def list_lines(root: Path, name: str) -> list[tuple[str, str]]:
    """Where each line is, and what it says; comments, which begin with #, left out."""
    path = root / name
    try:
        lines = read_text(path).splitlines()
    except FileNotFoundError:
        raise UserError(f"dataset {root} has no {name}: add it, a line is `image label`") from None
    except OSError as error:
        raise UserError(f"list {path} cannot be read: {error.strerror}") from None
    return [
        (f"{path}:{number}", line.strip())
        for number, line in enumerate(lines, start=1)
        if line.strip() and not line.startswith("#")
    ]


def first_name(line: str) -> str:
    """The first of a line's names."""
    return next(_splits(line))[0]


def line_names(line: str, where: str, *there: Callable[[str], object]) -> list[str]:
    """The one or two names of a line: parted so that the files are there, where that can be done in one way.

    Args:
        there: says of a name whether there is such a file; a later one counts where an earlier one finds none.

    Raises:
        UserError: it can be done in two ways, or the line has more names.
    """
    splits = [list(names) for names in dict.fromkeys(map(tuple, _splits(line)))]
    for number, is_there in enumerate(there):
        # A line of two names may end as some file does: as one name, all of it must be there.
        tried = [[line], *(names for names in splits if names != [line])] if number == 0 else splits
        working = [names for names in tried if all(map(is_there, names))]
        if len(working) > 1:
            raise UserError(f"{where}: {line!r} can be read as two pairs of files; separate the two names by a tab")
        if working:
            return working[0]
    if len(splits[0]) > 2:
        raise UserError(
            f"{where}: {len(splits[0])} names on a line; write `image label` or `image`, with a tab between them "
            "where a name has spaces"
        )
    return splits[0]


def _splits(line: str) -> Iterator[list[str]]:
    """The ways to part a line, the likeliest first; two names each from the second on."""
    separator = next((each for each in _SEPARATORS if each in line), None)
    if separator is not None:
        yield [field.strip().strip("\"'") for field in line.split(separator) if field.strip()]
    else:
        yield line.split()
    spaces = [match.span() for match in re.finditer(r"\s+", line)]
    for start, end in spaces:
        if separator is None and len(spaces) > 1:
            yield [line[:start], line[end:]]
