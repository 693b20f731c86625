"""Datasets without lists: folder and file names tell images, labels and parts apart, and pair images with labels.

images/train/…, images/val/…    labels/train/…, labels/val/…      also test/ and unlabeled/
images/…                        labels/…                          a tenth is held out for val
train/images/…, train/labels/…  val/images/…, val/labels/…
train/…, val/…                  train_labels/…, val_labels/…      or trainannot/, train_masks/ …
train/x.jpg, train/x_mask.png   valid/…

`components.dataset.layouts.names` defines the accepted spellings. Images and labels may have matching subfolders.
"""

import glob
import hashlib
import math
import os
from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path, PurePosixPath

from components.dataset.classes import FILES, UNDECLARED, Declared, read_classes
from components.dataset.layouts.annotations.find import annotation_files
from components.dataset.layouts.annotations.model import TITLES
from components.dataset.layouts.files import CONVERT, files_below, is_picture, subfolders
from components.dataset.layouts.label_folders import choose_labels, folder_of
from components.dataset.layouts.model import Incomplete, Layout, counted
from components.dataset.layouts.names import (
    PARTS,
    Part,
    Role,
    image_stems,
    is_other,
    label_stems,
    part_of,
    part_word,
    parts_in,
    residue,
    role_of,
    words,
)
from components.dataset.manifest import Lists, Sample
from components.errors import UserError

_ANNOTATIONS = frozenset({".json", ".xml", ".txt", ".npy", ".mat"})
_HELD_OUT = 10
"""One in this many images is held out if the dataset has no validation images."""
Key = tuple[str, str]
"""A folder name without the words for role and part, and a file stem."""


@dataclass
class Pairs:
    """Images and labels by name. Not every image has a label, and labels without an image are not in here."""

    images: dict[str, Part | None] = field(default_factory=dict)
    """The part of each image; None if no folder determines it."""
    labels: dict[str, str] = field(default_factory=dict)
    """The label of each labelled image."""
    label_folders: bool = False
    """Whether any folder is named after labels."""
    notes: list[str] = field(default_factory=list)
    """Remarks on how labels were chosen."""
    passed_over: dict[str, str] = field(default_factory=dict)
    """Folders that look like labels but are not read, and why."""


_INSTEAD = "to read these instead, move the masks out of the folder"


def matches(root: Path) -> bool:
    return _is_flat(root) or any(_is_part_folder(path) for path in subfolders(root))


def read(root: Path, _top: Path, name: str) -> Layout:
    declared = read_classes(root)
    if declared is None:
        file, kind = next(annotation_files(root), ("", None))
        unread = f"; it also has {TITLES[kind]} annotations such as {file}: {_INSTEAD}" if kind else ""
        raise Incomplete(f"dataset {root} declares no classes: add {FILES[0]} or {FILES[1]} to it{unread}")
    return _read(root, name, declared)


def read_draft(root: Path, _top: Path, name: str) -> Layout:
    """Read a dataset that may declare no classes."""
    return _read(root, name, read_classes(root) or UNDECLARED)


def _read(root: Path, name: str, declared: Declared) -> Layout:
    pairs = find_pairs(root)
    if not pairs.images:
        raise UserError(f"dataset {root} has no images{_unread(root)}")
    parts, notes, held_out = assigned_parts(root, pairs)
    lists = lists_of(parts, declared)
    notes = [*pairs.notes, *notes]
    file, kind = next(annotation_files(root), ("", None))
    if kind:
        notes.append(f"labels are read from masks, not from {TITLES[kind]} annotations such as {file}; {_INSTEAD}")
    withheld = {PurePosixPath(sample.label).parent for sample in parts["unlabeled"] if sample.label}
    explained = [(f"{folder}/*", "labels of images that are used as unlabelled") for folder in sorted(withheld)]
    explained += [(f"{glob.escape(folder)}/*", why) for folder, why in sorted(pairs.passed_over.items())]
    return Layout(
        root,
        name,
        "folders",
        lists,
        declared,
        explained=tuple(explained),
        notes=(*declared.notes, *notes),
        held_out=held_out,
    )


def assigned_parts(root: Path, pairs: Pairs) -> tuple[dict[Part, tuple[Sample, ...]], list[str], bool]:
    """Return the samples of each part, remarks on how they were chosen, and whether val had to be held out.

    Raises:
        UserError: there is nothing to train or to validate on, or image names contradict each other.
    """
    notes: list[str] = []
    if not any(pairs.images.values()) and (by_name := parts_by_name(pairs.images)):
        pairs.images.update(by_name)
        notes.append("parts are taken from the image names")
    parts = group_by_part(pairs)
    _check_train(root, parts, pairs)
    held_out = not parts["val"] and (all(pairs.images.values()) or not any(pairs.images.values()))
    if held_out:
        _check_unnamed(root, parts["train"])
        parts |= hold_out_val(parts["train"])
        notes.append(f"no val folder: held out {counted(len(parts['val']), 'images')}, chosen by a hash of their names")
    _check_val(root, parts, pairs)
    return parts, notes, held_out


