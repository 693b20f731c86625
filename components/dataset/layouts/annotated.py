"""Images with annotations instead of masks: COCO JSON, LabelMe JSON or CVAT XML, whose labels are drawn later.

train/_annotations.coco.json, train/x.jpg …                  Roboflow
annotations/instances_train2017.json, train2017/x.jpg …      COCO
result.json, images/x.jpg                                    Label Studio
annotations/instances_default.json, images/x.jpg             CVAT
x.jpg, x.json or images/x.jpg, labels/x.json                 LabelMe, also in train/ and val/
annotations.xml, images/x.jpg                                CVAT for images 1.1; `subset` names the part

If there are masks too, they are read instead (`components.dataset.layouts.folders`).
"""

import glob
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path, PurePosixPath

from components.dataset.classes import Declared
from components.dataset.layouts.annotations.classes import declared_classes
from components.dataset.layouts.annotations.find import Pictures, annotation_files
from components.dataset.layouts.annotations.labelme import read_labelme
from components.dataset.layouts.annotations.model import TITLES, AnnotationFile, Drawing, Format, Source
from components.dataset.layouts.folders import Pairs, assigned_parts, find_pairs, lists_of, place_of
from components.dataset.layouts.model import Layout, counted
from components.dataset.layouts.names import Part, is_named_like_a_part, part_of, parts_in, role_of, words
from components.errors import UserError

_DRAWN = "drawn-labels"
"""The folder of the drawn labels, which exists only once they are drawn."""
_OTHER_TASKS = frozenset({"captions", "keypoints", "panoptic", "stuff", "densepose", "info"})
"""Words in the names of COCO's files for other tasks."""


def matches(root: Path) -> bool:
    if next(annotation_files(root), None) is None:
        return False
    try:
        return not find_pairs(root).labels
    except UserError:  # two masks match one image, which the layout of masks reports
        return False


def read(root: Path, _top: Path, name: str) -> Layout:
    chosen = _choose(root)
    read_file = _reader(chosen.format)
    files = [(read_file(root, each), part) for each, part in chosen.files]
    found = _Found(root, chosen.format)
    for file, part in files:
        found.add(file, part)
    found.check()
    declared = declared_classes(root, chosen.format, [file for file, _ in files], found.used)
    pairs = found.pairs()
    parts, notes, held_out = assigned_parts(root, pairs)
    lists = lists_of(parts, declared)
    drawn = {sample.label for part in (lists.train, lists.val, lists.test) for sample in part if sample.label}
    labels = {label: source for label, source in found.sources.items() if label in drawn}
    return Layout(
        root,
        name,
        chosen.format,
        lists,
        declared,
        explained=tuple((glob.escape(each), why) for each, why in chosen.others),
        notes=(
            *declared.notes,
            *(note for file, _ in files for note in file.notes),
            *notes,
            *_empty_notes(labels, declared),
            *found.notes,
            *_unlabeled_notes(lists.unlabeled, found),
        ),
        held_out=held_out,
        drawing=Drawing(chosen.format, labels, frozenset(each for each, _ in chosen.files)),
    )


@dataclass(frozen=True)
class _Choice:
    format: Format
    files: tuple[tuple[str, Part | None], ...]
    """The annotation files to read, with the part that each is named after; training first."""
    others: tuple[tuple[str, str], ...] = ()
    """Files that are not read, and why."""


