"""The order in which training images keep their labels: whoever comes first is labelled at the smaller ratio.

Images, or groups of them, are ranked by the sha256 of `"<seed>:<name>"`. Stratified, the fewest images (or groups)
that together show every class come first. A split takes a prefix of the order, so that splits of all ratios are
nested whatever the settings.
"""

import hashlib
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

from components.dataset.manifest import Sample
from components.errors import UserError
from components.recipes.model import AUTO

ClassSet = int
"""A bit for each class id."""

_AUTO = (
    # Cityscapes: aachen_000012_000019_leftImg8bit.png, city, sequence, frame.
    re.compile(r"(?:^|/)([a-zA-Z-]+_[0-9]{6})_[0-9]{6}(?:_[^/]*)?\.[^./]+$"),
    # CamVid: 0001TP_006690.jpg, Seq05VD_f00030.png, the film and its frame.
    re.compile(r"(?:^|/)([0-9]{4}[A-Z0-9]{2}|Seq[0-9]{2}VD)_f?[0-9]+(?:_[^/]*)?\.[^./]+$"),
)
_MOST_WORK = 10_000_000
"""Looks at a class in a set while the smallest cover is searched, about a second. Counted, not timed, so that every
machine comes to the same answer; where they do not suffice, it is the best cover found so far."""
_MOST_COMPARED = 3_000
"""Sets among which those that another one makes superfluous are sought."""


@dataclass(frozen=True)
class Group:
    """Images that are labelled together: one, or those of a sequence."""

    name: str
    samples: tuple[Sample, ...]
    classes: ClassSet = 0


def class_set(ids: Sequence[int]) -> ClassSet:
    return sum(1 << class_id for class_id in set(ids))


def ranked_groups(
    samples: Sequence[Sample],
    seed: int,
    *,
    group_by: str = "",
    classes: Mapping[str, Sequence[int]] | None = None,
) -> list[Group]:
    """All samples in the documented order.

    Args:
        group_by: as the recipe's setting `split.group_by`.
        classes: the class ids in each label, by the label's name; given, the order is stratified.

    Raises:
        UserError: an image's name has no part that `group_by` describes.
    """
    groups: dict[str, list[Sample]] = {}
    for sample in samples:
        groups.setdefault(group_name(sample.image, group_by), []).append(sample)
    order = sorted(groups, key=lambda name: hashlib.sha256(f"{seed}:{name}".encode()).digest())
    ranked = [Group(name, tuple(groups[name]), _classes_of(groups[name], classes or {})) for name in order]
    return ranked if classes is None else _cover_first(ranked)


def group_name(image: str, group_by: str) -> str:
    """What an image is labelled together with: its own name where `group_by` is empty.

    Raises:
        UserError: the name has no such part.
    """
    if not group_by:
        return image
    expressions: Sequence[re.Pattern[str]] = _AUTO if group_by == AUTO else (re.compile(group_by),)
    for expression in expressions:
        match = expression.search(image)
        if match:
            parts = match.groups() or (match[0],)
            return "/".join(part or "" for part in parts)
    if group_by == AUTO:
        raise UserError(
            f"split.group_by 'auto' knows the names of Cityscapes and CamVid, and {image!r} is neither: "
            "give a regular expression for the sequence in a name"
        )
    raise UserError(f"split.group_by {group_by!r} finds nothing in the name {image!r}: correct the expression")


def prefix_length(sizes: Sequence[int], wanted: int) -> int:
    """How many groups come nearest to `wanted` images, one at least; of two as near, the more. Grows with `wanted`."""
    best, total = 0, 0
    distance = None
    for count, size in enumerate(sizes, start=1):
        total += size
        if distance is None or abs(total - wanted) <= distance:
            best, distance = count, abs(total - wanted)
    return best


def _classes_of(samples: Sequence[Sample], classes: Mapping[str, Sequence[int]]) -> ClassSet:
    together = 0
    for sample in samples:
        together |= class_set(classes.get(sample.label or "", ()))
    return together


def _cover_first(ranked: list[Group]) -> list[Group]:
    cover = smallest_cover([group.classes for group in ranked], [len(group.samples) for group in ranked])
    chosen = set(cover)
    return [ranked[index] for index in cover] + [group for index, group in enumerate(ranked) if index not in chosen]


def smallest_cover(sets: Sequence[ClassSet], costs: Sequence[int]) -> list[int]:
    """Indices of sets that together hold every class that any holds, at the smallest total cost.

    Classes are few and images many, so that the exact answer is found by branching on the rarest class; see
    _MOST_WORK for the exception. Of equal covers the one found first, so the answer depends on the input alone.
    The set that adds the most classes is first, so that a part of the cover misses few.
    """
    every = 0
    for classes in sets:
        every |= classes
    candidates = _undominated(sets, costs)
    best = _greedy(every, candidates, sets, costs)
    budget = [_MOST_WORK]
    for found in _better_covers(every, candidates, sets, costs, sum(costs[i] for i in best), budget):
        best = found
    return _greedy(every, sorted(best), sets, [1] * len(costs))


def _undominated(sets: Sequence[ClassSet], costs: Sequence[int]) -> list[int]:
    """Without those for which another holds as many classes at no higher cost; of equals the first stays."""
    order = sorted(range(len(sets)), key=lambda i: (-sets[i].bit_count(), costs[i], i))
    distinct = {sets[index]: index for index in reversed(order)}
    if len(distinct) > _MOST_COMPARED:
        return sorted(distinct.values())
    kept: list[int] = []
    for index in order:
        if not any(sets[index] | sets[k] == sets[k] and costs[k] <= costs[index] for k in kept):
            kept.append(index)
    return sorted(kept)


def _greedy(every: ClassSet, candidates: Sequence[int], sets: Sequence[ClassSet], costs: Sequence[int]) -> list[int]:
    chosen: list[int] = []
    while every:
        missing = every
        index = max(candidates, key=lambda i: ((sets[i] & missing).bit_count() / costs[i], -i))
        chosen.append(index)
        every &= ~sets[index]
    return chosen


def _better_covers(
    missing: ClassSet,
    candidates: Sequence[int],
    sets: Sequence[ClassSet],
    costs: Sequence[int],
    bound: int,
    budget: list[int],
) -> Iterator[list[int]]:
    """Covers of `missing`, each cheaper than `bound` and than the one before."""
    if not missing:
        if bound > 0:
            yield []
        return
    candidates = [i for i in candidates if sets[i] & missing]
    most = max((sets[i] & missing).bit_count() for i in candidates)
    cheapest = min(costs[i] for i in candidates)
    if -(-missing.bit_count() // most) * cheapest >= bound or budget[0] <= 0:
        return
    budget[0] -= len(candidates) * missing.bit_count()
    holders = {
        bit: [i for i in candidates if sets[i] >> bit & 1] for bit in range(missing.bit_length()) if missing >> bit & 1
    }
    rarest = min(holders, key=lambda bit: len(holders[bit]))
    for index in sorted(holders[rarest], key=lambda i: (-(sets[i] & missing).bit_count(), i)):
        rest = missing & ~sets[index]
        for found in _better_covers(rest, candidates, sets, costs, bound - costs[index], budget):
            cover = [index, *found]
            bound = sum(costs[i] for i in cover)
            yield cover
