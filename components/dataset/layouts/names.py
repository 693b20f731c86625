"""What the names of folders and files say: images or labels, and of which part.

Datasets spell the same things differently: `val`, `Valid` or `validation_images`; `masks`, `ann_dir` or
`SegmentationClass`; `x_mask.png`, `mask_x.png` or `x.jpg.png` for the label of `x.jpg`.
"""

import re
import unicodedata
from pathlib import PurePosixPath
from typing import Literal

Part = Literal["train", "val", "test", "unlabeled"]
Role = Literal["image", "label", "other"]

PARTS: tuple[Part, ...] = ("train", "val", "test", "unlabeled")

_WORDS: dict[Part, str] = {
    "train": "train training trn",
    "val": "val valid validation validate validating dev eval evaluation",
    "test": "test testing tst",
    "unlabeled": "unlabeled unlabelled unlabel unlabell unannotated nolabel nolabels",
}
_PART_WORDS = {word: part for part, text in _WORDS.items() for word in text.split()}


def _words(text: str) -> frozenset[str]:
    return frozenset(text.split())


_IMAGE_WORDS = _words(
    "image images img imgs picture pictures photo photos photograph photographs jpegimages leftimg8bit rgb frames "
    "input inputs"
)
_LABEL_WORDS = _words(
    "label labels mask masks annotation annotations annot annots ann anns anno annos segmentation segmentations seg "
    "segs segmap segmaps gt gts groundtruth groundtruths gtfine segmentationclass segmentationclassaug "
    "segmentationclasspng segmentationclassraw target targets"
)
_OTHER_WORDS = _words(
    "instance instances instanceids panoptic segmentationobject visualization visualizations visualisation "
    "visualisations viz vis overlay overlays preview previews thumb thumbs thumbnail thumbnails "
    "segmentationclassvisualization segmentationclassnpy"
)
"""Folders of what is neither a photograph nor a label of classes."""
_FILLERS = _words("dir folder set split data dataset png jpg semantic class classes ids list lists txt files")

# Longer endings first: of x_gtFine_labelIds the stem is x.
_LABEL_ENDINGS = (
    "gtfine_labeltrainids|gtfine_labelids|labeltrainids|labelids|trainids|ground_truth|groundtruth|segmentation|"
    "annotations|annotation|annot|labels|label|masks|mask|seg|gt|l"
)
_LABEL_STARTS = "mask|label|gt|seg|annotation"
_IMAGE_ENDINGS = "leftimg8bit|image|img|rgb|sat|photo"
_OTHER_ENDINGS = ("_instanceids", "_instancetrainids", "_gtfine_color", "_gtfine_instanceids", "_panoptic")

_ENDING = re.compile(rf"(?P<stem>.+?)[_.\- ](?:{_LABEL_ENDINGS})", re.IGNORECASE)
_START = re.compile(rf"(?:{_LABEL_STARTS})[_.\- ](?P<stem>.+)", re.IGNORECASE)
_IMAGE_ENDING = re.compile(rf"(?P<stem>.+?)[_.\- ](?:{_IMAGE_ENDINGS})", re.IGNORECASE)
_PICTURE_SUFFIX = re.compile(r"\.(?:png|jpe?g|jpe|jfif|bmp|tiff?|webp)$", re.IGNORECASE)


def words(name: str) -> list[str]:
    """The lower-case words of a folder's name, split at what is no letter: `train_images-2` is train, images."""
    return [word for word in re.split(r"[^a-z]+", name.lower()) if word]


def part_of(name: str) -> Part | None:
    """The part that a folder or a list is named after, as in `Valid`, `train_images`, `trainannot`; else None."""
    found = {_PART_WORDS[word] for word in _spoken(name) if word in _PART_WORDS}
    known = all(word in _PART_WORDS or _is_role(word) or word in _FILLERS for word in _spoken(name))
    if found == {"train", "unlabeled"}:
        return "unlabeled" if known else None
    return found.pop() if len(found) == 1 and known else None


def is_named_like_a_part(name: str) -> bool:
    """Whether some word of the name is a part's, as in `val_hard`: a folder that must not be dropped in silence."""
    return any(word in _PART_WORDS for word in _spoken(name))


def parts_in(name: str) -> set[Part]:
    """The parts that some word of a name says: train and val for trainval."""
    return {_PART_WORDS[word] for word in _spoken(name) if word in _PART_WORDS}


def role_of(name: str) -> Role | None:
    """What a folder of this name has in it; None where the name does not say."""
    spoken = [*_spoken(name), "".join(words(name)), name.lower()]
    if any(word in _OTHER_WORDS for word in spoken):
        return "other"
    if any(word in _LABEL_WORDS for word in spoken):
        return "label"
    return "image" if any(word in _IMAGE_WORDS for word in spoken) else None


def residue(name: str) -> str:
    """What a folder's name says beyond role and part: `2` of imgs2; all of a name that says neither."""
    if role_of(name) is None and part_of(name) is None:
        return name
    match = re.search(r"[0-9]+$", name)
    return match[0] if match else ""


def label_stems(path: PurePosixPath) -> list[str]:
    """The stems that the image of a label may have, the likeliest first: `x` for x_mask.png, mask_x.png, x.jpg.png."""
    stem = unicodedata.normalize("NFC", path.stem)  # a Mac writes accents apart from their letters
    found = [stem]
    for text in (stem, _PICTURE_SUFFIX.sub("", stem)):
        found.append(text)
        for pattern in (_ENDING, _START):
            if match := pattern.fullmatch(text):
                found.append(_PICTURE_SUFFIX.sub("", match["stem"]))
    return list(dict.fromkeys(found))


def image_stems(path: PurePosixPath) -> list[str]:
    """The stems by which labels may name an image: its own, and that without `_image`, `_leftImg8bit` …"""
    stem = unicodedata.normalize("NFC", path.stem)
    match = _IMAGE_ENDING.fullmatch(stem)
    return [stem, match["stem"]] if match else [stem]


def is_other(path: PurePosixPath) -> bool:
    """Whether a file's name says that it holds instances, or colours for people to look at."""
    return path.stem.lower().endswith(_OTHER_ENDINGS)


def _is_role(word: str) -> bool:
    return word in _IMAGE_WORDS or word in _LABEL_WORDS


def _spoken(name: str) -> list[str]:
    """The words of a name; one that joins two that are known, as trainannot and trainval do, as these two."""
    found: list[str] = []
    for word in words(name):
        halves = ((word[:place], word[place:]) for place in range(2, len(word) - 1))
        joined = next((pair for pair in halves if _joins(*pair)), None)
        found += [word] if _is_role(word) or word in _PART_WORDS or joined is None else joined
    return found


def _joins(first: str, second: str) -> bool:
    one, other = first in _PART_WORDS, second in _PART_WORDS
    return (one and (other or _is_role(second) or second in _FILLERS)) or (other and _is_role(first))
