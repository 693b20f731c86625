"""What is wrong with how a folder was read: files that nothing uses, classes that nothing shows."""

from collections.abc import Mapping

import numpy as np

from components.dataset.check.facts import FileFacts
from components.dataset.check.findings import Finding, Item
from components.dataset.layouts import Layout, unused


def account_findings(layout: Layout) -> list[Finding]:
    """Images, labels and lists that are not used; fatal where their name says that they are a part."""
    return [
        Finding(
            "unread-part", "fatal", "Parts of the dataset that are not used",
            "Their names say that they are for training, validation or testing, and training would go without them.",
            tuple(Item(use.text()) for use in unused(layout, "refused")),
        ),
        Finding(
            "unused", "warning", "Files of the dataset that are not used",
            "Training goes without them. --json has every folder and what it is used for.",
            tuple(Item(use.text()) for use in unused(layout, "unused")),
        ),
    ]  # fmt: skip


def unshown_classes(layout: Layout, labels: Mapping[str, FileFacts]) -> Finding:
    """Classes that the dataset declares itself and that no label shows; none while some label is not understood."""
    classes, ignored = layout.lists.classes, layout.lists.ignore_index
    counts = [facts.ids for facts in labels.values() if facts.ids is not None]
    understood = len(counts) == len(labels) > 0 and not layout.refused
    shown = np.sum(counts, axis=0) if understood else np.ones(256, np.int64)
    wrong = any(shown[number] for number in range(len(classes), 256) if number != ignored)
    hint = (
        f"correct the labels, or take the class out; where their {ignored} is this class and not void, give it to "
        'the class as its "values" in classes.json'
        if shown[ignored]
        else "correct the labels, or take the class out"
    )
    missing = [] if wrong or layout.declared.is_known else np.flatnonzero(shown[: len(classes)] == 0).tolist()
    return Finding(
        "unshown", "fatal", "Classes that no label shows",
        "The labels may not hold what the classes say: values that stand for other classes would be learned as these.",
        tuple(
            Item(
                f"no label shows class {number} ({classes[number].name}): {hint}"
            )
            for number in missing
        ),
    )  # fmt: skip
