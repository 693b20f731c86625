"""Find images that are in two parts: the same name, an identical file, or a near duplicate."""

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from itertools import combinations

import numpy as np

from components.dataset.check.facts import FileFacts
from components.dataset.check.findings import Finding, Item
from components.dataset.check.perceptual import MAX_DISTANCE, nearest
from components.dataset.manifest import Lists, Sample
from components.dataset.ranking import group_name
from components.errors import UserError
from components.recipes.model import AUTO
from components.units import quantity

PARTS = ("labeled", "unlabeled", "val", "test")
WORDS = {"labeled": "labelled training", "unlabeled": "training", "val": "val"}

LEAKS = "Labelled training images in val"
OVERLAPS = "Images in two parts"
COPIES = "Exact copies"
NEAR_DUPLICATES = "Near duplicates across parts"


def parts_of(lists: Lists) -> dict[str, list[str]]:
    """Return each part's image names without repetition. Unlabelled images have no label at any ratio."""
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
    """Return every image once, with its label if any list gives one."""
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
    """Report images that the lists put in two parts; fatal if val labels would be used for training."""
    parts = parts_of(lists)
    fatal: list[Item] = []
    others: list[Item] = []
    for first, second in combinations(PARTS, 2):
        both = set(parts[second])
        items = fatal if (first, second) == ("labeled", "val") else others
        items += [
            Item(f"{name} is both a {WORDS[first]} image and in {second}: remove it from one list", image=name)
            for name in parts[first]
            if name in both
        ]
    return [
        Finding(
            "leak", "fatal", LEAKS,
            "A label that was trained on cannot measure the network. Remove each image from one of the lists.",
            tuple(fatal),
        ),
        Finding(
            "overlap", "warning", OVERLAPS,
            "A network scores better on images it has seen. Remove each image from one of the lists.",
            tuple(others),
        ),
    ]  # fmt: skip


def copies(parts: Mapping[str, Sequence[str]], facts: Mapping[str, FileFacts]) -> Finding:
    """Report identical files with different names; copies across parts come first. Skips unreadable files."""
    part_of = _part_of(parts)
    same: dict[str, list[str]] = {}
    for name in part_of:
        if name in facts and not facts[name].problem:
            same.setdefault(facts[name].sha256, []).append(name)
    pairs = [(names[0], other) for names in same.values() for other in names[1:]]
    pairs.sort(key=lambda pair: part_of[pair[0]] == part_of[pair[1]])
    return Finding(
        "copies", "warning", COPIES,
        "Identical files under two names. Copies between training and val or test inflate the score; copies within a "
        "part only give the image more weight.",
        tuple(
            Item(f"{b} ({_spelled(part_of[b])}) is a copy of {a} ({_spelled(part_of[a])})", image=a, other=b)
            for a, b in pairs
        ),
    )  # fmt: skip


def near_duplicates(parts: Mapping[str, Sequence[str]], facts: Mapping[str, FileFacts]) -> list[Finding]:
    """Report near duplicates across parts: each image with its closest match, closest pairs first."""
    within_training: list[tuple[int, Item]] = []
    leaks: list[tuple[int, Item]] = []
    for first, second in combinations(PARTS, 2):
        items = within_training if second == "unlabeled" else leaks
        items += _near_pairs(parts, facts, first, second)
    return [
        Finding(
            "near", "warning", NEAR_DUPLICATES,
            "Often consecutive frames of a video. Between training and val or test they inflate the score compared "
            "with new scenes; split by sequence instead.",
            _nearest_first(leaks),
        ),
        Finding(
            "near-unlabeled", "fine", "Unlabelled images that look like labelled ones",
            "Not a problem: training just learns little from them.",
            _nearest_first(within_training),
        ),
    ]  # fmt: skip


def shared_sequences(parts: Mapping[str, Sequence[str]]) -> Finding:
    """Report sequences with frames in both training and val, if the file names contain the sequence."""
    counts = {part: _sequences(parts[part]) for part in ("labeled", "unlabeled", "val")}
    training = counts["labeled"] + counts["unlabeled"]
    return Finding(
        "sequence", "warning", "Sequences in both training and val",
        "Their frames share the scene, the light and the camera, so the score says less about other places.",
        tuple(
            Item(f"sequence {name}: {_images('training', training[name])} and {_images('val', number)}")
            for name, number in sorted(counts["val"].items())
            if training[name]
        ),
    )  # fmt: skip


def _images(part: str, number: int) -> str:
    return quantity(number, f"{part} image")


def _sequences(images: Sequence[str]) -> Counter[str]:
    """Return the number of images in each sequence; empty if any name does not contain its sequence."""
    try:
        return Counter(group_name(image, AUTO) for image in images)
    except UserError:
        return Counter()


def _near_pairs(
    parts: Mapping[str, Sequence[str]], facts: Mapping[str, FileFacts], first: str, second: str
) -> Iterator[tuple[int, Item]]:
    queries = [facts[name] for name in parts[second] if name in facts and facts[name].image_hash is not None]
    candidates = [facts[name] for name in parts[first] if name in facts and facts[name].image_hash is not None]
    if not queries or not candidates:
        return
    index, distance = nearest(np.array([f.image_hash for f in queries]), np.array([f.image_hash for f in candidates]))
    for one, place, bits in zip(queries, index.tolist(), distance.tolist(), strict=True):
        other = candidates[place]
        # Identical files are copies, or one image in two lists; other checks report those.
        if bits <= MAX_DISTANCE and one.sha256 != other.sha256:
            near = f"{other.name} ({_spelled(first)})"
            text = f"{one.name} ({_spelled(second)}) looks like {near}: {bits} of 256 bits differ"
            yield bits, Item(text, image=other.name, other=one.name)


def _nearest_first(found: Sequence[tuple[int, Item]]) -> tuple[Item, ...]:
    return tuple(item for _, item in sorted(found, key=lambda pair: pair[0]))


def _spelled(part: str) -> str:
    return part.replace("labeled", "labelled")


def _part_of(parts: Mapping[str, Sequence[str]]) -> dict[str, str]:
    """Return the first part that each image is in."""
    found: dict[str, str] = {}
    for part in PARTS:
        for name in parts[part]:
            found.setdefault(name, part)
    return found