def _choose(root: Path) -> _Choice:
    """Choose the annotation files to read. Raises UserError if they are of two formats, or a part has several."""
    found = dict(annotation_files(root))
    first: dict[Format, str] = {}
    for name, kind in found.items():
        first.setdefault(kind, name)
    if len(first) > 1:
        (one, path), (other, other_path), *_ = first.items()
        raise UserError(
            f"dataset {root} has {TITLES[one]} annotations ({path}) and {TITLES[other]} annotations ({other_path}): "
            "move one of them out of the folder"
        )
    [kind] = first
    if kind == "labelme":
        return _Choice(kind, tuple((name, _folder_part(name)) for name in found))
    by_part: dict[Part | None, list[str]] = {}
    for name in found:
        by_part.setdefault(_file_part(name, alone=len(found) == 1), []).append(name)
    chosen: list[tuple[str, Part | None]] = []
    others: list[tuple[str, str]] = []
    for part, names in by_part.items():
        best = min(map(_task_rank, names))
        kept = [name for name in names if _task_rank(name) == best]
        if len(kept) > 1:
            what = f"the {part} images" if part else "the same images"
            raise UserError(
                f"dataset {root}: {kept[0]} and {kept[1]} both annotate {what}: keep one, or name each after its part, "
                "such as instances_train.json"
            )
        chosen.append((kept[0], part))
        others += [(name, f"another task; the labels are read from {kept[0]}") for name in names if name not in kept]
    if None in by_part and len(by_part) > 1:
        raise UserError(
            f"dataset {root}: the name of {by_part[None][0]} names no part, but that of "
            f"{next(name for name, part in chosen if part)} does: rename it, for example to instances_val.json"
        )
    order = ("train", "val", "test", "unlabeled", None)
    return _Choice(kind, tuple(sorted(chosen, key=lambda each: order.index(each[1]))), tuple(others))


def _file_part(name: str, *, alone: bool) -> Part | None:
    """Return the part that an annotation file or its folder is named after."""
    stem = PurePosixPath(name).stem
    part = part_of(" ".join(word for word in words(stem) if word not in {"instances", "coco"} | _OTHER_TASKS))
    if part is None and not alone and len(parts_in(stem)) == 1:
        [part] = parts_in(stem)
    return part or _folder_part(name)


def _folder_part(name: str) -> Part | None:
    return place_of(PurePosixPath(name).parent)[1]


def _task_rank(name: str) -> int:
    """Return 0 for COCO's instances, 2 for its other tasks, 1 for files whose names do not say."""
    found = set(words(PurePosixPath(name).stem))
    return 0 if "instances" in found else 2 if found & _OTHER_TASKS else 1


def _reader(kind: Format) -> Callable[[Path, str], AnnotationFile]:
    if kind == "labelme":
        return read_labelme
    # These need the extra `annotations`; say so before a large file is read.
    from components.dataset.layouts.annotations.coco import read_coco
    from components.dataset.layouts.annotations.cvat import read_cvat

    return read_coco if kind == "coco" else read_cvat


