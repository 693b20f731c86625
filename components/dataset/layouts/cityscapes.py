"""Cityscapes as downloaded: leftImg8bit/<part>/<city>/… and gtFine/<part>/<city>/…"""

from pathlib import Path

from components.dataset.classes import CITYSCAPES_TRAIN_IDS, known_classes, read_classes
from components.dataset.layouts.files import pictures
from components.dataset.layouts.model import Layout
from components.dataset.manifest import Lists, Sample
from components.errors import UserError

_IMAGES, _LABELS = "leftImg8bit", "gtFine"
TRAIN_IDS, LABEL_IDS = "_labelTrainIds.png", "_labelIds.png"


def matches(root: Path) -> bool:
    return (root / _IMAGES).is_dir() and (root / _LABELS).is_dir()


def read(root: Path, _top: Path, name: str) -> Layout:
    declared = read_classes(root) or known_classes("cityscapes")
    parts = {part: pictures(root, f"{_IMAGES}/{part}") for part in ("train", "val", "test", "train_extra")}
    for part in ("train", "val"):
        if not parts[part]:
            raise UserError(f"dataset {root} has no images in {_IMAGES}/{part}: unpack leftImg8bit_trainvaltest.zip")
    ending = _ending(root, [*parts["train"], *parts["val"]])
    train = [_sample(root, image, ending) for image in parts["train"]]
    val = [_sample(root, image, ending) for image in parts["val"]]
    missing = next((sample.image for sample in val if sample.label is None), None)
    if missing:
        raise UserError(f"{root}: {missing} has no label {_label(missing, ending)}: unpack gtFine_trainvaltest.zip")
    lists = Lists(
        classes=declared.classes,
        ignore_index=declared.ignore_index,
        train=tuple(sample for sample in train if sample.label),
        val=tuple(val),
        # Cityscapes withholds the ground truth of its test images; their label files are all void.
        test=tuple(Sample(image=image) for image in parts["test"]),
        unlabeled=tuple(sample.image for sample in train if not sample.label),
    )
    mapped = ending == LABEL_IDS
    notes = (f"labels are {'label ids, mapped to the 19 train ids' if mapped else 'train ids'}",)
    return Layout(
        root,
        name,
        "cityscapes",
        lists,
        declared,
        explained=(("*", "not needed: instances, polygons, coarse labels or labels of the test images"),),
        pools={"train_extra": parts["train_extra"]} if parts["train_extra"] else {},
        label_ids={label: CITYSCAPES_TRAIN_IDS.get(label, declared.ignore_index) for label in (*range(34), 255)}
        if mapped and declared.is_known
        else None,
        notes=notes if declared.is_known else declared.notes,
    )


def _ending(root: Path, images: list[str]) -> str:
    """Return the suffix of the label files to read: train ids if every image has them, else label ids."""
    return TRAIN_IDS if all((root / _label(image, TRAIN_IDS)).is_file() for image in images) else LABEL_IDS


def _sample(root: Path, image: str, ending: str) -> Sample:
    label = _label(image, ending)
    return Sample(image=image, label=label if (root / label).is_file() else None)


def _label(image: str, ending: str) -> str:
    folder, _, name = image.removeprefix(_IMAGES).rpartition("/")
    return f"{_LABELS}{folder}/{name.rpartition('_leftImg8bit.')[0]}_gtFine{ending}"
