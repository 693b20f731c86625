"""Validation splits: whole sequences where names show them, and every class on both sides."""

import random
from collections import Counter
from collections.abc import Mapping, Sequence
from itertools import pairwise

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from components.dataset.manifest import Sample
from components.dataset.propose.groups import parse_name
from components.dataset.propose.holdout import Holdout, default_share, hold_out
from components.errors import UserError

HASH = "0123456789abcdef"


def samples_of(images: Sequence[str]) -> list[Sample]:
    return [Sample(image=image, label=f"labels/{image}") for image in sorted(images)]


def held_out(images: Sequence[str], classes: Mapping[str, Sequence[int]] | None = None, **options: object) -> Holdout:
    """Hold out a part of the images, all with class 0 unless `classes` gives others by image."""
    samples = samples_of(images)
    found = {f"labels/{each.image}": (classes or {}).get(each.image, (0,)) for each in samples}
    split = hold_out(samples, found, **options)  # type: ignore[arg-type]
    assert sorted((*split.train, *split.val), key=lambda each: each.image) == samples
    return split


def images(split: Holdout) -> set[str]:
    return {sample.image for sample in split.val}


@pytest.mark.parametrize(
    ("image", "chain", "number"),
    [
        ("images/train/frame_0001.jpg", ("frame",), 1),
        ("frame0001.png", ("frame",), 1),
        ("images/oslo/IMG_20240501_123017.jpg", ("oslo", "IMG", "20240501"), 123017),
        ("clipA_0003.jpg", ("clipA",), 3),
        ("leftImg8bit/train/aachen/aachen_000012_000019_leftImg8bit.png", ("aachen", "aachen", "000012"), 19),
        ("images/0016E5_07959.png", ("0016E5",), 7959),
        ("cat (12).jpg", ("cat",), 12),
        ("000.jpg", (), 0),
        ("my dog.jpg", ("my", "dog"), None),
        (f"train/street_07_jpg.rf.{HASH * 2}.jpg", ("street",), 7),
        ("images_oslo/1.jpg", ("oslo",), 1),
    ],
)
def test_what_a_name_tells(image: str, chain: tuple[str, ...], number: int | None) -> None:
    name = parse_name(image)
    assert (name.chain, name.number) == (chain, number)


@pytest.mark.parametrize(
    ("labeled", "held"), [(2, 0), (10, 2), (29, 6), (30, 10), (40, 10), (49, 10), (50, 10), (51, 10), (100, 20)]
)
def test_ten_images_are_held_out_where_twice_as_many_remain(labeled: int, held: int) -> None:
    assert round(labeled * default_share(labeled)) == held


def clips(number: int, frames: int, pattern: str = "clip{clip}_{frame:04}.jpg") -> list[str]:
    return [pattern.format(clip="ABCDEFGHIJKL"[clip], frame=frame) for clip in range(number) for frame in range(frames)]


@pytest.mark.parametrize(
    "pattern",
    [
        "clip{clip}_{frame:04}.jpg",
        "images/place{clip}/{frame:04}.jpg",
        "{clip}/images/IMG_{frame}.jpg",
        "IMG_2024050{clip}_{frame:06}.jpg",
        "drive-{clip} frame({frame}).png",
    ],
)
def test_sequences_stay_together(pattern: str) -> None:
    found = clips(10, 7, pattern)
    split = held_out(found)
    assert (split.method, len(split.val)) == ("sequences", 14)
    frames = [len(images(split) & set(found[start : start + 7])) for start in range(0, len(found), 7)]
    assert sorted(frames) == [0] * 8 + [7] * 2


def test_the_coarsest_sequences_are_taken() -> None:
    towns = [f"{town}_{drive:06}_{frame:06}.png" for town in "abcdefgh" for drive in range(5) for frame in range(4)]
    split = held_out(towns)
    assert (split.method, len(split.val), len(split.groups)) == ("sequences", 40, 2)
    assert all(len(group) == 1 for group in split.groups)


def test_finer_sequences_are_taken_if_coarse_ones_lack_a_class() -> None:
    """One town alone has class 1, so only single drives of it can show it on both sides."""
    towns = [f"{town}_{drive:06}_{frame:06}.png" for town in "abcdefgh" for drive in range(5) for frame in range(4)]
    split = held_out(towns, {image: (0, 1) if image.startswith("c") else (0,) for image in towns})
    assert (split.method, split.missing) == ("sequences", ())
    assert all("_" in group or "/" in group for group in split.groups)


