"""Images in one folder, labels of the same names in another beside it.

images/train/…, images/val/…    labels/train/…, labels/val/…      also test/ and unlabeled/
images/…                        labels/…                          a tenth is held out as val
train/images/…, train/labels/…  val/images/…, val/labels/…
train/…, val/…                  train_labels/…, val_labels/…      or trainannot/, train_masks/ …
"""

import hashlib
import math
from pathlib import Path, PurePosixPath

from components.dataset.classes import FILES, read_classes
from components.dataset.layouts.files import pictures
from components.dataset.layouts.model import Layout
from components.dataset.manifest import Lists, Sample
from components.errors import UserError

_IMAGES = ("images", "image", "imgs", "img")
_LABELS = ("labels", "label", "masks", "mask", "annotations", "annotation", "segmentation", "gt")
_ENDINGS = ("annot", *(mark + word for word in (*_LABELS, "annot", "L") for mark in ("_", "-")))
_PARTS = ("train", "val", "test", "unlabeled")
_HELD_OUT = 10
"""One in so many images is for validation where the dataset does not say which."""

Pairs = dict[str, tuple[str, str]]


def is_there(root: Path) -> bool:
    return bool(_parts(root)) or _beside(root) is not None


def read(root: Path, _top: Path, name: str) -> Layout:
    classes = read_classes(root)
    if classes is None:
        raise UserError(f"dataset {root} does not say its classes: add {FILES[0]} or {FILES[1]} to it")
    parts = _parts(root)
    notes: list[str] = []
    if parts:
        samples = {part: _samples(root, images, labels, notes) for part, (images, labels) in parts.items()}
        if not samples.get("val"):
            raise UserError(f"dataset {root} has no val folder beside {parts['train'][0]}: add images and labels there")
    else:
        images, labels = _beside(root) or ("", "")
        samples = _held_out(_samples(root, images, labels, notes))
        notes.append(f"no val folder: {len(samples['val'])} images are held out for it, by their names")
    bare = next((sample.image for sample in samples["val"] if sample.label is None), None)
    if bare:
        raise UserError(f"dataset {root}: {bare} has no label, and every validation image needs one")
    train = samples["train"]
    if not any(sample.label for sample in train):
        raise UserError(f"dataset {root}: no training image has a label of its name; {train[0].image} has none")
    unlabeled = [sample.image for sample in train if sample.label is None]
    lists = Lists(
        classes=classes[0],
        ignore_index=classes[1],
        train=tuple(sample for sample in train if sample.label is not None),
        val=samples["val"],
        test=samples.get("test", ()),
        unlabeled=(*unlabeled, *(sample.image for sample in samples.get("unlabeled", ()))),
    )
    return Layout(root, name, "folders", lists, notes=tuple(notes))


def _beside(root: Path) -> tuple[str, str] | None:
    """images and labels in this folder."""
    images = next((name for name in _IMAGES if (root / name).is_dir()), None)
    labels = next((name for name in _LABELS if (root / name).is_dir()), None)
    return (images, labels) if images and labels else None


def _parts(root: Path) -> Pairs:
    """The folders of images and of labels by part; none where there is no train."""
    found: Pairs = {}
    pair = _beside(root)
    for part in _PARTS:
        inner = _beside(root / part)
        ending = next((ending for ending in _ENDINGS if (root / f"{part}{ending}").is_dir()), None)
        if pair and (root / pair[0] / part).is_dir():
            found[part] = (f"{pair[0]}/{part}", f"{pair[1]}/{part}")
        elif inner:
            found[part] = (f"{part}/{inner[0]}", f"{part}/{inner[1]}")
        elif (root / part).is_dir() and (ending or (part == "unlabeled" and found)):
            found[part] = (part, f"{part}{ending}" if ending else "")
    return found if "train" in found else {}


def _samples(root: Path, images: str, labels: str, notes: list[str]) -> tuple[Sample, ...]:
    by_stem: dict[str, str] = {}
    for label in pictures(root, labels) if labels else ():
        stem = _stem(label, labels)
        if stem in by_stem:
            raise UserError(f"dataset {root}: {by_stem[stem]} and {label} are labels of one image; remove one")
        by_stem[stem] = label
    samples, used = [], set()
    for image in pictures(root, images):
        stem = _stem(image, images)
        stems = (stem, *(f"{stem}{ending}" for ending in _ENDINGS))
        match = next((stem for stem in stems if stem in by_stem), None)
        used.add(match)
        samples.append(Sample(image=image, label=by_stem[match] if match else None))
    if not samples:
        raise UserError(f"dataset {root} has no images in {images}")
    left = [label for stem, label in by_stem.items() if stem not in used]
    if left:
        notes.append(f"{len(left)} labels in {labels} have no image and are left out, {left[0]} first")
    return tuple(samples)


def _stem(name: str, folder: str) -> str:
    return PurePosixPath(name).relative_to(folder).with_suffix("").as_posix()


def _held_out(samples: tuple[Sample, ...]) -> dict[str, tuple[Sample, ...]]:
    """The tenth of the labelled images whose names have the smallest sha256: the same on every machine."""
    labeled = [sample.image for sample in samples if sample.label]
    ranked = sorted(labeled, key=lambda image: hashlib.sha256(image.encode()).digest())
    val = frozenset(ranked[: math.ceil(len(ranked) / _HELD_OUT)]) if len(ranked) > 1 else frozenset[str]()
    if not val:
        raise UserError("the images are too few to hold some out for validation: at least two need a label")
    return {
        "train": tuple(sample for sample in samples if sample.image not in val),
        "val": tuple(sample for sample in samples if sample.image in val),
    }