def lists_of(parts: dict[Part, tuple[Sample, ...]], declared: Declared) -> Lists:
    """Return the lists of a dataset. Training images without a label count as unlabelled."""
    return Lists(
        classes=declared.classes,
        ignore_index=declared.ignore_index,
        train=tuple(sample for sample in parts["train"] if sample.label is not None),
        val=parts["val"],
        test=parts["test"],
        unlabeled=(
            *(sample.image for sample in parts["train"] if sample.label is None),
            *(sample.image for sample in parts["unlabeled"]),
        ),
    )


def find_pairs(root: Path) -> Pairs:
    """Return every image below the root with its part and its label.

    Raises UserError if two images match one label, or two labels match one image.
    """
    everything = [PurePosixPath(name) for name in files_below(root)]
    files = [path for path in everything if is_picture(path.name)]
    unreadable = [path for path in everything if path.suffix.lower() in CONVERT]
    places = {folder: place_of(folder) for folder in {path.parent for path in files}}
    roles = _roles(files, places)
    pairs = Pairs(label_folders=any(role == "label" for role, _, _ in places.values()))
    by_key: dict[tuple[Part | None, Key], list[PurePosixPath]] = {}
    for path in files:
        if roles[path] != "image":
            continue
        _, part, rest = places[path.parent]
        pairs.images[str(path)] = part
        for stem in image_stems(path):
            by_key.setdefault((part, (rest, stem)), []).append(path)
    match = _Matcher(root, by_key)
    claims: dict[str, list[PurePosixPath]] = {}
    parts: dict[PurePosixPath, Part | None] = {}
    for path in files:
        if roles[path] == "label" and (image := match(path, *places[path.parent][1:])):
            claims.setdefault(image, []).append(path)
            parts[path] = places[path.parent][1]
    readable = {folder_of(path) for found in claims.values() for path in found}
    for path in unreadable:
        role, part, rest = place_of(path.parent)
        if role == "label" and folder_of(path) not in readable and (image := match(path, part, rest)) in claims:
            claims[image].append(path)
    chosen = choose_labels(root, claims)
    pairs.labels.update(chosen.labels)
    for image, label in chosen.labels.items():
        pairs.images[image] = pairs.images[image] or parts[PurePosixPath(label)]
    _check_synonyms(root, claims, places)
    pairs.notes += chosen.notes()
    for folder in chosen.folders:
        pairs.passed_over[folder] = f"labels are read from {chosen.passed_over[folder_of(PurePosixPath(folder, 'x'))]}/"
    return pairs


def _check_synonyms(
    root: Path, images: Iterable[str], places: dict[PurePosixPath, tuple[Role | None, Part | None, str]]
) -> None:
    """Raise UserError if two folders of labelled images mean val or test, such as dev and eval: rarely one part."""
    seen: dict[tuple[Part, str], tuple[str, PurePosixPath]] = {}
    for folder in sorted({PurePosixPath(image).parent for image in images}):
        _, part, rest = places[folder]
        word = next(filter(None, map(part_word, reversed(folder.parts))), "")
        if part not in ("val", "test") or not word:
            continue
        before, where = seen.setdefault((part, rest), (word, folder))
        if before != word:
            renamed, other = where if word == part else folder, "test" if part == "val" else "val"
            raise UserError(
                f"dataset {root}: {where} and {folder} both mean {part}: if they are two parts, rename "
                f"{_named(renamed)} to {other}, for images and for labels; if not, move the files of both into {part}"
            )


def _named(folder: PurePosixPath) -> str:
    """Return the innermost name of a folder that refers to a part."""
    return next(name for name in reversed(folder.parts) if part_word(name))


def group_by_part(pairs: Pairs) -> dict[Part, tuple[Sample, ...]]:
    """Return the samples of each part, sorted by image name. If no image has a part, all belong to `train`."""
    has_parts = any(pairs.images.values())
    found: dict[Part, list[Sample]] = {part: [] for part in PARTS}
    for image, part in sorted(pairs.images.items()):
        chosen = part if has_parts else "train"
        if chosen is not None:
            found[chosen].append(Sample(image=image, label=pairs.labels.get(image)))
    return {part: tuple(samples) for part, samples in found.items()}


