"""Cityscapes with the lists and splits of the reference implementation of Cross Pseudo Supervision."""

import re
from collections.abc import Iterator
from pathlib import Path

from components.dataset.classes import known_classes, read_classes
from components.dataset.layouts.lists import all_labeled, first_name, inside, list_lines, read_list
from components.dataset.layouts.model import Layout
from components.dataset.manifest import Lists, RatioLists, Sample
from components.errors import UserError
from components.labeled_ratio import parse_ratio, ratio_text

_CONFIG = "config_new"
_LABELED = re.compile(r"train_aug_labeled_([0-9]+)-([0-9]+)\.txt")


def matches(root: Path) -> bool:
    return (root / _CONFIG).is_dir()


def read(root: Path, _top: Path, name: str) -> Layout:
    declared = read_classes(root) or known_classes("cityscapes")
    ratio_lists = dict(_ratio_lists(root))
    if (root / _CONFIG / "train.txt").is_file():
        train = all_labeled(root, f"{_CONFIG}/train.txt")
    elif ratio_lists:
        # Without a complete list, only the images of the largest ratio are known to have a label.
        train = max((lists.labeled for lists in ratio_lists.values()), key=len)
    else:
        raise UserError(f"dataset {root} has no {_CONFIG}/train.txt and no lists in {_CONFIG}/subset_train")
    lists = Lists(
        classes=declared.classes,
        ignore_index=declared.ignore_index,
        train=train,
        val=all_labeled(root, f"{_CONFIG}/val.txt"),
        test=_test(root),
        ratio_lists=ratio_lists,
    )
    explained = ((f"{_CONFIG}/*", "lists of the reference implementation"), ("*", f"not in the lists of {_CONFIG}/"))
    return Layout(root, name, "cityscapes-cps", lists, declared, explained=explained, pools=dict(_pools(root)))


def _test(root: Path) -> tuple[Sample, ...]:
    """Return the test images without labels: Cityscapes withholds their ground truth, and the files are all void."""
    if not (root / _CONFIG / "test.txt").is_file():
        return ()
    return read_list(root, f"{_CONFIG}/test.txt", labels=False)


def _pools(root: Path) -> Iterator[tuple[str, tuple[str, ...]]]:
    # Every copy of the dataset includes these lists, but few include the images: check for them only on request.
    for path in sorted((root / _CONFIG / "coarse_split").glob("*.txt")):
        lines = list_lines(root, f"{_CONFIG}/coarse_split/{path.name}")
        yield path.stem, tuple(dict.fromkeys(str(inside(first_name(line), where)) for where, line in lines))


def _ratio_lists(root: Path) -> Iterator[tuple[str, RatioLists]]:
    for path in sorted((root / _CONFIG / "subset_train").glob("train_aug_labeled_*.txt")):
        match = _LABELED.fullmatch(path.name)
        if match is None:
            continue
        folder = f"{_CONFIG}/subset_train"
        labeled = all_labeled(root, f"{folder}/{path.name}")
        unlabeled = read_list(root, f"{folder}/{path.name.replace('_labeled_', '_unlabeled_')}", labels=False)
        yield (
            ratio_text(parse_ratio(f"{match[1]}/{match[2]}")),
            RatioLists(labeled=labeled, unlabeled=tuple(sample.image for sample in unlabeled)),
        )
