"""Recognise a dataset's layout and read its lists of samples.

    lists           train.txt, val.txt and optionally test.txt and unlabeled.txt, next to classes.yaml or classes.json
    cityscapes-cps  config_new/{train,val,test}.txt, config_new/subset_train/train_aug_[un]labeled_1-8.txt …,
                    as in the reference implementation of Cross Pseudo Supervision;
                    config_new/coarse_split/train_extra_3000.txt … are additional unlabelled pools
    voc             JPEGImages, SegmentationClass, ImageSets/Segmentation and optionally SegmentationClassAug
    cityscapes      leftImg8bit and gtFine with *_labelIds.png or *_labelTrainIds.png, as downloaded
    camvid          701_StillsRaw_full and LabeledApproved_full with colour masks, as downloaded; or SegNet's version:
                    train.txt, val.txt, test.txt with train/, trainannot/ …
    folders         images/ and labels/ side by side, with or without train/ and val/ inside; or train/, train_labels/;
                    or labels next to their images, as x_mask.png; many spellings are accepted
    coco, labelme, cvat
                    images with annotations instead of masks: COCO JSON, LabelMe JSON, CVAT XML

`lists` and `voc` may include their own split for a ratio: 1_16/labeled.txt and optionally 1_16/unlabeled.txt, next to
the lists or in splits/. Without unlabeled.txt, all other training images are unlabelled.

Each line of a list is `image label`, or just `image` if the image has no label. Names are relative to the folder.
"""

import os
import re
from collections.abc import Callable, Sequence
from dataclasses import replace
from itertools import islice
from pathlib import Path, PurePosixPath

from components.dataset.classes import FILES
from components.dataset.layouts import annotated, camvid, cityscapes, cityscapes_cps, folders, lists, voc
from components.dataset.layouts.account import account_lines, refuse_unused, unused, with_account
from components.dataset.layouts.files import files_below, subfolders
from components.dataset.layouts.model import Incomplete, Layout, Use, pools_text
from components.errors import UserError
from components.reading import PLACEHOLDER, placeholder_of, shown

__all__ = [
    "Incomplete",
    "Layout",
    "Use",
    "account_lines",
    "pool_names",
    "pools_text",
    "read_draft",
    "read_layout",
    "refuse_unused",
    "unused",
    "with_pools",
]

_DEPTH = 4
"""How many folder levels to search, counting the given one: VOC unpacks to VOCdevkit/VOC2012."""

_SEARCHED = 100_000
"""How many files to search for placeholders, since the folder may be any, such as the root."""

Reader = Callable[[Path, Path, str], Layout]

_LAYOUTS: tuple[tuple[Callable[[Path], bool], Reader], ...] = (
    (cityscapes_cps.matches, cityscapes_cps.read),
    (lists.matches_camvid, lists.read_camvid),
    (lists.matches_with_classes, lists.read),
    (voc.matches, voc.read),
    (cityscapes.matches, cityscapes.read),
    (camvid.matches, camvid.read),
    (lists.matches, lists.read),
    (annotated.matches, annotated.read),
    (folders.matches, folders.read),
)
_DRAFTS: dict[Reader, Reader] = {lists.read: lists.read_draft, folders.read: folders.read_draft}


def read_layout(folder: Path, name: str = "") -> Layout:
    """Read the dataset in `folder`, or in a subfolder, since archives often wrap their content in one.

    Args:
        name: dataset name; defaults to the folder's.

    Raises:
        UserError: no recognised layout, or several; a list is missing, malformed, or names a missing file; files are
            only in iCloud, or their names are not UTF-8.
    """
    try:
        root, read = _find(folder)
        layout = replace(read(root, folder, _slug(name or root.name)), top=folder)
    except UserError:
        _refuse_placeholders(folder)  # which would explain that something is missing
        raise
    _check_names(layout)
    return with_account(layout)


def _check_names(layout: Layout) -> None:
    """Raise UserError if a file name is not UTF-8."""
    for each in layout.lists.file_names():
        if shown(each) != each:
            raise UserError(
                f"{layout.folder}: the file name {shown(each)!r} is not UTF-8: rename it, for example with "
                "`convmv -f latin1 -t utf8 -r --notest FOLDER`"
            )


def _refuse_placeholders(folder: Path) -> None:
    """Raise UserError if the folder has files that iCloud has not downloaded."""
    for name in islice(files_below(folder, hidden=True, unreadable={}), _SEARCHED):
        if placeholder_of(PurePosixPath(name).name):
            raise UserError(f"{folder / name} is {PLACEHOLDER}")


def read_draft(folder: Path) -> Layout:
    """Read what is to become a dataset: a folder that may lack classes, validation images or lists.

    Several folders side by side, each with images and labels, are read as one dataset.

    Raises:
        UserError: as `read_layout`, except for these.
    """
    try:
        root, read = _find(folder)
        joined = False
    except _SeveralDatasets as error:
        if not error.joinable:
            raise
        root, read, joined = error.above, folders.read, True
    layout = _DRAFTS.get(read, read)(root, folder, _slug(root.name))
    _check_names(layout)
    return with_account(replace(layout, top=folder, joined=joined))


class _SeveralDatasets(Incomplete):
    """Several folders side by side are separate datasets."""

    remedy = "which makes them one dataset"

    def __init__(self, folder: Path, found: Sequence[tuple[Path, Reader]]) -> None:
        roots = list(dict.fromkeys(root for root, _ in found))
        named = " and ".join(str(root.relative_to(folder)) for root in roots)
        super().__init__(f"{folder} contains several datasets, {named}: pass the folder of one of them")
        self.above = Path(os.path.commonpath(roots))
        declared = any((root / name).is_file() for root in roots for name in FILES)
        self.joinable = not declared and all(read is folders.read for _, read in found)


def pool_names(text: str) -> list[str]:
    """Return the sorted, unique pool names in a comma-separated parameter."""
    return sorted(set(text.replace(",", " ").split()))


def with_pools(layout: Layout, names: Sequence[str]) -> Layout:
    """Return the layout with the named pools added to its unlabelled images and removed from `pools`.

    Raises:
        UserError: a pool does not exist, or one of its images is missing.
    """
    if not names:
        return layout
    images = dict.fromkeys(layout.lists.unlabeled)
    for name in names:
        pool = layout.pools.get(name)
        if pool is None:
            available = f"available pools: {', '.join(layout.pools)}" if layout.pools else "the dataset has no pools"
            raise UserError(f"dataset {layout.name} has no unlabelled pool {name!r}; {available}")
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
    subfolders(folder)  # which says if the folder cannot be read
    level = [folder]
    for _ in range(_DEPTH):
        # One folder may match several layouts; the first wins. Several folders are separate datasets.
        found = [(path, read) for path in level if (read := _reader(path))]
        if len(found) > 1:
            raise _SeveralDatasets(folder, found)
        if found:
            return found[0]
        level = [inside for path in level for inside in subfolders(path)]
    raise UserError(
        f"{folder} is not a recognised dataset layout: add train.txt and val.txt (one `image label` pair per line), or "
        "folders images/ and labels/; Cityscapes, Cityscapes for CPS (config_new/), PASCAL VOC and CamVid are read as "
        "downloaded, and COCO, LabelMe and CVAT annotations as exported"
    )


def _reader(folder: Path) -> Reader | None:
    return next((read for matches, read in _LAYOUTS if matches(folder)), None)


def _slug(name: str) -> str:
    return re.sub(r"[^A-Za-z0-9._-]+", "-", name).strip("-.") or "dataset"
