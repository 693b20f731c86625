"""Rank training images: the first ones are labelled even at the smallest ratio.

Images, or groups of them, are ranked by the sha256 of `"<seed>:<name>"`. With stratification, the smallest set of
images (or groups) that contains every class comes first. A split takes a prefix of the ranking, so the splits of all
ratios are nested, whatever the settings.
"""

import hashlib
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

from components.dataset.manifest import Sample
from components.errors import UserError
from components.recipes.model import AUTO

ClassSet = int
"""A bit mask with one bit for each class id."""

_AUTO = (
    # Cityscapes: aachen_000012_000019_leftImg8bit.png is city, sequence, frame.
    re.compile(r"(?:^|/)([a-zA-Z-]+_[0-9]{6})_[0-9]{6}(?:_[^/]*)?\.[^./]+$"),
    # CamVid: 0001TP_006690.jpg and Seq05VD_f00030.png are video and frame.
    re.compile(r"(?:^|/)([0-9]{4}[A-Z][A-Z0-9]|Seq[0-9]{2}VD)_f?[0-9]+(?:_[^/]*)?\.[^./]+$"),
)
_SEARCH_BUDGET = 10_000_000
"""Search budget for the smallest cover, in tests of one class in one set; about a second. If it runs out, the best
cover so far is used. Counting tests instead of time gives the same answer on every machine."""
_MAX_PRUNED = 3_000
"""With more distinct sets than this, dominated sets are not pruned."""


@dataclass(frozen=True)
class Group:
    """Images that are labelled together: a single image or a sequence."""

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
    """Return all samples as ranked groups.

    Args:
        group_by: the recipe's setting `split.group_by`.
        classes: the class ids in each label, by the label's name; if given, the ranking is stratified.

    Raises:
        UserError: `group_by` does not match an image's name.
    """
    groups: dict[str, list[Sample]] = {}
    for sample in samples:
        groups.setdefault(group_name(sample.image, group_by), []).append(sample)
    return rank(groups, seed, classes)


def rank(
    groups: Mapping[str, Sequence[Sample]], seed: int, classes: Mapping[str, Sequence[int]] | None = None
) -> list[Group]:
    """Return groups of samples, by name, in the order of their hashes; with `classes`, a cover of these comes first."""
    order = sorted(groups, key=lambda name: hashlib.sha256(f"{seed}:{name}".encode()).digest())
    ranked = [Group(name, tuple(groups[name]), _classes_of(groups[name], classes or {})) for name in order]
    return ranked if classes is None else _cover_first(ranked)


def group_name(image: str, group_by: str) -> str:
    """Return the name of an image's group; without `group_by`, the image's own name.

    Raises:
        UserError: `group_by` does not match the name.
    """
    if not group_by:
        return image
    found = known_sequence(image) if group_by == AUTO else _matched(image, re.compile(group_by))
    if found is not None:
        return found
    if group_by == AUTO:
        raise UserError(
            f"split.group_by 'auto' recognises file names of Cityscapes and CamVid only, not {image!r}: "
            "use a regular expression that matches the sequence in the name"
        )
    raise UserError(f"split.group_by {group_by!r} does not match the name {image!r}: correct the expression")


def known_sequence(image: str) -> str | None:
    """Return the sequence that an image of Cityscapes or CamVid belongs to by its name; None for any other name."""
    return next((found for expression in _AUTO if (found := _matched(image, expression)) is not None), None)


def _matched(image: str, expression: re.Pattern[str]) -> str | None:
    match = expression.search(image)
    return None if match is None else "/".join(part or "" for part in match.groups() or (match[0],))


def prefix_length(sizes: Sequence[int], wanted: int) -> int:
    """Return how many of the first groups come closest to `wanted` images: at least 1, and in a tie the larger number.

    The result never decreases as `wanted` grows, so splits stay nested.
    """
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
    """Return the indices of sets that together contain every class in any set, at the smallest total cost.

    There are few classes and many images, so branching on the rarest class finds the exact answer, within
    _SEARCH_BUDGET. Among equal covers the first one found wins, so the answer depends on the input alone. The set that
    adds the most classes comes first, so that even a part of the cover misses few.
    """
    every = 0
    for classes in sets:
        every |= classes
    candidates = _undominated(sets, costs)
    best = _greedy(every, candidates, sets, costs)
    budget = [_SEARCH_BUDGET]
    for found in _better_covers(every, candidates, sets, costs, sum(costs[i] for i in best), budget):
        best = found
    return _greedy(every, sorted(best), sets, [1] * len(costs))


def _undominated(sets: Sequence[ClassSet], costs: Sequence[int]) -> list[int]:
    """Drop sets whose classes another set contains at no higher cost; among equals, keep the first."""
    order = sorted(range(len(sets)), key=lambda i: (-sets[i].bit_count(), costs[i], i))
    distinct = {sets[index]: index for index in reversed(order)}
    if len(distinct) > _MAX_PRUNED:
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
    """Yield covers of `missing`, each cheaper than `bound` and than the previous one."""
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
