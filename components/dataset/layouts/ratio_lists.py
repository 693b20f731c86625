"""A dataset's own splits for a ratio, as published with papers: 1_16/labeled.txt and 1_16/unlabeled.txt."""

import re
from collections.abc import Callable, Sequence
from pathlib import Path

from components.dataset.manifest import RatioLists, Sample
from components.errors import UserError
from components.labeled_ratio import parse_ratio, ratio_text

_RATIO = re.compile(r"([0-9]{1,9})[_-]([0-9]{1,9})")

ReadList = Callable[[str], tuple[Sample, ...]]


def ratio_list_files(root: Path, places: Sequence[str]) -> tuple[str, ...]:
    """Return the names of the lists that `read_ratio_lists` reads, relative to `root`."""
    found = (path for place in places for path in (root / place).glob("*/*labeled.txt"))
    return tuple(path.relative_to(root).as_posix() for path in found if _RATIO.fullmatch(path.parent.name))


def read_ratio_lists(
    root: Path, places: Sequence[str], train: Sequence[Sample], labeled: ReadList, images: ReadList
) -> dict[str, RatioLists]:
    """Return the splits by ratio, as "1/16". Without unlabeled.txt, the rest of `train` is unlabelled.

    Args:
        places: folders below the root that may contain 1_16/; "" is the root itself.
        labeled, images: functions that read a list by its name below the root; `images` leaves out the labels.

    Raises:
        UserError: a list is malformed, or two lists are for the same ratio.
    """
    found: dict[str, RatioLists] = {}
    for path in sorted(path for place in places for path in (root / place).glob("*/labeled.txt")):
        match = _RATIO.fullmatch(path.parent.name)
        if match is None:
            continue
        ratio = ratio_text(parse_ratio(f"{match[1]}/{match[2]}"))
        if ratio in found:
            raise UserError(f"dataset {root} has two lists for ratio {ratio}, one of them {path}: remove one")
        name = path.relative_to(root).parent
        own = labeled(f"{name}/labeled.txt")
        if (path.parent / "unlabeled.txt").is_file():
            rest = tuple(sample.image for sample in images(f"{name}/unlabeled.txt"))
        else:
            known = {sample.image for sample in own}
            rest = tuple(sample.image for sample in train if sample.image not in known)
        found[ratio] = RatioLists(labeled=own, unlabeled=rest)
    return found
