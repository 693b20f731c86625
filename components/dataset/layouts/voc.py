"""PASCAL VOC's folders: JPEGImages/<id>.jpg, SegmentationClass/<id>.png, lists of ids in ImageSets/Segmentation.

SegmentationClassAug, if present, adds the labels of the Semantic Boundaries Dataset. The training images are then those
in train_aug.txt, or all images with such a label except the validation images.

Converters and annotation tools write custom classes into the same folders. Such datasets include a file that declares
the classes, may use any image format, and may have a single list; then a tenth of its images is held out for val.
"""

from collections.abc import Iterable
from dataclasses import replace
from pathlib import Path, PurePosixPath

from components.dataset.classes import Declared, known_classes, read_classes
from components.dataset.layouts.files import SUFFIXES, pictures
from components.dataset.layouts.folders import hold_out_val
from components.dataset.layouts.lists import first_name, list_lines
from components.dataset.layouts.model import Layout, counted
from components.dataset.layouts.names import Part, part_of
from components.dataset.layouts.ratio_lists import ratio_list_files, read_ratio_lists
from components.dataset.manifest import Lists, Sample
from components.errors import UserError

_IMAGES, _LABELS, _MORE_LABELS, _SETS = "JPEGImages", "SegmentationClass", "SegmentationClassAug", "ImageSets"
_OWN = f"{_SETS}/Segmentation"
_MORE_TRAIN = ("SegmentationAug/train_aug.txt", "Segmentation/train_aug.txt", "Segmentation/trainaug.txt")
_ALL = ("trainval", "default", "all")
"""Names of lists that hold all labelled images."""
_SPLITS = ("splits", _OWN, f"{_SETS}/SegmentationAug")
_EXPLAINED = (
    ("*Annotations/*", "bounding boxes"),
    ("*SegmentationObject/*", "instance masks"),
    ("*SegmentationClassVisualization/*", "visualisations"),
    *((f"*{_SETS}/{task}/*", "lists of another task") for task in ("Main", "Layout", "Action")),
)


def matches(root: Path) -> bool:
    labels = any((root / name).is_dir() for name in (_LABELS, _MORE_LABELS))
    return (root / _IMAGES).is_dir() and (root / _SETS).is_dir() and labels


def read(root: Path, top: Path, name: str) -> Layout:
    found = _Voc(root, top)
    declared = read_classes(root) or known_classes("voc")
    train, val, test = found.train(), found.val(), found.test()
    note = f"training labels from {_MORE_LABELS}" if found.more else f"training labels from {_LABELS}"
    notes = [*declared.notes, note]
    held_out = not val
    if held_out:
        parts = hold_out_val(train)
        train, val = parts["train"], parts["val"]
        notes.append(f"no val list: held out {counted(len(val), 'images')}, chosen by a hash of their names")
    known = {sample.image for part in (train, val, test) for sample in part}
    lists = Lists(
        classes=declared.classes,
        ignore_index=declared.ignore_index,
        train=train,
        val=val,
        test=test,
        ratio_lists=read_ratio_lists(root, _SPLITS, train, found.labeled, found.images),
    )
    rest = tuple(image for image in pictures(found.base, found.name(_IMAGES)) if image not in known)
    return Layout(
        found.base,
        name,
        "voc",
        lists,
        replace(declared, files=tuple(map(found.name, declared.files))),
        read=(*found.read, *map(found.name, ratio_list_files(root, _SPLITS))),
        explained=(("*", "not needed"),) if _has_voc_classes(declared) else _EXPLAINED,
        pools={_IMAGES: rest} if rest else {},
        notes=tuple(notes),
        held_out=held_out,
    )


def _has_voc_classes(declared: Declared) -> bool:
    return declared.classes == known_classes("voc").classes