def test_frames_of_one_clip_are_divided_in_blocks() -> None:
    split = held_out([f"frame_{number:04}.jpg" for number in range(200)])
    assert (split.method, len(split.val)) == ("blocks", 40)
    numbers = sorted(int(image[6:10]) for image in images(split))
    neighbours = sum(1 for one, two in pairwise(numbers) if two - one > 1)
    assert neighbours < 4
    assert all(" to frame_" in group for group in split.groups)


def test_numbers_count_as_numbers() -> None:
    split = held_out([f"{number}.jpg" for number in range(120)])
    for group in split.groups:
        first, last = (int(text) for text in group.split(" to "))
        assert last - first == 11
    assert split.method == "blocks"


def names_without_sequences(number: int) -> list[str]:
    rng = random.Random(0)
    return ["".join(rng.choices(HASH, k=32)) + ".jpg" for _ in range(number)]


def test_other_images_are_held_out_at_random() -> None:
    found = names_without_sequences(50)
    splits = [held_out(found, seed=seed) for seed in (0, 0, 1)]
    assert [(split.method, len(split.val), split.groups) for split in splits] == [("random", 10, ())] * 3
    assert images(splits[0]) == images(splits[1]) != images(splits[2])
    assert len(held_out(found, share=0.3).val) == 15


def test_copies_of_one_image_stay_together() -> None:
    originals = [name[:9] for name in names_without_sequences(20)]
    found = [f"train/{name}x_jpg.rf.{digit * 32}.jpg" for name in originals for digit in "abc"]
    split = held_out(found)
    assert 9 <= len(split.val) <= 15
    assert set(Counter(image.split("_jpg")[0] for image in images(split)).values()) == {3}


def test_a_clip_that_is_nearly_everything_is_divided() -> None:
    """Whole sequences would hold out far too few or too many."""
    split = held_out([*(f"main_{number:03}.jpg" for number in range(96)), "a_1.jpg", "a_2.jpg", "b_1.jpg", "b_2.jpg"])
    assert split.method == "blocks"
    assert 15 <= len(split.val) <= 25


def test_group_by_is_followed() -> None:
    found = [f"{number:03}_{number % 5}.jpg" for number in range(60)]
    split = held_out(found, group_by=r"_([0-9])\.")
    assert (split.method, len(split.val), len(split.groups)) == ("sequences", 12, 1)
    assert held_out(found, group_by="none").method == "random"
    with pytest.raises(UserError, match="all images into one group"):
        held_out(found, group_by=r"\.(jpg)")
    with pytest.raises(UserError, match="does not match the name"):
        held_out(found, group_by="clip")


def test_one_image_cannot_be_divided() -> None:
    with pytest.raises(UserError, match="too few labelled images"):
        held_out(["1.jpg"])


def test_a_class_in_one_sequence_stays_in_training() -> None:
    found = clips(5, 4)
    for clip in "ABCDE":
        split = held_out(found, {image: (0, 1) if image.startswith(f"clip{clip}") else (0,) for image in found})
        assert not any(image.startswith(f"clip{clip}") for image in images(split))


def test_a_class_in_few_images_is_held_out_first() -> None:
    found = names_without_sequences(60)
    for start in range(0, 60, 5):
        chosen = found[start : start + 5]
        split = held_out(found, {image: (0, 1) if image in chosen else (0,) for image in found})
        assert (len(split.val), split.missing) == (12, ())
        assert 0 < len(images(split) & set(chosen)) < 5


@settings(max_examples=30)
@given(st.data())
def test_every_class_is_on_both_sides_if_possible(data: st.DataObject) -> None:
    """Single images: a class in two images is in train, and one in five images is in val too."""
    found = names_without_sequences(data.draw(st.integers(2, 30), "images"))
    classes = {image: data.draw(st.sets(st.integers(0, 6), max_size=7)) for image in found}
    split = held_out(found, {image: sorted(ids) for image, ids in classes.items()})
    counts = Counter(number for ids in classes.values() for number in ids)
    in_train, in_val = (
        {number for sample in part for number in classes[sample.image]} for part in (split.train, split.val)
    )
    assert in_train == set(counts) or len(found) < 3
    assert split.missing == tuple(
        sorted(number for number, count in counts.items() if count >= 5 and number not in in_val)
    )
    assert 1 <= len(split.val) <= max(1, 1.5 * round(0.2 * len(found)))
