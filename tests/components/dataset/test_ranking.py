"""Stratified and grouped rankings are nested, and the plain ranking never changes."""

from fractions import Fraction
from itertools import combinations
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from components.contract import Class, digest_lines
from components.dataset.layouts import read_layout
from components.dataset.manifest import Manifest, Sample
from components.dataset.ranking import class_set, group_name, prefix_length, smallest_cover
from components.dataset.split import split_labels
from components.errors import UserError
from components.recipes import load_recipe
from components.recipes.model import Split

RATIOS = ("1/16", "1/8", "1/4", "1/2")
STRATIFIED = Split(stratify=True)


def manifest(images: list[str], name: str = "tiny") -> Manifest:
    return Manifest(
        digest="d" * 64,
        name=name,
        layout="lists",
        classes=tuple(Class(name=str(number), color=(0, 0, number)) for number in range(19)),
        train=tuple(Sample(image=image, label=f"l/{image}") for image in images),
        val=(Sample(image="v.png", label="l/v.png"),),
        files={},
        shards=(),
    )


def shown(samples: tuple[Sample, ...], classes: dict[str, list[int]]) -> set[int]:
    return {number for sample in samples for number in classes[sample.label or ""]}


Labels = st.lists(st.lists(st.integers(0, 6), max_size=4), min_size=2, max_size=24)


@given(Labels, st.integers(0, 3))
def test_stratified_splits_have_the_same_sizes_and_are_nested_and_repeatable(
    labels: list[list[int]], seed: int
) -> None:
    data = manifest([f"{number}.png" for number in range(len(labels))])
    classes = {f"l/{number}.png": ids for number, ids in enumerate(labels)}
    before: list[Sample] = []
    for ratio in (Fraction(1, denominator) for denominator in (8, 4, 3, 2, 1)):
        if len(labels) * ratio < Fraction(1, 2):
            continue
        split = split_labels(data, ratio, seed, STRATIFIED, classes)
        plain = split_labels(data, ratio, seed)
        assert len(split.labeled) == len(plain.labeled)
        assert list(split.labeled[: len(before)]) == before
        assert split == split_labels(data, ratio, seed, STRATIFIED, classes)
        every = [*(sample.image for sample in split.labeled), *split.unlabeled]
        assert sorted(every) == sorted(sample.image for sample in data.train)
        before = list(split.labeled)


@given(st.lists(st.lists(st.integers(0, 6), max_size=4), min_size=2, max_size=12), st.integers(0, 3), st.integers(1, 8))
def test_no_class_is_missing_where_so_many_images_can_show_all(labels: list[list[int]], seed: int, count: int) -> None:
    count = min(count, len(labels))
    data = manifest([f"{number}.png" for number in range(len(labels))])
    classes = {f"l/{number}.png": ids for number, ids in enumerate(labels)}
    every = {number for ids in labels for number in ids}
    possible = any({number for ids in chosen for number in ids} == every for chosen in combinations(labels, count))
    split = split_labels(data, Fraction(count, len(labels)), seed, STRATIFIED, classes)
    assert len(split.labeled) == count
    if possible:
        assert shown(split.labeled, classes) == every


@given(st.lists(st.tuples(st.sets(st.integers(0, 5), max_size=4), st.integers(1, 5)), min_size=1, max_size=9))
def test_the_smallest_cover_is_no_dearer_than_any(sets: list[tuple[set[int], int]]) -> None:
    bits, costs = [class_set(list(ids)) for ids, _ in sets], [cost for _, cost in sets]
    every = set().union(*(ids for ids, _ in sets))
    cover = smallest_cover(bits, costs)
    assert set().union(*(sets[index][0] for index in cover)) == every
    cheapest = min(
        sum(costs[index] for index in chosen)
        for size in range(len(sets) + 1)
        for chosen in combinations(range(len(sets)), size)
        if set().union(*(sets[index][0] for index in chosen)) == every
    )
    assert sum(costs[index] for index in cover) == cheapest


def test_a_rare_class_is_labelled_at_the_smallest_ratio() -> None:
    images = [f"{number:03d}.png" for number in range(160)]
    classes = {f"l/{image}": [0, 1] for image in images}
    rare = split_labels(manifest(images), "1/2", 0).unlabeled[-1]
    classes[f"l/{rare}"] = [0, 18]
    data = manifest(images)
    assert 18 not in shown(split_labels(data, "1/16", 0).labeled, classes)
    assert shown(split_labels(data, "1/16", 0, STRATIFIED, classes).labeled, classes) == {0, 1, 18}


@given(st.lists(st.integers(1, 6), min_size=4, max_size=30), st.integers(0, 3), st.booleans())
def test_grouped_splits_cut_no_group_and_are_nested(sizes: list[int], seed: int, stratify: bool) -> None:
    images = [f"film{film}/{frame}.png" for film, size in enumerate(sizes) for frame in range(size)]
    settings = Split(group_by="film[0-9]+", stratify=stratify)
    classes = {f"l/{image}": [number % 3] for number, image in enumerate(images)}
    before: set[str] = set()
    for ratio in RATIOS:
        try:
            split = split_labels(manifest(images), ratio, seed, settings, classes)
        except UserError:
            continue  # no whole group comes near, or the ratio is below half an image
        labeled = {sample.image for sample in split.labeled}
        films = [{name.split("/")[0] for name in side} for side in (labeled, split.unlabeled)]
        assert not films[0] & films[1]
        assert before <= labeled
        wanted = int(len(images) * Fraction(ratio) + Fraction(1, 2))
        assert abs(len(labeled) - wanted) <= max(sizes)
        assert wanted <= 2 * len(labeled) <= 4 * wanted
        before = labeled