class _Voc:
    """Finds images, labels and lists by image id."""

    def __init__(self, root: Path, top: Path) -> None:
        self.root = root
        # The archive of SegmentationClassAug does not contain VOCdevkit/VOC2012, so it unpacks next to that.
        above = [root, *(path for path in root.parents if path.is_relative_to(top))]
        beside = next((path for path in above if (path / _MORE_LABELS).is_dir()), None)
        self.base = beside or root
        self.more = beside is not None
        self.read: set[str] = set()
        """Names of the lists that were read, relative to `base`."""
        self._by_id: dict[str, list[str]] = {}
        for image in pictures(root, _IMAGES):
            self._by_id.setdefault(PurePosixPath(image).stem, []).append(image)

    def name(self, *parts: str) -> str:
        return PurePosixPath(self.root.relative_to(self.base).as_posix(), *parts).as_posix()

    def labeled(self, name: str) -> tuple[Sample, ...]:
        """Read a list of ids or files below the root, with labels from the folder of the training labels."""
        return self._labeled(self._ids(name), _MORE_LABELS if self.more else self.name(_LABELS))

    def images(self, name: str) -> tuple[Sample, ...]:
        return tuple(Sample(image=self._image(identity, where)) for where, identity in self._ids(name))

    def train(self) -> tuple[Sample, ...]:
        if not self.more:
            return self._labeled(self._ids(self._train_list()), self.name(_LABELS))
        listed = next((path for path in _MORE_TRAIN if (self.root / _SETS / path).is_file()), None)
        if listed:
            return self._labeled(self._ids(f"{_SETS}/{listed}"), _MORE_LABELS)
        val = {identity for _, identity in self._ids(f"{_OWN}/val.txt")}
        everything = [(label, PurePosixPath(label).stem) for label in pictures(self.base, _MORE_LABELS)]
        return self._labeled([(where, each) for where, each in everything if each not in val], _MORE_LABELS)

    def val(self) -> tuple[Sample, ...]:
        """Return the validation samples; empty if the only list holds all labelled images."""
        if self._list("val") is None and self._everything():
            return ()
        own = (self.root / _LABELS).is_dir()
        return self._labeled(
            self._ids(self._list("val") or f"{_OWN}/val.txt"), self.name(_LABELS) if own else _MORE_LABELS
        )

    def test(self) -> tuple[Sample, ...]:
        listed = self._list("test")
        return self.images(listed) if listed else ()

    def _train_list(self) -> str:
        return self._list("train") or (not self._list("val") and self._everything()) or f"{_OWN}/train.txt"

    def _list(self, part: Part) -> str | None:
        """Return the name of a part's list in any spelling, or None."""
        found = [path for path in sorted((self.root / _OWN).glob("*.txt")) if part_of(path.stem) == part]
        if len(found) > 1:
            raise UserError(f"dataset {self.root} has two {part} lists, {found[0].name} and {found[1].name}: keep one")
        return f"{_OWN}/{found[0].name}" if found else None

    def _everything(self) -> str | None:
        """Return the name of a list that holds all labelled images, or None."""
        return next((f"{_OWN}/{name}.txt" for name in _ALL if (self.root / _OWN / f"{name}.txt").is_file()), None)

    def _labeled(self, ids: Iterable[tuple[str, str]], labels: str) -> tuple[Sample, ...]:
        return tuple(
            Sample(image=self._image(identity, where), label=self._existing(f"{labels}/{identity}.png", where))
            for where, identity in ids
        )

    def _ids(self, name: str) -> list[tuple[str, str]]:
        """Return (location, id) for each line, which may be `/JPEGImages/<id>.jpg /SegmentationClassAug/<id>.png`."""
        lines = list_lines(self.root, name)
        self.read.add(self.name(name))
        if not lines:
            raise UserError(f"{self.root / name} is empty: write one image id per line")
        return [(where, self._id(line)) for where, line in lines]

    def _id(self, line: str) -> str:
        """Return the whole line if it is the id of an image, else the stem of the first name on it."""
        if line in self._by_id:
            return line
        name = PurePosixPath(first_name(line).replace("\\", "/")).name
        stem, ending, suffix = name.rpartition(".")
        return stem if ending and f".{suffix.lower()}" in SUFFIXES else name

    def _image(self, identity: str, where: str) -> str:
        found = self._by_id.get(identity, [])
        if len(found) > 1:
            raise UserError(f"{where}: {found[0]} and {found[1]} share one label; keep one image")
        return self.name(found[0]) if found else self._existing(self.name(_IMAGES, f"{identity}.jpg"), where)

    def _existing(self, name: str, where: str) -> str:
        if not (self.base / name).is_file():
            raise UserError(f"{where}: {name} does not exist in {self.base}; correct the line or add the file")
        return name