def _check_train(root: Path, parts: dict[Part, tuple[Sample, ...]], pairs: Pairs) -> None:
    """Raise UserError if there is nothing to train on."""
    if not parts["train"]:
        raise UserError(f"dataset {root} has no training images{_unread(root)}; found {_counts(parts)}")
    if not any(sample.label for sample in parts["train"]):
        image, hint = parts["train"][0].image, _hint(root, pairs)
        raise UserError(
            f"dataset {root}: no training image has a label with a matching name, for example {image}{hint}"
        )


def _check_unnamed(root: Path, samples: tuple[Sample, ...]) -> None:
    """Raise UserError if some image names contain val or test in a way that we do not interpret."""
    examples: dict[frozenset[Part], str] = {}
    for sample in samples:
        path = PurePosixPath(sample.image)
        names = (*(name for name in path.parts[:-1] if part_of(name) is None), path.stem)
        examples.setdefault(frozenset(part for name in names for part in parts_in(name)), sample.image)
    image = next((image for parts, image in examples.items() if parts & {"val", "test"}), "")
    if image and len(examples) > 1:
        raise UserError(
            f"dataset {root}: the name of {image} suggests another part than the rest, but no folder or list assigns "
            "parts: move the images into folders train and val, or write train.txt and val.txt"
        )


def _check_val(root: Path, parts: dict[Part, tuple[Sample, ...]], pairs: Pairs) -> None:
    """Raise UserError if there is nothing to validate on, or a validation image has no label."""
    if not parts["val"]:
        other = next((f"; {image} belongs to no part" for image, part in pairs.images.items() if part is None), "")
        raise UserError(
            f"dataset {root} has no validation images (found {_counts(parts)}{other}): "
            "add a folder val with images and labels, or rename an existing folder to val"
        )
    bare = next((sample.image for sample in parts["val"] if sample.label is None), None)
    if bare:
        raise UserError(f"dataset {root}: {bare} has no label; every validation image needs one")


def hold_out_val(samples: tuple[Sample, ...]) -> dict[Part, tuple[Sample, ...]]:
    """Split samples into `train` and `val`: the tenth of the labelled images whose names have the smallest sha256.

    The choice depends on names alone, so it is the same on every machine. Images without a label stay in `train`.

    Raises:
        UserError: fewer than two images have a label.
    """
    labeled = [sample.image for sample in samples if sample.label]
    ranked = sorted(labeled, key=lambda image: hashlib.sha256(os.fsencode(image)).digest())
    val = frozenset(ranked[: math.ceil(len(ranked) / _HELD_OUT)]) if len(ranked) > 1 else frozenset[str]()
    if not val:
        raise UserError("too few labelled images to hold one out for validation: at least two are needed")
    return {
        "train": tuple(sample for sample in samples if sample.image not in val),
        "val": tuple(sample for sample in samples if sample.image in val),
    }


def parts_by_name(images: Iterable[str]) -> dict[str, Part]:
    """Return each image's part if every name begins or ends with one, as train_000.jpg or 000_val.jpg; else {}."""
    found: dict[str, Part] = {}
    for image in images:
        stem = PurePosixPath(image).stem
        part = next((part for word in (words(stem)[:1] + words(stem)[-1:]) if (part := part_of(word))), None)
        if part is None:
            return {}
        found[image] = part
    return found if {"train", "val"} <= set(found.values()) else {}


def _is_flat(root: Path) -> bool:
    """Return whether this folder, or its subfolders, hold images and labels."""
    inside = [(role_of(path.name), path) for path in subfolders(root) if part_of(path.name) is None]
    roles = {role for role, _ in inside}
    if "label" in roles and ("image" in roles or any(is_picture(path.name) for path in root.iterdir())):
        return True
    described = any((root / name).is_file() for name in FILES)  # else any folder with photos/ inside would match
    return _has_both(root) or (described and any(_has_both(path) for role, path in inside if role == "image"))


def _is_part_folder(folder: Path) -> bool:
    """Return whether a folder is one part of a dataset: `train` with labels inside or next to it, or `train_labels`."""
    if part_of(folder.name) is None:
        return False
    inside = {role_of(path.name) for path in subfolders(folder)}
    beside = any(role_of(path.name) == "label" for path in subfolders(folder.parent))
    return beside or "label" in inside or _has_both(folder)


def _has_both(folder: Path) -> bool:
    """Return whether a folder directly holds an image and its label, as x.jpg and x_mask.png."""
    paths = [PurePosixPath(path.name) for path in folder.iterdir() if is_picture(path.name) and path.is_file()]
    stems = {stem for path in paths for stem in image_stems(path)}
    return bool(_png_labels(paths)) or any(stem in stems for path in paths for stem in label_stems(path)[1:])


def _png_labels(paths: Iterable[PurePosixPath]) -> set[PurePosixPath]:
    """Return the .png files next to a .jpg of the same stem: the .jpg is the photograph, the .png its label."""
    listed = set(paths)
    photographs = {path.with_suffix("") for path in listed if path.suffix.lower() in (".jpg", ".jpeg", ".jfif")}
    return {path for path in listed if path.suffix.lower() == ".png" and path.with_suffix("") in photographs}


