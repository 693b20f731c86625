"""PASCAL VOC: JPEGImages/<id>.jpg, SegmentationClass/<id>.png, lists of ids in ImageSets/Segmentation.

SegmentationClassAug, where it is there, has the labels of the Semantic Boundaries Dataset on top: with it the
training images are those of train_aug.txt, or all it has but the validation images.
"""

from collections.abc import Iterable
from pathlib import Path, PurePosixPath

from components.dataset.classes import VOC, read_classes
from components.dataset.layouts.files import pictures
from components.dataset.layouts.lists import list_lines
from components.dataset.layouts.model import Layout
from components.dataset.layouts.ratio_lists import own_ratio_lists
from components.dataset.manifest import Lists, Sample
from components.errors import UserError

_IMAGES, _LABELS, _MORE_LABELS, _SETS = "JPEGImages", "SegmentationClass", "SegmentationClassAug", "ImageSets"
_MORE_TRAIN = ("SegmentationAug/train_aug.txt", "Segmentation/train_aug.txt", "Segmentation/trainaug.txt")

_SPLITS = ("splits", f"{_SETS}/Segmentation", f"{_SETS}/SegmentationAug")


def is_there(root: Path) -> bool:
    labels = any((root / name).is_dir() for name in (_LABELS, _MORE_LABELS))
    return (root / _IMAGES).is_dir() and (root / _SETS).is_dir() and labels


def read(root: Path, top: Path, name: str) -> Layout:
    found = _Voc(root, top)
    classes, ignore_index = read_classes(root) or (VOC, 255)
    train, val, test = found.train(), found.val(), found.test()
    known = {sample.image for part in (train, val, test) for sample in part}
    lists = Lists(
        classes=classes,
        ignore_index=ignore_index,
        train=train,
        val=val,
        test=test,
        ratio_lists=own_ratio_lists(root, _SPLITS, train, found.labeled, found.images),
    )
    rest = tuple(image for image in pictures(found.base, found.name(_IMAGES)) if image not in known)
    note = f"training labels from {_MORE_LABELS}" if found.more else f"training labels from {_LABELS}"
    return Layout(found.base, name, "voc", lists, pools={_IMAGES: rest} if rest else {}, notes=(note,))


class _Voc:
    """Files by their ids."""

    def __init__(self, root: Path, top: Path) -> None:
        self.root = root
        # The archive of SegmentationClassAug knows nothing of VOCdevkit/VOC2012, and lands beside it.
        above = [root, *(path for path in root.parents if path.is_relative_to(top))]
        beside = next((path for path in above if (path / _MORE_LABELS).is_dir()), None)
        self.base = beside or root
        self.more = beside is not None

    def name(self, *parts: str) -> str:
        return PurePosixPath(self.root.relative_to(self.base).as_posix(), *parts).as_posix()

    def labeled(self, name: str) -> tuple[Sample, ...]:
        """A list below the root, of ids or of files, with labels from where the training's are."""
        return self._labeled(self._ids(name), _MORE_LABELS if self.more else self.name(_LABELS))

    def images(self, name: str) -> tuple[Sample, ...]:
        return tuple(Sample(image=self._there(self._image(identity), where)) for where, identity in self._ids(name))

    def train(self) -> tuple[Sample, ...]:
        if not self.more:
            return self._labeled(self._ids(f"{_SETS}/Segmentation/train.txt"), self.name(_LABELS))
        listed = next((path for path in _MORE_TRAIN if (self.root / _SETS / path).is_file()), None)
        if listed:
            return self._labeled(self._ids(f"{_SETS}/{listed}"), _MORE_LABELS)
        val = {identity for _, identity in self._ids(f"{_SETS}/Segmentation/val.txt")}
        all_of_it = [(label, PurePosixPath(label).stem) for label in pictures(self.base, _MORE_LABELS)]
        return self._labeled([(where, each) for where, each in all_of_it if each not in val], _MORE_LABELS)

    def val(self) -> tuple[Sample, ...]:
        own = (self.root / _LABELS).is_dir()
        return self._labeled(self._ids(f"{_SETS}/Segmentation/val.txt"), self.name(_LABELS) if own else _MORE_LABELS)

    def test(self) -> tuple[Sample, ...]:
        if not (self.root / _SETS / "Segmentation/test.txt").is_file():
            return ()
        return self.images(f"{_SETS}/Segmentation/test.txt")

    def _labeled(self, ids: Iterable[tuple[str, str]], labels: str) -> tuple[Sample, ...]:
        return tuple(
            Sample(
                image=self._there(self._image(identity), where),
                label=self._there(f"{labels}/{identity}.png", where),
            )
            for where, identity in ids
        )

    def _ids(self, name: str) -> list[tuple[str, str]]:
        """Where each line is, and its id; some lists have `/JPEGImages/<id>.jpg /SegmentationClassAug/<id>.png`."""
        lines = list_lines(self.root, name)
        if not lines:
            raise UserError(f"{self.root / name} is empty: a line is the id of an image")
        return [(where, PurePosixPath(fields[0]).name.removesuffix(".jpg")) for where, fields in lines]

    def _image(self, identity: str) -> str:
        return self.name(_IMAGES, f"{identity}.jpg")

    def _there(self, name: str, where: str) -> str:
        if not (self.base / name).is_file():
            raise UserError(f"{where}: {name} does not exist in {self.base}; correct the line or add the file")
        return name
