"""Choose the images to hold out for validation: whole sequences if names show them, with every class if possible."""

import math
import re
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

from components.dataset.manifest import Sample
from components.dataset.propose.groups import Name, levels, numbered_blocks, parse_name
from components.dataset.ranking import ClassSet, Group, class_set, group_name, rank
from components.errors import UserError
from components.metrics.bootstrap import FEW_IMAGES
from components.recipes.model import AUTO

NONE = "none"
"""The value of --group-by for a random choice of single images."""
ENOUGH_IMAGES = 5
"""Validation images should contain every class that is in this many labels."""
USUAL_SHARE = 0.2
_BLOCK = 10
"""Minimum length of a block of consecutive frames, unless fewer images are to be held out."""
_MOST_BLOCKS = 4

Method = Literal["sequences", "blocks", "random"]


@dataclass(frozen=True)
class Holdout:
    """A validation split."""

    method: Method
    train: tuple[Sample, ...]
    val: tuple[Sample, ...]
    groups: tuple[str, ...]
    """The sequences or blocks in val; empty for single images."""
    missing: tuple[int, ...]
    """Class ids that are in enough labels but not in val."""


def default_share(labeled: int) -> float:
    """Return the share of the labelled images to hold out: a fifth, or ten images if at least twenty remain.

    With fewer than ten, a report cannot say whether a network is good.
    """
    return FEW_IMAGES / labeled if 3 * FEW_IMAGES <= labeled < FEW_IMAGES / USUAL_SHARE else USUAL_SHARE


def hold_out(
    samples: Sequence[Sample],
    classes: Mapping[str, Sequence[int]],
    *,
    share: float = USUAL_SHARE,
    seed: int = 0,
    group_by: str = AUTO,
) -> Holdout:
    """Hold out a part of the labelled samples.

    Args:
        samples: all with a label; at least two.
        classes: the class ids in each label, by the label's name.
        share: how many of the images to hold out, 0 to 1.
        group_by: `auto` to find sequences in the names; `none`; or a regular expression, as `split.group_by`.

    Raises:
        UserError: fewer than two samples, or `group_by` is malformed, does not match a name, or matches all alike.
    """
    if len(samples) < 2:
        raise UserError("too few labelled images to hold one out for validation: at least two are needed")
    wanted = max(1, round(len(samples) * share))
    best: Holdout | None = None
    for method, groups in _groupings(samples, wanted, group_by):
        found = _held_out(method, groups, samples, classes, wanted, seed)
        if method != "sequences" and best is not None:
            break
        is_close = wanted <= 2 * len(found.val) <= 4 * wanted
        if not found.val or (method == "sequences" and group_by == AUTO and not is_close):
            continue
        if best is None or len(found.missing) < len(best.missing):
            best = found
        if not best.missing:
            break
    if best is None:
        raise UserError(f"--group-by {group_by} puts nearly all images into one group: use a finer expression, or none")
    return best


def _groupings(samples: Sequence[Sample], wanted: int, group_by: str) -> Iterator[tuple[Method, list[str]]]:
    """Yield ways to group the samples, the most cautious first."""
    if group_by not in (AUTO, NONE):
        try:
            re.compile(group_by)
        except re.error as error:
            raise UserError(f"--group-by {group_by!r} is not a regular expression ({error})") from None
        yield "sequences", [group_name(sample.image, group_by) for sample in samples]
        return
    names = [parse_name(sample.image) for sample in samples]
    if group_by == AUTO:
        for groups in levels(names):
            yield "sequences", groups
        if blocks := numbered_blocks(names, _block_length(wanted)):
            yield "blocks", blocks
    yield "random", _originals(names, samples)


def _block_length(wanted: int) -> int:
    return math.ceil(wanted / min(max(wanted // _BLOCK, 1), _MOST_BLOCKS))


def _originals(names: Sequence[Name], samples: Sequence[Sample]) -> list[str]:
    """Group the copies of one original; other images are on their own, even if a name is used twice."""
    copies = Counter(name.original for name in names)
    return [
        name.original if copies[name.original] > 1 else each.image for name, each in zip(names, samples, strict=True)
    ]


def _held_out(
    method: Method,
    names: Sequence[str],
    samples: Sequence[Sample],
    classes: Mapping[str, Sequence[int]],
    wanted: int,
    seed: int,
) -> Holdout:
    groups: dict[str, list[Sample]] = {}
    for name, sample in zip(names, samples, strict=True):
        groups.setdefault(name, []).append(sample)
    held = Counter[int]()
    for members in groups.values():
        held.update({number for sample in members for number in classes.get(sample.label or "", ())})
    # A class in a single group cannot be in val as well as in train, where it is needed more.
    shared = {label: [number for number in ids if held[number] > 1] for label, ids in classes.items()}
    only = {
        name
        for name, members in groups.items()
        if any(held[number] == 1 for sample in members for number in classes.get(sample.label or "", ()))
    }
    ranked = rank(groups, seed, shared)
    free = [group for group in ranked if group.name not in only]
    chosen = _chosen(free or ranked, wanted, len(samples))
    images = Counter(number for ids in classes.values() for number in set(ids))
    shown = {number for group in chosen for sample in group.samples for number in classes.get(sample.label or "", ())}
    val = {sample.image for group in chosen for sample in group.samples}
    return Holdout(
        method,
        tuple(sample for sample in samples if sample.image not in val),
        tuple(sample for sample in samples if sample.image in val),
        tuple(sorted(group.name for group in chosen)) if method != "random" else (),
        tuple(sorted(number for number, count in images.items() if count >= ENOUGH_IMAGES and number not in shown)),
    )


def _chosen(ranked: Sequence[Group], wanted: int, total: int) -> list[Group]:
    """Return groups of about `wanted` images together; train keeps a group with each class."""
    left = Counter(number for group in ranked for number in _numbers(group.classes))
    chosen: list[Group] = []
    size, shown = 0, class_set(())
    for group in ranked:
        adds = bool(group.classes & ~shown)
        if size >= wanted and not adds:
            continue
        most = wanted * (1.5 if adds or not chosen else 1.25)
        if size + len(group.samples) > min(most, total - 1) or any(
            left[number] == 1 for number in _numbers(group.classes)
        ):
            continue
        left.subtract(_numbers(group.classes))
        shown |= group.classes
        size += len(group.samples)
        chosen.append(group)
    smallest = min(ranked, key=lambda group: len(group.samples))
    return chosen or [smallest] * (len(smallest.samples) < total)


def _numbers(classes: ClassSet) -> Iterator[int]:
    return (number for number in range(classes.bit_length()) if classes >> number & 1)
