"""Recognise how a dataset lies in its folder, and read its lists.

    lists           train.txt, val.txt and, where there are, test.txt and unlabeled.txt, beside classes.yaml or .json
    cityscapes-cps  config_new/{train,val,test}.txt, config_new/subset_train/train_aug_[un]labeled_1-8.txt …,
                    as the reference implementation of Cross Pseudo Supervision has them;
                    config_new/coarse_split/train_extra_3000.txt … are further unlabelled pools
    voc             JPEGImages, SegmentationClass, ImageSets/Segmentation and, where there is, SegmentationClassAug
    cityscapes      leftImg8bit and gtFine with *_labelIds.png or *_labelTrainIds.png, as downloaded
    camvid          701_StillsRaw_full and LabeledApproved_full, colour masks, as downloaded; or, as SegNet has it,
                    train.txt, val.txt, test.txt with train/, trainannot/ …
    folders         images/ and labels/ side by side, with train/ and val/ in them or without; or train/, train_labels/;
                    or labels beside their images, as x_mask.png; under many spellings

Lists and VOC may bring their own split for a ratio: 1_16/labeled.txt and, where not all others are meant,
1_16/unlabeled.txt, beside the lists or in splits/.

A line of a list is `image label`, or `image` alone where there is no label. Names are relative to the folder.
"""

import re
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path

from components.dataset.layouts import camvid, cityscapes, cityscapes_cps, folders, lists, voc
from components.dataset.layouts.account import account_lines, refuse_unused, unused, with_account
from components.dataset.layouts.files import subfolders
from components.dataset.layouts.model import Layout, Use, pools_text
from components.errors import UserError

__all__ = [
    "Layout",
    "Use",
    "account_lines",
    "pool_names",
    "pools_text",
    "read_layout",
    "refuse_unused",
    "unused",
    "with_pools",
]

_DEPTH = 4
"""Levels of folders that are looked into, the one given among them: VOC comes as VOCdevkit/VOC2012."""

Reader = Callable[[Path, Path, str], Layout]

_LAYOUTS: tuple[tuple[Callable[[Path], bool], Reader], ...] = (
    (cityscapes_cps.is_there, cityscapes_cps.read),
    (lists.is_camvid, lists.read_camvid),
    (lists.is_described, lists.read),
    (voc.is_there, voc.read),
    (cityscapes.is_there, cityscapes.read),
    (camvid.is_there, camvid.read),
    (lists.is_there, lists.read),
    (folders.is_there, folders.read),
)


def read_layout(folder: Path, name: str = "") -> Layout:
    """Read the dataset in `folder`, or in the one folder inside it that has one, as archives often do.

    Args:
        name: of the dataset; the folder's when not given.

    Raises:
        UserError: no known layout, several, or a list that is missing, malformed, or names a missing file.
    """
    root, read = _find(folder)
    return with_account(replace(read(root, folder, _slug(name or root.name)), top=folder))


def pool_names(text: str) -> list[str]:
    """The names of pools as a parameter has them, separated by commas; each once."""
    return sorted(set(text.replace(",", " ").split()))


def with_pools(layout: Layout, names: Sequence[str]) -> Layout:
    """The layout with the images of these pools among its unlabelled ones; its pools are then the others.

    Raises:
        UserError: there is no such pool, or an image of it is missing.
    """
    if not names:
        return layout
    images = dict.fromkeys(layout.lists.unlabeled)
    for name in names:
        pool = layout.pools.get(name)
        if pool is None:
            there = f"there are {', '.join(layout.pools)}" if layout.pools else "it has none"
            raise UserError(f"dataset {layout.name} has no unlabelled pool {name!r}: {there}")
        for image in pool:
            if not (layout.folder / image).is_file():
                raise UserError(f"pool {name} of dataset {layout.name}: {image} does not exist in {layout.folder}")
        images |= dict.fromkeys(pool)
    known = {sample.image for part in (layout.lists.train, layout.lists.val, layout.lists.test) for sample in part}
    unlabeled = tuple(image for image in images if image not in known)
    others = {name: pool for name, pool in layout.pools.items() if name not in names}
    lists = layout.lists.model_copy(update={"unlabeled": unlabeled})
    return with_account(replace(layout, lists=lists, pools=others))


def _find(folder: Path) -> tuple[Path, Reader]:
    level = [folder]
    for _ in range(_DEPTH):
        found = [(path, read) for path in level for is_there, read in _LAYOUTS if is_there(path)]
        # Of several layouts that one folder has, the first counts; several folders are two datasets.
        roots = list(dict.fromkeys(path for path, _ in found))
        if len(roots) > 1:
            raise UserError(
                f"{folder} has several datasets, {' and '.join(str(root.relative_to(folder)) for root in roots)}: "
                "give the folder of one of them"
            )
        if found:
            return found[0]
        level = [inside for path in level for inside in subfolders(path)]
    raise UserError(
        f"{folder} is no dataset that is known: add train.txt and val.txt (a line is `image label`), or folders "
        "images/ and labels/; Cityscapes, Cityscapes for CPS (config_new/), PASCAL VOC and CamVid are taken as they are"
    )


def _slug(name: str) -> str:
    return re.sub(r"[^A-Za-z0-9._-]+", "-", name).strip("-.") or "dataset"
