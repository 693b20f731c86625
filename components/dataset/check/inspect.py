"""Decode every file once, on all cores, and collect the findings of all checks."""

import hashlib
import time
from collections import Counter
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from pathlib import Path

from components import progress
from components.dataset.check.balance import (
    balance_findings,
    class_balance,
    classes_by_label,
    ratio_finding,
    ratio_rows,
)
from components.dataset.check.facts import FileFacts, image_facts, label_facts
from components.dataset.check.findings import CheckReport, Finding, Item, in_order
from components.dataset.check.layout import account_findings, unshown_classes
from components.dataset.check.overlaps import all_samples, copies, near_duplicates, overlaps, parts_of, shared_sequences
from components.dataset.check.pairs import KINDS, pair_findings, pair_problems, size_text, unreadable
from components.dataset.layouts import Layout
from components.dataset.manifest import Sample
from components.errors import UserError
from components.reading import open_file
from components.recipes.model import Split as SplitSettings
from components.threads import in_threads

STEP = "prepare-dataset"
SAMPLES = 6
"""Number of images that the report shows first."""


@dataclass
class Facts:
    """The facts about all images and labels by file name, and the problems of single files."""

    images: dict[str, FileFacts] = field(default_factory=dict)
    labels: dict[str, FileFacts] = field(default_factory=dict)
    problems: list[tuple[str, Item]] = field(default_factory=list)


def hash_files(layout: Layout) -> dict[str, str]:
    """Return the sha256 of every file that the dataset is read from, by name."""
    names = layout.source_files

    def digest(name: str) -> str:
        path = layout.folder / name
        try:
            with open_file(path) as file:
                return hashlib.file_digest(file, "sha256").hexdigest()
        except OSError as error:
            raise UserError(unreadable("file", str(path), error.strerror or type(error).__name__)) from None

    return dict(zip(names, in_threads(digest, names), strict=True))


def check_files(layout: Layout) -> dict[str, list[int]]:
    """Check the dataset before it is stored, and print one line for each warning.

    Returns:
        the class ids that occur in each label, by the label's name.

    Raises:
        UserError: the first fatal problem, in the order of the lists; names the file.
    """
    _raise_if_fatal(overlaps(layout.lists))
    facts = decode_files(layout, root=layout.root, stop_at_fatal=True, on_progress=_report_progress)
    balance, _ = class_balance(layout.lists, facts.labels)
    findings = [*_file_findings(layout, facts), *(balance_findings(balance) if facts.labels else [])]
    _raise_if_fatal(findings)
    for finding in in_order(findings):
        if finding.level == "warning":
            progress.say(STEP, f"{layout.name}: {finding.line()}")
    return classes_by_label(facts.labels, len(layout.lists.classes))


def inspect_dataset(
    layout: Layout,
    *,
    seed: int = 0,
    settings: SplitSettings = SplitSettings(),  # noqa: B008 - frozen
    source: str = "",
    on_progress: Callable[[int, int], None] | None = None,
) -> CheckReport:
    """Run all checks on the dataset and report every finding.

    Args:
        seed, settings: of the splits whose classes are checked.
        source: where the dataset came from, for the report; defaults to its folder.
        on_progress: called after each image with the number of checked images and the total.
    """
    began = time.perf_counter()
    lists = layout.lists
    facts = decode_files(layout, on_progress=on_progress)
    balance, void_share = class_balance(lists, facts.labels)
    classes = classes_by_label(facts.labels, len(lists.classes))
    ratios = ratio_rows(lists, layout.name, classes, seed, settings)
    findings = [
        *_file_findings(layout, facts),
        *(balance_findings(balance) if facts.labels else []),
        ratio_finding(ratios, seed),
    ]
    names = lists.file_names()
    return CheckReport(
        dataset=layout.name,
        layout=layout.kind,
        folder=str(layout.folder),
        classes=lists.classes,
        ignore_index=lists.ignore_index,
        images={part: len(images) for part, images in parts_of(lists).items()},
        sizes=dict(Counter(size_text(f.size) for f in facts.images.values() if not f.problem).most_common()),
        void_share=void_share,
        balance=balance,
        ratios=ratios,
        seed=seed,
        findings=in_order(findings),
        files=len(names),
        bytes=sum(_size(layout.folder / name) for name in names),
        seconds=time.perf_counter() - began,
        source=source or str(layout.folder),
        notes=layout.notes,
        account=layout.account,
        pools=layout.pool_sizes,
        samples=_samples(layout, facts),
        checks=tuple(dict.fromkeys(finding.title for finding in findings)),
    )


def _samples(layout: Layout, facts: Facts) -> tuple[Item, ...]:
    """Return up to SAMPLES labelled training images that could be read, evenly spaced over the list."""
    broken = {item.image for _, item in facts.problems} | {item.label for _, item in facts.problems}
    whole = [
        Item(sample.image, image=sample.image, label=sample.label)
        for sample in layout.lists.train
        if sample.label and not {sample.image, sample.label} & broken
    ]
    count = min(SAMPLES, len(whole))
    return tuple(whole[(2 * number + 1) * len(whole) // (2 * count)] for number in range(count))


def decode_files(
    layout: Layout,
    *,
    root: str = "",
    stop_at_fatal: bool = False,
    on_progress: Callable[[int, int], None] | None = None,
) -> Facts:
    """Decode every image and label once.

    Raises:
        UserError: the first fatal problem, with `stop_at_fatal`.
    """
    lists, samples, facts = layout.lists, all_samples(layout.lists), Facts()

    def read(sample: Sample) -> tuple[FileFacts, FileFacts | None]:
        name = None if sample.label in layout.refused else sample.label
        known = layout.label_facts.get(name or "")
        label = known or (label_facts(layout.folder, name) if name else None)
        return image_facts(layout.folder, sample.image), label

    for done, (sample, (image, label)) in enumerate(zip(samples, in_threads(read, samples), strict=True), start=1):
        problems = pair_problems(
            image,
            label,
            classes=len(lists.classes),
            ignore_index=lists.ignore_index,
            root=root,
            label_name=layout.label_sources.get(sample.label or "", ""),
        )
        if refused := layout.refused.get(sample.label or ""):
            kind, text = refused
            # Leave out the label: coloured by class, its raw values would be misleading.
            problems.append((kind, Item(text, image="" if image.problem else image.name)))
        fatal = [item for kind, item in problems if KINDS[kind][0] == "fatal"]
        if fatal and stop_at_fatal:
            raise UserError(fatal[0].text)
        facts.problems += problems
        facts.images[image.name] = image
        if label is not None:
            facts.labels[label.name] = label
        if on_progress:
            on_progress(done, len(samples))
    return facts


def _size(path: Path) -> int:
    try:
        return path.stat().st_size
    except OSError:  # one of the findings
        return 0


def _report_progress(done: int, total: int) -> None:
    if done % 200 == 0 or done == total:
        progress.advance(STEP, done, total, "images checked")


def _file_findings(layout: Layout, facts: Facts) -> list[Finding]:
    parts = parts_of(layout.lists)
    return [
        *account_findings(layout),
        *pair_findings(facts.problems),
        unshown_classes(layout, facts.labels),
        *overlaps(layout.lists),
        copies(parts, facts.images),
        *near_duplicates(parts, facts.images),
        shared_sequences(parts),
    ]


def _raise_if_fatal(findings: Iterable[Finding]) -> None:
    for finding in findings:
        if finding.level == "fatal" and finding.items:
            raise UserError(finding.items[0].text)