@given(st.lists(st.integers(1, 9), min_size=1), st.integers(1, 200), st.integers(0, 50))
def test_a_prefix_grows_with_what_is_wanted(sizes: list[int], wanted: int, more: int) -> None:
    length = prefix_length(sizes, wanted)
    nearest = min(abs(sum(sizes[:count]) - wanted) for count in range(1, len(sizes) + 1))
    assert abs(sum(sizes[:length]) - wanted) == nearest
    assert length <= prefix_length(sizes, wanted + more)


def test_groups_that_are_too_large_for_a_ratio_are_refused() -> None:
    images = [f"film{number // 50}/{number}.png" for number in range(200)]
    with pytest.raises(UserError) as error:
        split_labels(manifest(images, "four"), "1/16", 0, Split(group_by="film[0-9]"))
    assert str(error.value) == (
        "split.group_by 'film[0-9]' forms 4 groups of 50 to 50 images in dataset four, but ratio 1/16 needs 13 and the "
        "closest choice has 50: use an expression that forms smaller groups"
    )


@pytest.mark.parametrize(
    ("image", "group_by", "name"),
    [
        ("leftImg8bit/train/aachen/aachen_000012_000019_leftImg8bit.png", "auto", "aachen_000012"),
        ("images/train/0001TP_006690.jpg", "auto", "0001TP"),
        ("Seq05VD_f00030.png", "auto", "Seq05VD"),
        ("images/0006R0_f00930_L.png", "auto", "0006R0"),
        ("a/b/c.png", "", "a/b/c.png"),
        ("a/b/c.png", "^([^/]+)/([^/]+)", "a/b"),
        ("berlin_7.png", "^[a-z]+", "berlin"),
    ],
)
def test_a_group_is_named_by_the_image(image: str, group_by: str, name: str) -> None:
    assert group_name(image, group_by) == name


def test_names_that_do_not_match_and_invalid_expressions_are_user_errors() -> None:
    with pytest.raises(UserError, match=r"^split\.group_by 'x\[0-9\]' does not match the name 'a\.png'"):
        group_name("a.png", "x[0-9]")
    with pytest.raises(UserError, match=r"^split\.group_by 'auto' recognises file names of Cityscapes and CamVid only"):
        group_name("a.png", "auto")
    with pytest.raises(UserError, match=r"setting 'split': group_by '\(' is not a regular expression"):
        load_recipe("demo", {"split.group_by": "("})


@pytest.fixture(scope="module")
def cityscapes() -> tuple[Manifest, dict[str, list[int]]]:
    """2975 images of two cities, and the classes of each label; one label alone shows the last class."""
    images = [f"{city}_{number:06d}_000019_leftImg8bit.png" for city, many in (("ulm", 975), ("bonn", 2000))
              for number in range(many)]  # fmt: skip
    classes = {f"l/{image}": [number % 18] for number, image in enumerate(images)}
    classes["l/ulm_000900_000019_leftImg8bit.png"] = [18]
    return manifest(images), classes


@pytest.mark.parametrize(("ratio", "count"), [("1/16", 186), ("1/8", 372), ("1/4", 744), ("1/2", 1488)])
def test_cityscapes_counts_are_the_references(
    cityscapes: tuple[Manifest, dict[str, list[int]]], ratio: str, count: int
) -> None:
    data, classes = cityscapes
    for settings in (Split(), STRATIFIED, Split(group_by="auto"), Split(group_by="auto", stratify=True)):
        split = split_labels(data, ratio, 1, settings, classes)
        assert (len(split.labeled), len(split.unlabeled)) == (count, 2975 - count)
        if settings.stratify:
            assert shown(split.labeled, classes) == set(range(19))


@pytest.fixture(scope="module")
def camvids_manifest(camvid: Path) -> Manifest:
    return Manifest(
        **dict(read_layout(camvid).lists), digest="d" * 64, name="camvid", layout="lists", files={}, shards=()
    )


@pytest.mark.camvid
@pytest.mark.parametrize(
    ("ratio", "count", "names", "fingerprint"),
    [
        ("1/16", 23, "2c55c80cb9789bba", "ef4af7ce5842d430"),
        ("1/8", 46, "7aad55365e58de13", "1011cc57525dc312"),
        ("1/4", 92, "281b14722d46bd28", "8266ee5ae3bb2d03"),
        ("1/2", 184, "3a251669744a17bf", "3b07ca7471af3661"),
    ],
)
def test_camvids_splits_are_those_of_the_first_release(
    camvids_manifest: Manifest, ratio: str, count: int, names: str, fingerprint: str
) -> None:
    split = split_labels(camvids_manifest, ratio, 0)
    assert len(split.labeled) == count
    assert digest_lines(sample.image for sample in split.labeled)[:16] == names
    assert split.fingerprint[:16] == fingerprint
