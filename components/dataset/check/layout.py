"""Find problems of the layout: files that are not used, and classes that no label contains."""

from collections.abc import Mapping

import numpy as np

from components.dataset.check.facts import FileFacts
from components.dataset.check.findings import Finding, Item
from components.dataset.layouts import Layout, unused

_NO_BACKGROUND = 'every pixel is annotated; list the other classes in classes.json with "ignore_names": ["background"]'


def account_findings(layout: Layout) -> list[Finding]:
    """Report unused images, labels and lists; fatal if they are named like a part of the dataset."""
    return [
        Finding(
            "unread-part", "fatal", "Unused parts of the dataset",
            "Their names say that they are for training, validation or testing, but training would ignore them.",
            tuple(Item(use.text()) for use in unused(layout, "refused")),
        ),
        Finding(
            "unused", "warning", "Unused files",
            "Training ignores them. --json lists what every folder is used for.",
            tuple(Item(use.text()) for use in unused(layout, "unused")),
        ),
    ]  # fmt: skip


def unshown_classes(layout: Layout, labels: Mapping[str, FileFacts]) -> Finding:
    """Report classes that the dataset itself declares but no label contains; only once all labels are understood."""
    classes, ignored = layout.lists.classes, layout.lists.ignore_index
    counts = [facts.ids for facts in labels.values() if facts.ids is not None]
    understood = len(counts) == len(labels) > 0 and not layout.refused
    pixels = np.sum(counts, axis=0) if understood else np.ones(256, np.int64)
    wrong = any(pixels[number] for number in range(len(classes), 256) if number != ignored)
    hint = (
        f"correct the labels or remove the class; if {ignored} means this class and not void, add it to the class's "
        '"values" in classes.json'
        if pixels[ignored]
        else "correct the labels or remove the class"
    )
    hints = {layout.declared.background: _NO_BACKGROUND}
    missing = [] if wrong or layout.declared.is_known else np.flatnonzero(pixels[: len(classes)] == 0).tolist()
    return Finding(
        "unshown", "fatal", "Classes that no label contains",
        "The labels may not match the declared classes: values that mean other classes would be learned as these.",
        tuple(
            Item(
                f"no label contains class {number} ({classes[number].name}): {hints.get(number, hint)}"
            )
            for number in missing
        ),
    )  # fmt: skip