@dataclass
class _Found:
    """The pictures that annotation files list, with their parts."""

    root: Path
    kind: Format
    sources: dict[str, Source] = field(default_factory=dict)
    """By the name of the label to draw."""
    parts: dict[str, Part | None] = field(default_factory=dict)
    """By image name."""
    labels: dict[str, str] = field(default_factory=dict)
    """The label to draw, by image name."""
    used: Counter[str] = field(default_factory=Counter)
    """Number of shapes by class name."""
    notes: list[str] = field(default_factory=list)
    boxes: int = 0
    """Number of shapes that are upright rectangles."""

    def __post_init__(self) -> None:
        self._pictures = Pictures(self.root)
        self._files: dict[str, str] = {}
        self._elsewhere = 0

    def add(self, file: AnnotationFile, part: Part | None) -> None:
        """Add the images of a file.

        Raises:
            UserError: an image does not exist, is listed twice, or could be one of several pictures.
        """
        path = self.root / file.name
        shapes = sum(len(image.shapes) for image in file.images)
        if self.kind != "labelme" and not shapes and part not in ("test", "unlabeled"):
            raise UserError(f"{path} has no annotations: export it again once images are annotated")
        missing = []
        for annotated in file.images:
            own = part or part_of(annotated.subset)
            if own is None and is_named_like_a_part(annotated.subset):
                raise UserError(
                    f"{path}: image {annotated.file_name} is in subset {annotated.subset!r}, which is not used: rename "
                    "the subset to train, val, test or unlabeled, or remove its images"
                )
            image = self._picture(annotated.file_name, file.name, own)
            if image is None:
                missing.append(annotated.file_name)
                continue
            before = self._files.setdefault(image, file.name)
            if image in self.parts:
                again = " twice" if before == file.name else f", as {before} does"
                raise UserError(f"{path} lists {image}{again}: keep one entry")
            place = place_of(PurePosixPath(image).parent)[1]
            self._elsewhere += place is not None and own is not None and place != own
            self.parts[image] = own or place
            unnamed = next((shape.where for shape in annotated.shapes if not shape.label), None)
            if unnamed:
                raise UserError(
                    f"{path}: image {annotated.file_name}, {unnamed} has no class: give it one, or remove it"
                )
            self.used.update(shape.label for shape in annotated.shapes)
            self.boxes += sum(shape.is_box for shape in annotated.shapes)
            if shapes or self.kind == "labelme":
                label = f"{_DRAWN}/{image}.png"
                self.labels[image], self.sources[label] = label, Source(image, file.name, annotated)
        if missing:
            more = f" and {len(missing) - 1:,} more images" if len(missing) > 1 else ""
            raise UserError(
                f"{path} lists {missing[0]}{more}, which cannot be found in {self.root}: add the images there, or "
                "remove their entries"
            )

    def _picture(self, name: str, file: str, part: Part | None) -> str | None:
        """Return the picture that a file names. labelme's files lie beside theirs, which may have been renamed."""
        if self.kind != "labelme":
            return self._pictures.find(name, file, part)
        beside = self._pictures.beside(name, file) or self._pictures.find_stem(file, part, beside=True)
        return beside or self._pictures.find(name, file, part) or self._pictures.find_stem(file, part, beside=False)

    def check(self) -> None:
        """Raise UserError if nothing is annotated, or only some images belong to a part."""
        if not self.used:
            raise UserError(f"dataset {self.root} has no annotations: annotate some images, and save or export them")
        none = next((image for image, part in self.parts.items() if part is None), "")
        if none and any(self.parts.values()):
            raise UserError(
                f"dataset {self.root}: {none} belongs to no part, but other images do: move it to a folder train, val, "
                "test or unlabeled, or assign it to such a subset"
            )
        if self.boxes:
            self.notes.append(
                f"{self.boxes:,} of {self.used.total():,} shapes are rectangles, drawn as areas: if they only frame "
                "their objects, draw outlines instead"
            )
        if self._elsewhere:
            self.notes.append(
                f"{counted(self._elsewhere, 'images')} in folders of one part belong to another: the annotation files "
                "decide"
            )

    def pairs(self) -> Pairs:
        """Return all images with their parts and labels, including pictures that no annotation file lists."""
        folders = {PurePosixPath(image).parent for image in self.parts}
        extra = {
            image: part
            for image, part in find_pairs(self.root).images.items()
            if image not in self.parts and _is_photograph(PurePosixPath(image), folders)
        }
        val = next((image for image, part in extra.items() if part == "val"), None)
        if val:
            raise UserError(
                f"dataset {self.root}: {val} has no annotations, but every validation image needs them: "
                "annotate it, or move it to a folder unlabeled"
            )
        parts = dict(self.parts)
        if any(parts.values()):
            extra = {image: part or "unlabeled" for image, part in extra.items()}
        elif any(extra.values()):
            parts = dict.fromkeys(parts, "train")
            extra = {image: part or "train" for image, part in extra.items()}
        return Pairs(parts | extra, dict(self.labels), label_folders=True)


def _is_photograph(image: PurePosixPath, folders: set[PurePosixPath]) -> bool:
    """Return whether a picture is one of the dataset's images, by its folder."""
    first = image.parts[0]
    named = len(image.parts) > 1 and (role_of(first) == "image" or part_of(first) is not None)
    return image.parent in folders or named


def _empty_notes(labels: Mapping[str, Source], declared: Declared) -> Iterator[str]:
    empty = [source.annotated.file_name for source in labels.values() if not source.annotated.shapes]
    if empty:
        meaning = "void" if declared.background == declared.ignore_index else "background"
        yield (
            f"{counted(len(empty), 'images')} listed without annotations, such as {empty[0]}: all {meaning}; if not "
            "annotated yet, remove such entries, and the images count as unlabelled"
        )


def _unlabeled_notes(unlabeled: Sequence[str], found: _Found) -> Iterator[str]:
    count = sum(image not in found.labels for image in unlabeled)
    if count:
        yield f"{counted(count, 'images')} without annotations, such as {unlabeled[0]}, count as unlabelled"