def place_of(folder: PurePosixPath) -> tuple[Role | None, Part | None, str]:
    """Return the role and part from the innermost folder that determines them, and the rest of the names."""
    role: Role | None = None
    part: Part | None = None
    rest = []
    for name in folder.parts:
        role = role_of(name) or role
        part = part_of(name) or part
        rest.append(residue(name))
    return role, part, "/".join(filter(None, rest))


def _roles(
    files: Iterable[PurePosixPath], places: dict[PurePosixPath, tuple[Role | None, Part | None, str]]
) -> dict[PurePosixPath, Role]:
    """Return the role of each file. If the folder does not determine it, a label is named after an image next to it."""
    listed = list(files)
    stems = {(path.parent, stem) for path in listed for stem in image_stems(path)}
    found: dict[PurePosixPath, Role] = {}
    has_folders = any(role == "image" for role, _, _ in places.values())
    for path in listed:
        role, part, _ = places[path.parent]
        if role is None and has_folders and part not in ("test", "unlabeled"):
            found[path] = "other"  # next to the image folders: depth maps, predictions, a legend
        elif role == "other" or is_other(path):
            found[path] = "other"
        elif role == "label":
            found[path] = "label"
        else:
            beside = any((path.parent, stem) in stems for stem in label_stems(path)[1:])
            found[path] = "label" if beside else "image"
    if "label" not in found.values():
        found |= dict.fromkeys(_png_labels(path for path, role in found.items() if role == "image"), "label")
    return found


class _Matcher:
    """Finds the image of a label: the one of the same name in its part, or in any part if only one of both has one."""

    def __init__(self, root: Path, by_key: dict[tuple[Part | None, Key], list[PurePosixPath]]) -> None:
        self.root, self.by_key = root, by_key
        self._rests = {rest for _, (rest, _) in by_key}

    def __call__(self, label: PurePosixPath, part: Part | None, rest: str) -> str | None:
        """Return the name of a label's image, or None. Raises UserError if two images match."""
        if rest.isdigit() and rest not in self._rests:
            rest = ""  # manual1 next to images
        for stem in label_stems(label):
            parts: tuple[Part | None, ...] = (part, None) if part is not None else (None, *PARTS)
            found = list(dict.fromkeys(image for each in parts for image in self.by_key.get((each, (rest, stem)), ())))
            if len(found) > 1:  # x.jpg comes before x_test.jpg
                found = [image for image in found if image_stems(image)[0] == stem] or found
            if len(found) > 1:
                advice = _advice(found[0], found[1])
                raise UserError(f"dataset {self.root}: {found[0]} and {found[1]} both match {label}; {advice}")
            if found:
                return str(found[0])
        return None


def _advice(first: PurePosixPath, second: PurePosixPath) -> str:
    """Return what to do about two images of one label: both are wanted if their folders are two names of one part."""
    for one, other in zip(first.parent.parts, second.parent.parts, strict=False):
        part = part_of(one)
        if one != other and part is not None and part == part_of(other):
            return (
                f"{one} and {other} both mean {part}: name the images' and the labels' {other} after another part "
                "(train, val, test or unlabeled), or give its images and labels other file names"
            )
    return "keep one image"


def _unread(root: Path) -> str:
    """Return why no image was found and what to do, if there are images in formats that we cannot read."""
    found = [name for name in files_below(root) if PurePosixPath(name).suffix.lower() in CONVERT]
    if not found:
        return ""
    ending = PurePosixPath(found[0]).suffix
    return f" in a supported format ({found[0]} is {ending[1:].upper()}): {CONVERT[ending.lower()]}"


def _hint(root: Path, pairs: Pairs) -> str:
    """Return the likely reason why no label was found: files that are no readable images, or a folder's name."""
    stems = {PurePosixPath(image).stem for image in pairs.images}
    for name in files_below(root):
        path = PurePosixPath(name)
        if path.suffix.lower() in _ANNOTATIONS and (
            path.stem in stems or "coco" in path.stem or "instances" in path.stem
        ):
            return f"; {name} is an annotation file, not an image: export masks as PNG from the tool that wrote it"
        if path.suffix.lower() in CONVERT and "label" in map(role_of, path.parent.parts):
            return f"; {name} cannot be read, because it is {path.suffix[1:].upper()}: save the labels as PNG"
    return "" if pairs.label_folders else "; put labels into a folder labels/ or masks/, or name them like x_mask.png"


def _counts(parts: dict[Part, tuple[Sample, ...]]) -> str:
    return ", ".join(f"{len(samples)} {part}" for part, samples in parts.items() if samples) or "no images in any part"
