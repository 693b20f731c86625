from fractions import Fraction

import pytest
from hypothesis import given
from hypothesis import strategies as st

from components.contract import Class
from components.dataset.manifest import Manifest, RatioLists, Sample
from components.dataset.split import split_labels
from components.errors import UserError
from components.labeled_ratio import labels_text, parse_ratio, ratio_text

EXPECTED_ORDER = ["i/3.png", "i/1.png", "i/0.png", "i/5.png", "i/7.png", "i/6.png", "i/2.png", "i/4.png"]


def manifest(train: int, unlabeled: tuple[str, ...] = (), own: dict[str, RatioLists] | None = None) -> Manifest:
    return Manifest(
        digest="d" * 64,
        name="tiny",
        layout="lists",
        classes=(Class(name="a", color=(0, 0, 0)), Class(name="b", color=(1, 1, 1))),
        train=tuple(Sample(image=f"i/{n}.png", label=f"l/{n}.png") for n in range(train)),
        val=(Sample(image="i/v.png", label="l/v.png"),),
        unlabeled=unlabeled,
        ratio_lists=own or {},
        files={},
        shards=(),
    )


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("1/8", Fraction(1, 8)),
        (" 2/16 ", Fraction(1, 8)),
        ("3/4", Fraction(3, 4)),
        ("1/1", Fraction(1)),
        ("0.125", Fraction(1, 8)),
        (".5", Fraction(1, 2)),
        ("1", Fraction(1)),
        ("1.", Fraction(1)),
        ("12.5%", Fraction(1, 8)),
        ("12.5 %", Fraction(1, 8)),
        ("100%", Fraction(1)),
        ("0.1", Fraction(1, 10)),
    ],
)
def test_a_ratio_is_read_exactly(text: str, value: Fraction) -> None:
    assert parse_ratio(text) == value


NO_RATIOS = [
    "",
    "0",
    ".",
    "%",
    "0%",
    "1.01",
    "101%",
    "1/8%",
    "1,5",
    "1e-1",
    "0/8",
    "1/0",
    "9/8",
    "-1/8",
    "1/8/2",
    "1 / 8",
]


@pytest.mark.parametrize("text", [*NO_RATIOS, "a/b", "1/8x", "nan", "١/٨", "٠.٥"])
def test_what_is_no_ratio_is_refused_with_an_example(text: str) -> None:
    with pytest.raises(UserError) as error:
        parse_ratio(text)
    assert (
        str(error.value) == f"labelled ratio {text!r} is not a fraction above 0 and up to 1: write 1/8, 0.125 or 12.5%"
    )


@given(st.integers(1, 10**6), st.integers(1, 10**6))
def test_text_and_ratio_go_both_ways(a: int, b: int) -> None:
    low, high = sorted((a, b))
    assert parse_ratio(ratio_text(Fraction(low, high))) == Fraction(low, high)


@pytest.mark.parametrize(("text", "said"), [("1/8", "1/8 of the labels"), ("1/1", "all labels"), ("4/4", "all labels")])
def test_a_ratio_is_said_to_people(text: str, said: str) -> None:
    assert labels_text(text) == said


def test_the_ranking_is_the_documented_one() -> None:
    # By sha256("3:<image>"), worked out apart from the code: another order would change every user's splits.
    split = split_labels(manifest(8), "1/4", 3)
    assert [sample.image for sample in split.labeled] == EXPECTED_ORDER[:2]
    assert list(split.unlabeled) == EXPECTED_ORDER[2:]
    assert split.origin == "seeded"


@given(st.integers(2, 60), st.integers(0, 5), st.sampled_from([(1, 16), (1, 8), (1, 4), (1, 2), (1, 1)]))
def test_splits_are_nested_and_cover_every_image_once(count: int, seed: int, ratio: tuple[int, int]) -> None:
    data = manifest(count, unlabeled=("extra.png",))
    fraction = Fraction(*ratio)
    expected = int(count * fraction + Fraction(1, 2))
    if expected == 0:
        with pytest.raises(UserError):
            split_labels(data, fraction, seed)
        return
    split = split_labels(data, fraction, seed)
    labeled = [sample.image for sample in split.labeled]
    assert len(labeled) == expected
    assert sorted([*labeled, *split.unlabeled]) == sorted(["extra.png", *(s.image for s in data.train)])
    whole = [sample.image for sample in split_labels(data, Fraction(1), seed).labeled]
    assert labeled == whole[:expected]


def test_halves_round_up() -> None:
    assert len(split_labels(manifest(4), "1/8", 0).labeled) == 1
    assert len(split_labels(manifest(367), "1/8", 0).labeled) == 46


def test_a_ratio_that_leaves_none_names_the_smallest_that_does() -> None:
    with pytest.raises(UserError) as error:
        split_labels(manifest(3), "1/8", 0)
    assert str(error.value) == (
        "ratio 1/8 selects none of the 3 labelled images in dataset tiny: the smallest ratio that selects one is 1/6"
    )
    assert len(split_labels(manifest(3), "1/6", 0).labeled) == 1


def test_a_dataset_without_labels_says_so() -> None:
    with pytest.raises(UserError) as error:
        split_labels(manifest(0, unlabeled=("a.png",)), "1/2", 0)
    assert str(error.value) == ("dataset tiny: no training image has a label; add `image label` lines to train.txt")


def test_own_lists_win_for_their_ratio_only() -> None:
    own = RatioLists(labeled=(Sample(image="i/3.png", label="l/3.png"),), unlabeled=("i/1.png",))
    data = manifest(8, unlabeled=("extra.png", "i/1.png"), own={"1/8": own})
    split = split_labels(data, "2/16", 0)
    assert (split.origin, split.labeled_ratio) == ("lists", "1/8")
    assert split.labeled == own.labeled
    assert split.unlabeled == ("i/1.png", "extra.png")
    assert split_labels(data, "1/4", 0).origin == "seeded"


def test_own_lists_that_are_empty_are_the_users_to_mend() -> None:
    with pytest.raises(UserError) as error:
        split_labels(manifest(8, own={"1/8": RatioLists(labeled=(), unlabeled=())}), "1/8", 0)
    assert str(error.value) == "dataset tiny: its own labelled list for ratio 1/8 is empty; fill or delete it"


def test_the_fingerprint_tells_splits_apart() -> None:
    prints = {split_labels(manifest(9), ratio, seed).fingerprint for ratio in ("1/4", "1/2") for seed in (0, 1)}
    assert len(prints) == 4
    assert split_labels(manifest(9), "1/4", 0).fingerprint == split_labels(manifest(9), "2/8", 0).fingerprint
