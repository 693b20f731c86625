"""CamVid as its authors distribute it: 701_StillsRaw_full/<frame>.png and LabeledApproved_full/<frame>_L.png.

The masks are coloured, and there are no lists. We use SegNet's split (Badrinarayanan et al., 2017), the one that papers
compare on: 367 training, 101 validation and 233 test frames. SegNet merges the original 31 classes into 11; everything
else is void.
"""

import re
from pathlib import Path

from components.dataset.classes import CAMVID, known_classes
from components.dataset.layouts.files import pictures
from components.dataset.layouts.model import Layout
from components.dataset.manifest import Lists, Sample
from components.errors import UserError

_IMAGES, _LABELS = "701_StillsRaw_full", "LabeledApproved_full"
VOID = 11
_FRAME = re.compile(r"(0001TP|0006R0|0016E5|Seq05VD)_f?([0-9]+)\.png")
_VAL = range(7959, 8160)
"""Frames of video 0016E5."""
_TEST_FROM = 8550
"""First test frame of video 0001TP; all of Seq05VD is for testing."""

_COLORS = {
    "sky": ((128, 128, 128),),
    "building": ((128, 0, 0), (192, 0, 128), (0, 128, 64), (64, 0, 64), (64, 192, 0)),
    "pole": ((192, 192, 128), (0, 0, 64)),
    "road": ((128, 64, 128), (128, 0, 192), (192, 0, 64)),
    "pavement": ((0, 0, 192), (64, 192, 128), (128, 128, 192)),
    "tree": ((128, 128, 0), (192, 192, 0)),
    "sign symbol": ((192, 128, 128), (128, 128, 64), (0, 64, 64)),
    "fence": ((64, 64, 128),),
    "car": ((64, 0, 128), (64, 128, 192), (192, 128, 192), (192, 64, 128), (128, 64, 64)),
    "pedestrian": ((64, 64, 0), (192, 128, 64), (64, 0, 192), (64, 128, 64)),
    "bicyclist": ((0, 128, 192), (192, 0, 192)),
}
"""The original colours merged into each class; `building`, for example, includes archways, bridges and tunnels."""

CAMVID_COLORS = {
    (0, 0, 0): VOID,
    **{color: number for number, entry in enumerate(CAMVID) for color in _COLORS[entry.name]},
}


def matches(root: Path) -> bool:
    return (root / _IMAGES).is_dir() and (root / _LABELS).is_dir()


def read(root: Path, _top: Path, name: str) -> Layout:
    parts: dict[str, list[Sample]] = {"train": [], "val": [], "test": []}
    for image in pictures(root, _IMAGES):
        label = f"{_LABELS}/{Path(image).stem}_L.png"
        if not (root / label).is_file():
            raise UserError(f"dataset {root}: {image} has no label {label}: unpack LabeledApproved_full.zip")
        parts[_part(root, image)].append(Sample(image=image, label=label))
    for part in ("train", "val"):
        if not parts[part]:
            raise UserError(f"dataset {root} has no {part} frames in {_IMAGES}: unpack 701_StillsRaw_full.zip")
    lists = Lists(
        classes=CAMVID,
        ignore_index=VOID,
        train=tuple(parts["train"]),
        val=tuple(parts["val"]),
        test=tuple(parts["test"]),
    )
    notes = ("colour masks, mapped to 11 classes; train, val and test as in SegNet",)
    declared, explained = known_classes("camvid"), (("*", "not needed"),)
    return Layout(root, name, "camvid", lists, declared, explained=explained, label_colors=CAMVID_COLORS, notes=notes)


def _part(root: Path, image: str) -> str:
    match = _FRAME.fullmatch(Path(image).name)
    if match is None:
        raise UserError(f"dataset {root}: {image} is not a frame of CamVid's four videos: remove it")
    video, frame = match[1], int(match[2])
    if video == "Seq05VD" or (video == "0001TP" and frame >= _TEST_FROM):
        return "test"
    return "val" if video == "0016E5" and frame in _VAL else "train"
