"""Recognise how a dataset lies in its folder, and read its lists.

    cityscapes-cps  config_new/{train,val,test}.txt, config_new/subset_train/train_aug_[un]labeled_1-8.txt …,
                    as the reference implementation of Cross Pseudo Supervision has them
    lists           train.txt, val.txt and, where there are, test.txt and unlabeled.txt, beside classes.json

A line of a list is `image label`, or `image` alone where there is no label. Names are relative to the folder.
"""

import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

from components.dataset.classes import CITYSCAPES, FILES, read_classes
from components.dataset.manifest import Lists, RatioLists, Sample
from components.dataset.ratio import parse_ratio, ratio_text
from components.errors import UserError

_CONFIG = "config_new"
_LABELED = re.compile(r"train_aug_labeled_([0-9]+)-([0-9]+)\.txt")


@dataclass(frozen=True)
class Layout:
    """A dataset that was found in a folder. Every file its lists name is there."""

    folder: Path
    name: str
    kind: str
    lists: Lists


def read_layout(folder: Path, name: str = "") -> Layout:
    """Read the dataset in `folder`, or in the one folder inside it, as archives often have it.

    Args:
        name: of the dataset; the folder's when not given.

    Raises:
        UserError: no known layout, or a list that is missing, malformed, or names a missing file.
    """
    root = _root(folder)
    dataset = _slug(name or root.name)
    if _is_cityscapes(root):
        return Layout(root, dataset, "cityscapes-cps", _cityscapes(root))
    return Layout(root, dataset, "lists", _plain(root))


def _root(folder: Path) -> Path:
    if not _has_lists(folder):
        inside = [path for path in folder.iterdir() if path.is_dir() and not path.name.startswith((".", "__"))]
        if len(inside) == 1 and _has_lists(inside[0]):
            return inside[0]
        raise UserError(
            f"dataset {folder} has no lists: add train.txt and val.txt (a line is `image label`), "
            f"or {_CONFIG}/val.txt and {_CONFIG}/subset_train/ as Cityscapes for CPS has them"
        )
    return folder


def _has_lists(folder: Path) -> bool:
    return _is_cityscapes(folder) or any((folder / f"{part}.txt").is_file() for part in ("train", "val"))


def _is_cityscapes(folder: Path) -> bool:
    return (folder / _CONFIG).is_dir()


def _slug(name: str) -> str:
    return re.sub(r"[^A-Za-z0-9._-]+", "-", name).strip("-.") or "dataset"


def _plain(root: Path) -> Lists:
    classes = read_classes(root)
    if classes is None:
        raise UserError(f"dataset {root} does not say its classes: add {FILES[0]} or {FILES[1]} beside train.txt")
    train = _read_list(root, "train.txt")
    unlabeled = [sample.image for sample in train if sample.label is None]
    if (root / "unlabeled.txt").is_file():
        unlabeled += [sample.image for sample in _read_list(root, "unlabeled.txt", labels=False)]
    return Lists(
        classes=classes[0],
        ignore_index=classes[1],
        train=tuple(sample for sample in train if sample.label is not None),
        val=_all_labeled(root, "val.txt"),
        test=_read_list(root, "test.txt") if (root / "test.txt").is_file() else (),
        unlabeled=tuple(dict.fromkeys(unlabeled)),
    )


def _cityscapes(root: Path) -> Lists:
    classes, ignore_index = read_classes(root) or (CITYSCAPES, 255)
    ratio_lists = dict(_ratio_lists(root))
    if (root / _CONFIG / "train.txt").is_file():
        train = _all_labeled(root, f"{_CONFIG}/train.txt")
    elif ratio_lists:
        # Without a complete list, the images known to have a label are those of the largest ratio.
        train = max((lists.labeled for lists in ratio_lists.values()), key=len)
    else:
        raise UserError(f"dataset {root} has no {_CONFIG}/train.txt and no lists in {_CONFIG}/subset_train")
    return Lists(
        classes=classes,
        ignore_index=ignore_index,
        train=train,
        val=_all_labeled(root, f"{_CONFIG}/val.txt"),
        test=_cityscapes_test(root),
        ratio_lists=ratio_lists,
    )


def _cityscapes_test(root: Path) -> tuple[Sample, ...]:
    """Without labels: Cityscapes keeps the truth of its test images to itself, and what is listed is void."""
    if not (root / _CONFIG / "test.txt").is_file():
        return ()
    return _read_list(root, f"{_CONFIG}/test.txt", labels=False)


def _ratio_lists(root: Path) -> Iterator[tuple[str, RatioLists]]:
    for path in sorted((root / _CONFIG / "subset_train").glob("train_aug_labeled_*.txt")):
        match = _LABELED.fullmatch(path.name)
        if match is None:
            continue
        folder = f"{_CONFIG}/subset_train"
        labeled = _all_labeled(root, f"{folder}/{path.name}")
        unlabeled = _read_list(root, f"{folder}/{path.name.replace('_labeled_', '_unlabeled_')}", labels=False)
        yield (
            ratio_text(parse_ratio(f"{match[1]}/{match[2]}")),
            RatioLists(labeled=labeled, unlabeled=tuple(sample.image for sample in unlabeled)),
        )


def _all_labeled(root: Path, name: str) -> tuple[Sample, ...]:
    samples = _read_list(root, name)
    for sample in samples:
        if sample.label is None:
            raise UserError(f"{root / name}: {sample.image} has no label; write `image label` on every line")
    if not samples:
        raise UserError(f"{root / name} is empty: write a line of `image label` for each image")
    return samples


def _read_list(root: Path, name: str, *, labels: bool = True) -> tuple[Sample, ...]:
    path = root / name
    try:
        lines = path.read_text(encoding="utf-8-sig").splitlines()
    except FileNotFoundError:
        raise UserError(f"dataset {root} has no {name}: add it, a line is `image label`") from None
    except (OSError, UnicodeDecodeError) as error:
        raise UserError(f"list {path} cannot be read: {error}") from None
    samples = []
    for number, line in enumerate(lines, start=1):
        if not line.strip():
            continue
        # A name may hold spaces where tabs separate, as in the reference's lists.
        fields = [field.strip() for field in line.strip().split("\t")] if "\t" in line.strip() else line.split()
        if len(fields) > 2:
            raise UserError(f"{path}:{number}: {len(fields)} names on a line; write `image label` or `image`")
        wanted = fields if labels else fields[:1]
        names = [_existing(root, field, f"{path}:{number}") for field in wanted]
        samples.append(Sample(image=names[0], label=names[1] if len(names) == 2 else None))
    return tuple(samples)


def _existing(root: Path, name: str, where: str) -> str:
    # The reference's lists begin names with a slash and mean the dataset's folder.
    relative = PurePosixPath(name.lstrip("/"))
    if ".." in relative.parts or not relative.parts:
        raise UserError(f"{where}: {name!r} leads out of the dataset's folder; names are relative to it")
    if not (root / relative).is_file():
        raise UserError(f"{where}: {name} does not exist in {root}; correct the line or add the file")
    return str(relative)
