"""Choose between folders that could all hold the labels of the same images.

`mask` next to `1st_manual` or `gt` is the field of view of a camera, and `masks_color` a picture of `masks`. Where
names decide, a note says so; where they do not, the dataset is refused.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import combinations
from pathlib import Path, PurePosixPath

from components.dataset.layouts.files import is_picture
from components.dataset.layouts.names import label_rank, role_of
from components.errors import UserError

_UNKNOWN = 1.5


@dataclass(frozen=True)
class ChosenLabels:
    labels: Mapping[str, str]
    """The label of each image."""
    passed_over: Mapping[str, str]
    """For each folder of labels that is not read, the folder that is read instead; both by name."""
    folders: frozenset[str]
    """The folders of `passed_over`, relative to the dataset's folder."""

    def notes(self) -> list[str]:
        return [
            f"labels are read from {chosen}/, not from {other}/, because of their names; to read {other}/ instead, "
            f"move {chosen}/ out of the dataset"
            for other, chosen in sorted(self.passed_over.items())
        ]


def choose_labels(root: Path, claims: Mapping[str, Sequence[PurePosixPath]]) -> ChosenLabels:
    """Return one label for each image.

    Args:
        claims: all files that could be an image's label, including those in formats that cannot be read.

    Raises:
        UserError: the names do not say which of two files is the label, or it cannot be read.
    """
    together = {
        (folder_of(one), folder_of(other))
        for labels in claims.values()
        for one, other in combinations(labels, 2)
        if folder_of(one) != folder_of(other)
    }
    passed_over: dict[str, str] = {}
    for one, other in sorted(together):
        winner = _winner(one, other)
        if winner is not None:
            passed_over[other if winner == one else one] = winner
    labels: dict[str, str] = {}
    for image, found in claims.items():
        left = [label for label in found if folder_of(label) not in passed_over]
        if len(left) > 1:
            raise UserError(f"dataset {root}: {left[0]} and {left[1]} both match {image}; {_advice(left)}")
        if left and not is_picture(left[0].name):
            raise UserError(
                f"dataset {root}: {left[0]}, by its name the label of {image}, is in a format that cannot be read: "
                "save the labels as PNG"
            )
        if left:
            labels[image] = str(left[0])
    folders = {str(label.parent) for found in claims.values() for label in found if folder_of(label) in passed_over}
    return ChosenLabels(labels, passed_over, frozenset(folders))


def folder_of(label: PurePosixPath) -> str:
    """Return the name of the innermost folder that is named after labels; "" for labels next to their images."""
    names = [name for name in label.parent.parts if role_of(name) == "label"]
    return names[-1] if names else ""


def _winner(one: str, other: str) -> str | None:
    """Return the folder that holds the labels by the names of both; None if these do not say."""
    # A name without a clue ranks above one for pictures of the labels, and below one that says `semantic`.
    first, second = (_UNKNOWN if (rank := label_rank(name)) is None else rank for name in (one, other))
    if first == second or (_UNKNOWN in (first, second) and min(first, second) >= 1 and max(first, second) <= 2):
        return None
    return one if first > second else other


def _advice(labels: Sequence[PurePosixPath]) -> str:
    folders = {folder_of(label) for label in labels}
    if len(folders) == 1:
        return "remove one label"
    return f"move the one that holds no labels out of the dataset: {labels[0].parent}/ or {labels[1].parent}/"
