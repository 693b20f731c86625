"""Labelled, unlabelled, val and test: images that are in two of them, by name, by bytes, or by looks."""

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from itertools import combinations

import numpy as np

from components.dataset.check.facts import FileFacts
from components.dataset.check.findings import Finding, Item
from components.dataset.check.perceptual import ALIKE, nearest
from components.dataset.manifest import Lists, Sample
from components.dataset.ranking import group_name
from components.errors import UserError
from components.recipes.model import AUTO

PARTS = ("labeled", "unlabeled", "val", "test")
WORDS = {"labeled": "labelled training", "unlabeled": "training", "val": "val"}

LEAKS = "Labelled training images that are in val"
OVERLAPS = "Images in two parts at once"
COPIES = "Exact copies"
ALIKES = "Near duplicates across parts"


def parts_of(lists: Lists) -> dict[str, list[str]]:
    """Image names by part, each once in its part. Unlabelled are those that have a label at no ratio."""
    labeled = [sample.image for sample in lists.train]
    unlabeled = list(lists.unlabeled)
    for own in lists.ratio_lists.values():
        labeled += [sample.image for sample in own.labeled]
    known = set(labeled)
    for own in lists.ratio_lists.values():
        unlabeled += [image for image in own.unlabeled if image not in known]
    found = {
        "labeled": labeled,
        "unlabeled": unlabeled,
        "val": [sample.image for sample in lists.val],
        "test": [sample.image for sample in lists.test],
    }
    return {part: list(dict.fromkeys(names)) for part, names in found.items()}


def all_samples(lists: Lists) -> list[Sample]:
    """Every image once, with its label where any list gives one."""
    labels: dict[str, Sample] = {sample.image: sample for sample in (*lists.train, *lists.val, *lists.test)}
    for own in lists.ratio_lists.values():
        for sample in own.labeled:
            labels[sample.image] = sample
        for image in own.unlabeled:
            labels.setdefault(image, Sample(image=image))
    for image in lists.unlabeled:
        labels.setdefault(image, Sample(image=image))
    return list(labels.values())


def overlaps(lists: Lists) -> list[Finding]:
    """Images that the lists name in two parts. Fatal where labels of val would be trained on."""
    parts = parts_of(lists)
    fatal: list[Item] = []
    others: list[Item] = []
    for first, second in combinations(PARTS, 2):
        both = set(parts[second])
        place = fatal if (first, second) == ("labeled", "val") else others
        place += [
            Item(f"{name} is both a {WORDS[first]} image and in {second}: take it off one list", image=name)
            for name in parts[first]
            if name in both
        ]
    return [
        Finding(
            "leak", "fatal", LEAKS,
            "A network that has seen a label is not measured by it. Take each off one of the lists.",
            tuple(fatal),
        ),
        Finding(
            "overlap", "warning", OVERLAPS,
            "A network that has seen an image scores better on it than on new ones. Take each off one of the lists.",
            tuple(others),
        ),
    ]  # fmt: skip


def copies(parts: Mapping[str, Sequence[str]], facts: Mapping[str, FileFacts]) -> Finding:
    """Images of different names and the same bytes, in one part or two; those between two parts first."""
    part_of = _part_of(parts)
    same: dict[str, list[str]] = {}
    for name in part_of:
        if name in facts:
            same.setdefault(facts[name].sha256, []).append(name)
    pairs = [(names[0], other) for names in same.values() for other in names[1:]]
    pairs.sort(key=lambda pair: part_of[pair[0]] == part_of[pair[1]])
    return Finding(
        "copies", "warning", COPIES,
        "Files of the same bytes under two names. Between training and val or test they make the score better than "
        "the network is; within a part they only weigh more than others.",
        tuple(
            Item(f"{b} ({_said(part_of[b])}) is a copy of {a} ({_said(part_of[a])})", image=a, other=b)
            for a, b in pairs
        ),
    )  # fmt: skip


def look_alikes(parts: Mapping[str, Sequence[str]], facts: Mapping[str, FileFacts]) -> list[Finding]:
    """Images for which another part has one that looks the same: each with its nearest, the nearest pairs first."""
    within_training: list[tuple[int, Item]] = []
    leaks: list[tuple[int, Item]] = []
    for first, second in combinations(PARTS, 2):
        place = within_training if second == "unlabeled" else leaks
        place += _alike(parts, facts, first, second)
    return [
        Finding(
            "near", "warning", ALIKES,
            "Often neighbouring frames of a film. Between training and val or test they make the score better than "
            "it would be on new scenes; split by sequence instead.",
            _nearest_first(leaks),
        ),
        Finding(
            "near-unlabeled", "fine", "Unlabelled images that look like labelled ones",
            "No fault: the training learns little new from them.",
            _nearest_first(within_training),
        ),
    ]  # fmt: skip


def shared_sequences(parts: Mapping[str, Sequence[str]]) -> Finding:
    """Films of which some frames are trained on and others in val, where the names say the film."""
    counts = {part: _sequences(parts[part]) for part in ("labeled", "unlabeled", "val")}
    training = counts["labeled"] + counts["unlabeled"]
    return Finding(
        "sequence", "warning", "Sequences on both sides of training and val",
        "Their frames share the street, the light and the camera: the score says less of other places.",
        tuple(
            Item(f"sequence {name}: {_images('training', training[name])} and {_images('val', number)}")
            for name, number in sorted(counts["val"].items())
            if training[name]
        ),
    )  # fmt: skip


def _images(part: str, number: int) -> str:
    return f"{number:,} {part} image{'' if number == 1 else 's'}"


def _sequences(images: Sequence[str]) -> Counter[str]:
    """Number of images by sequence; empty where a name does not say it."""
    try:
        return Counter(group_name(image, AUTO) for image in images)
    except UserError:
        return Counter()


def _alike(
    parts: Mapping[str, Sequence[str]], facts: Mapping[str, FileFacts], first: str, second: str
) -> Iterator[tuple[int, Item]]:
    ours = [facts[name] for name in parts[second] if name in facts and facts[name].looks is not None]
    theirs = [facts[name] for name in parts[first] if name in facts and facts[name].looks is not None]
    if not ours or not theirs:
        return
    index, distance = nearest(np.array([f.looks for f in ours]), np.array([f.looks for f in theirs]))
    for one, place, bits in zip(ours, index.tolist(), distance.tolist(), strict=True):
        other = theirs[place]
        # Of the same bytes: a copy, or one image in two lists, which are findings of their own.
        if bits <= ALIKE and one.sha256 != other.sha256:
            text = f"{one.name} ({_said(second)}) looks like {other.name} ({_said(first)}): {bits} of 256 bits differ"
            yield bits, Item(text, image=other.name, other=one.name)


def _nearest_first(found: Sequence[tuple[int, Item]]) -> tuple[Item, ...]:
    return tuple(item for _, item in sorted(found, key=lambda pair: pair[0]))


def _said(part: str) -> str:
    return part.replace("labeled", "labelled")


def _part_of(parts: Mapping[str, Sequence[str]]) -> dict[str, str]:
    """The first part that an image is in."""
    found: dict[str, str] = {}
    for part in PARTS:
        for name in parts[part]:
            found.setdefault(name, part)
    return found
