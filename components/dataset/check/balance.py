"""Measure how often each class occurs, and whether the labelled part at each ratio still contains every class."""

from collections.abc import Mapping, Sequence

import numpy as np

from components.dataset.check.facts import FileFacts
from components.dataset.check.findings import ClassBalance, Finding, Item, RatioRow
from components.dataset.manifest import Lists, Manifest, Sample
from components.dataset.split import split_labels
from components.errors import UserError
from components.recipes.model import Split as SplitSettings

RATIOS = ("1/16", "1/8", "1/4", "1/2")


def classes_by_label(labels: Mapping[str, FileFacts], classes: int) -> dict[str, list[int]]:
    """Return the class ids that occur in each label, without void."""
    return {
        name: np.flatnonzero(facts.ids[:classes]).tolist() for name, facts in labels.items() if facts.ids is not None
    }


def class_balance(lists: Lists, labels: Mapping[str, FileFacts]) -> tuple[tuple[ClassBalance, ...], float]:
    """Return the pixels and images of each class in train and val, and the void share (0 to 1) of train's pixels."""
    train, val = _id_counts(lists.train, labels), _id_counts(lists.val, labels)
    rows = tuple(
        ClassBalance(
            name=entry.name,
            color=entry.color,
            train_pixels=int(train[:, number].sum()),
            train_images=int((train[:, number] > 0).sum()),
            val_pixels=int(val[:, number].sum()),
            val_images=int((val[:, number] > 0).sum()),
        )
        for number, entry in enumerate(lists.classes)
    )
    return rows, float(train[:, lists.ignore_index].sum() / max(1, train.sum()))


def _id_counts(
    samples: Sequence[Sample], labels: Mapping[str, FileFacts]
) -> np.ndarray[tuple[int, int], np.dtype[np.int64]]:
    counts = [
        facts.ids
        for sample in samples
        if sample.label and (facts := labels.get(sample.label)) is not None and facts.ids is not None
    ]
    return np.array(counts, np.int64).reshape(-1, 256)


def balance_findings(rows: Sequence[ClassBalance]) -> list[Finding]:
    """Report classes that are missing from train or val; fatal if either has no labelled pixel at all."""
    missing_in_train = [row.name for row in rows if not row.train_pixels]
    missing_in_val = [row.name for row in rows if not row.val_pixels and row.train_pixels]
    all_void = [
        Item(f"no {part} label contains any class: there is nothing to {verb}")
        for part, verb, pixels in (
            ("training", "learn", sum(row.train_pixels for row in rows)),
            ("val", "measure", sum(row.val_pixels for row in rows)),
        )
        if not pixels
    ]
    return [
        Finding("nothing", "fatal", "No labelled pixels", "Every pixel of these labels is void.", tuple(all_void)),
        Finding(
            "absent-train", "warning", "Classes missing from the training labels",
            "The networks cannot learn them. Remove them from the classes, or label some.",
            tuple(Item(f"no training label contains {name}") for name in missing_in_train),
        ),
        Finding(
            "absent-val", "warning", "Classes missing from the val labels",
            "They are trained but never measured, and the mean excludes them.",
            tuple(Item(f"no val label contains {name}") for name in missing_in_val),
        ),
    ]  # fmt: skip


def ratio_rows(
    lists: Lists, name: str, classes: Mapping[str, Sequence[int]], seed: int, settings: SplitSettings
) -> tuple[RatioRow, ...]:
    """Return the size of the split at each common ratio, and the classes that its labels lack."""
    manifest = Manifest(**dict(lists), digest="", name=name, layout="", files={}, shards=())
    return tuple(_ratio_row(manifest, ratio, seed, settings, classes) for ratio in RATIOS)


def _ratio_row(
    manifest: Manifest, ratio: str, seed: int, settings: SplitSettings, classes: Mapping[str, Sequence[int]]
) -> RatioRow:
    try:
        split = split_labels(manifest, ratio, seed, settings, classes)
    except UserError as error:
        return RatioRow(ratio, "", problem=str(error))
    missing = missing_classes(manifest, split.labeled, classes)
    return RatioRow(ratio, split.origin, len(split.labeled), len(split.unlabeled), missing)


def missing_classes(lists: Lists, labeled: Sequence[Sample], classes: Mapping[str, Sequence[int]]) -> tuple[str, ...]:
    """Return the names of classes that occur in the training labels but not in those of `labeled`."""
    labeled_classes, all_classes = (
        {number for sample in samples for number in classes.get(sample.label or "", ())}
        for samples in (labeled, lists.train)
    )
    return tuple(lists.classes[number].name for number in sorted(all_classes - labeled_classes))


def ratio_finding(rows: Sequence[RatioRow], seed: int) -> Finding:
    return Finding(
        "missing", "warning", "Classes missing from the labelled part",
        "The networks cannot learn them at that ratio. Use --set split.stratify=true, or another seed.",
        tuple(
            Item(f"at ratio {row.ratio} ({_origin(row, seed)}), no labelled image contains {', '.join(row.missing)}")
            for row in rows
            if row.missing
        ),
    )  # fmt: skip


def _origin(row: RatioRow, seed: int) -> str:
    return "the dataset's own list" if row.origin == "lists" else f"seed {seed}"
