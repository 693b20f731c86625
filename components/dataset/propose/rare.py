"""Find classes that are too rare to learn, and merge them."""

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, replace

from components.dataset.propose.classes import VOID, Plan, PlannedClass, with_colors
from components.dataset.propose.contents import Contents
from components.errors import UserError

RARE_IMAGES = 5
"""A class in fewer labels than this is rare, unless it is in a fifth of all."""
RARE_PIXELS = 1e-4
"""A class with a smaller share of the pixels than this is rare."""
INTO_VOID = "void"
_FREQUENT = 5
"""A class in at least one in this many labels is not rare, however few labels there are."""


@dataclass(frozen=True)
class Share:
    """How much of the labels is one class."""

    pixels: int
    images: int


def class_shares(plan: Plan, contents: Contents) -> list[Share]:
    """Return the pixels of each class, and the labels that contain it."""
    means = plan.meanings()
    pixels: Counter[int] = Counter()
    images: Counter[int] = Counter()
    for counts in contents.labels.values():
        for mark, count in counts.items():
            pixels[means.get(mark, VOID)] += count
        images.update({means.get(mark, VOID) for mark in counts})
    return [Share(pixels[index], images[index]) for index in range(len(plan.classes))]


def rare_classes(plan: Plan, contents: Contents) -> list[int]:
    """Return the indices of classes that occur in too few labels or pixels to be learned."""
    total, labels = contents.pixels.total(), len(contents.labels)
    return [
        index
        for index, share in enumerate(class_shares(plan, contents))
        if (share.images < RARE_IMAGES and share.images * _FREQUENT < labels) or share.pixels < RARE_PIXELS * total
    ]


def merged(plan: Plan, rare: Sequence[int], into: str) -> Plan:
    """Return the plan without its rare classes, whose pixels become the class `into`, or void.

    Args:
        into: the name of a class, which may be a new one, or `void`.

    Raises:
        UserError: the dataset has a class file of ours, or fewer than two classes would be left.
    """
    gone = [plan.classes[index] for index in rare if plan.classes[index].name != into]
    if not gone:
        return replace(plan, notes=(*plan.notes, "no other class is too rare to learn"))
    kept = [each for each in plan.classes if each not in gone]
    marks = tuple(mark for each in gone for mark in each.marks)
    if into == INTO_VOID:
        void = (*plan.void, *marks)
    else:
        void, before = plan.void, next((each for each in kept if each.name == into), None)
        joined = before or PlannedClass(min(each.id for each in gone), into, ())
        kept = sorted(
            (*(each for each in kept if each is not before), replace(joined, marks=(*joined.marks, *marks))),
            key=lambda each: each.id,
        )
    if len(kept) < 2:
        raise UserError(f"--merge-rare {into} would leave fewer than two classes: leave it out, or name another class")
    return replace(plan, classes=with_colors(kept), void=void, is_kept=False)
