"""Derive from folder and file names whether they hold images or labels, and of which part.

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
    "unlabeled": "unlabeled unlabelled unlabel unlabell unannotated nolabel nolabels notlabeled notlabelled "
    "withoutlabel withoutlabels",
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
    "segmentationclasspng segmentationclassraw target targets manual manuals"
)
_SEMANTIC_WORDS = _words("semantic semantics labelids trainids labeltrainids")
_TRUTH_WORDS = _words("gt gts groundtruth groundtruths manual manuals")
_MASK_WORDS = _words("mask masks")
_BESIDE_WORDS = _words(
    "color colors colour colours colored coloured rgb colormap fov roi rois aoi edge edges boundary boundaries contour "
    "contours border borders weight weights confidence"
)
"""Words for pictures that accompany labels: colourings, fields of view, outlines."""
_OTHER_WORDS = _words(
    "instance instances instanceids panoptic segmentationobject visualization visualizations visualisation "
    "visualisations viz vis overlay overlays preview previews thumb thumbs thumbnail thumbnails "
    "segmentationclassvisualization segmentationclassnpy"
)
"""Folders that hold neither photographs nor semantic labels."""
_FILLERS = _words("dir folder set split data dataset png jpg semantic class classes ids list lists txt files")

# Longer endings come first, so that the stem of x_gtFine_labelIds is x.
_LABEL_ENDINGS = (
    "gtfine_labeltrainids|gtfine_labelids|labeltrainids|labelids|trainids|ground_truth|groundtruth|segmentation|"
    "annotations|annotation|annot|labels|label|masks|mask|manual[0-9]?|seg|gt|l"
)
_LABEL_STARTS = "mask|label|gt|seg|annotation"
_IMAGE_ENDINGS = "leftimg8bit|image|img|rgb|sat|photo|training|test"  # DRIVE: 21_training.tif with 21_manual1.gif
_OTHER_ENDINGS = ("_instanceids", "_instancetrainids", "_gtfine_color", "_gtfine_instanceids", "_panoptic")

_ENDING = re.compile(rf"(?P<stem>.+?)[_.\- ](?:{_LABEL_ENDINGS})", re.IGNORECASE)
_START = re.compile(rf"(?:{_LABEL_STARTS})[_.\- ](?P<stem>.+)", re.IGNORECASE)
_IMAGE_ENDING = re.compile(rf"(?P<stem>.+?)[_.\- ](?:{_IMAGE_ENDINGS})", re.IGNORECASE)
_NEGATION = re.compile(r"(?<![a-z])(un|no|not|without)[^a-z]+(?=label|annotated)")
_PICTURE_SUFFIX = re.compile(r"\.(?:png|jpe?g|jpe|jfif|bmp|tiff?|webp)$", re.IGNORECASE)


def words(name: str) -> list[str]:
    """Split a name into lower-case words at every non-letter: `train_images-2` gives train and images.

    A negation stays with what it negates: `un_labeled` and `no-labels` are one word each.
    """
    return [word for word in re.split(r"[^a-z]+", _NEGATION.sub(r"\1", name.lower())) if word]


def part_of(name: str) -> Part | None:
    """Return the part that a folder or list is named after, as in `Valid`, `train_images`, `trainannot`; else None."""
    found = {_PART_WORDS[word] for word in _split_compounds(name) if word in _PART_WORDS}
    known = all(word in _PART_WORDS or _is_role(word) or word in _FILLERS for word in _split_compounds(name))
    if found == {"train", "unlabeled"}:
        return "unlabeled" if known else None
    return found.pop() if len(found) == 1 and known else None


def is_named_like_a_part(name: str) -> bool:
    """Return whether any word names a part, as in `val_hard`: such a folder must not be ignored silently."""
    return any(word in _PART_WORDS for word in _split_compounds(name))


def parts_in(name: str) -> set[Part]:
    """Return every part that a word of the name refers to: train and val for trainval."""
    return {_PART_WORDS[word] for word in _split_compounds(name) if word in _PART_WORDS}


def part_word(name: str) -> str:
    """Return the word by which a name refers to its part: `dev` for dev_images; "" if it does not."""
    return next((word for word in _split_compounds(name) if word in _PART_WORDS), "") if part_of(name) else ""


def role_of(name: str) -> Role | None:
    """Return what a folder of this name holds; None if the name does not tell."""
    variants = [*_split_compounds(name), "".join(words(name)), name.lower()]
    if any(word in _OTHER_WORDS for word in variants):
        return "other"
    if any(word in _LABEL_WORDS for word in variants):
        return "label"
    return "image" if any(word in _IMAGE_WORDS for word in variants) else None


def label_rank(name: str) -> int | None:
    """Return how surely a folder of labels holds those to learn, from 0 to 3; None if its name does not tell.

    0 is a picture beside the labels, such as masks_color; 1 a mask, which may be a field of view; 2 the ground truth;
    3 says that the labels are semantic.
    """
    found = {*_split_compounds(name), "".join(words(name))}
    for rank, known in ((0, _BESIDE_WORDS), (3, _SEMANTIC_WORDS), (2, _TRUTH_WORDS)):
        if found & known:
            return rank
    return 1 if found & _LABEL_WORDS and found & _LABEL_WORDS <= _MASK_WORDS else None


def residue(name: str) -> str:
    """Return what remains of a name without role and part: `2` for imgs2; the whole name if it has neither."""
    if role_of(name) is None and part_of(name) is None:
        return name
    match = re.search(r"[0-9]+$", name)
    return match[0] if match else ""


def own_words(name: str) -> list[str]:
    """Return the words of a name that tell neither role nor part: `lane` for lane_masks."""
    known = _IMAGE_WORDS | _LABEL_WORDS | _OTHER_WORDS | _FILLERS | _PART_WORDS.keys()
    return [] if name.lower() in known else [word for word in _split_compounds(name) if word not in known]


def label_stems(path: PurePosixPath) -> list[str]:
    """Return the possible stems of a label's image, likeliest first: `x` for x_mask.png, mask_x.png, x.jpg.png."""
    stem = unicodedata.normalize("NFC", path.stem)  # macOS decomposes accented letters
    found = [stem]
    for text in (stem, _PICTURE_SUFFIX.sub("", stem)):
        found.append(text)
        for pattern in (_ENDING, _START):
            if match := pattern.fullmatch(text):
                found.append(_PICTURE_SUFFIX.sub("", match["stem"]))
    return list(dict.fromkeys(found))


def image_stems(path: PurePosixPath) -> list[str]:
    """Return the stems that labels may use for an image: its own, and that without `_image`, `_leftImg8bit` …"""
    stem = unicodedata.normalize("NFC", path.stem)
    match = _IMAGE_ENDING.fullmatch(stem)
    return [stem, match["stem"]] if match else [stem]


def is_other(path: PurePosixPath) -> bool:
    """Return whether a file name marks an instance mask or a coloured visualisation."""
    return path.stem.lower().endswith(_OTHER_ENDINGS)


def _is_role(word: str) -> bool:
    return word in _IMAGE_WORDS or word in _LABEL_WORDS


def _split_compounds(name: str) -> list[str]:
    """Return the words of a name, with compounds of two known words split, such as trainannot and trainval."""
    found: list[str] = []
    for word in words(name):
        halves = ((word[:place], word[place:]) for place in range(2, len(word) - 1))
        joined = next((pair for pair in halves if _joins(*pair)), None)
        found += [word] if _is_role(word) or word in _PART_WORDS or joined is None else joined
    return found


def _joins(first: str, second: str) -> bool:
    one, other = first in _PART_WORDS, second in _PART_WORDS
    return (one and (other or _is_role(second) or second in _FILLERS)) or (other and _is_role(first))
