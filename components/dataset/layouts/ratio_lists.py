"""A dataset's own splits by ratio, as semi-supervised methods hand them on: 1_16/labeled.txt and 1_16/unlabeled.txt."""

import re
from collections.abc import Callable, Sequence
from pathlib import Path

from components.dataset.manifest import RatioLists, Sample
from components.errors import UserError
from components.labeled_ratio import parse_ratio, ratio_text

_RATIO = re.compile(r"([0-9]{1,9})[_-]([0-9]{1,9})")

ReadList = Callable[[str], tuple[Sample, ...]]


def ratio_list_files(root: Path, places: Sequence[str]) -> tuple[str, ...]:
    """The names of the lists that `own_ratio_lists` reads."""
    found = (path for place in places for path in (root / place).glob("*/*labeled.txt"))
    return tuple(path.relative_to(root).as_posix() for path in found if _RATIO.fullmatch(path.parent.name))


def own_ratio_lists(
    root: Path, places: Sequence[str], train: Sequence[Sample], labeled: ReadList, images: ReadList
) -> dict[str, RatioLists]:
    """By ratio, as "1/16". Without unlabeled.txt the rest of `train` is unlabelled.

    Args:
        places: folders below the root that may have 1_16/ in them; "" is the root.
        labeled, images: read a list by its name below the root; `images` leaves the labels out.

    Raises:
        UserError: a list is wrong, or two are for one ratio.
    """
    found: dict[str, RatioLists] = {}
    for path in sorted(path for place in places for path in (root / place).glob("*/labeled.txt")):
        match = _RATIO.fullmatch(path.parent.name)
        if match is None:
            continue
        ratio = ratio_text(parse_ratio(f"{match[1]}/{match[2]}"))
        if ratio in found:
            raise UserError(f"dataset {root} has two lists for ratio {ratio}, one of them {path}: take one out")
        name = path.relative_to(root).parent
        own = labeled(f"{name}/labeled.txt")
        if (path.parent / "unlabeled.txt").is_file():
            rest = tuple(sample.image for sample in images(f"{name}/unlabeled.txt"))
        else:
            known = {sample.image for sample in own}
            rest = tuple(sample.image for sample in train if sample.image not in known)
        found[ratio] = RatioLists(labeled=own, unlabeled=rest)
    return found
