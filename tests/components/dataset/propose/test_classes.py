"""Classes from what labels contain: names, void, ids, and the round trip through classes.json."""

from collections.abc import Callable, Mapping
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from components.dataset.check.facts import FileFacts
from components.dataset.class_ids import choose_reading
from components.dataset.classes import UNDECLARED, read_classes, voc_color
from components.dataset.label_pixels import LabelPixels
from components.dataset.layouts import Layout
from components.dataset.manifest import Lists
from components.dataset.propose.classes import VOID, Plan, VoidWish, meanings, plan_classes
from components.dataset.propose.contents import Mark, read_contents
from components.dataset.propose.rare import class_shares, merged, rare_classes
from components.dataset.propose.texts import classes_text
from components.errors import UserError

Labels = Mapping[str, LabelPixels]
RGB = tuple[int, int, int]


def values(*counts: Mapping[int, int], mode: str = "L") -> dict[str, LabelPixels]:
    """Return grey labels with these pixels of each value."""
    return {f"masks/{n:02}.png": LabelPixels("values", mode, counts=each, plain=True) for n, each in enumerate(counts)}


def colors(*counts: Mapping[RGB, int]) -> dict[str, LabelPixels]:
    return {f"masks/{number:02}.png": LabelPixels("colors", "RGB", colors=each) for number, each in enumerate(counts)}


def palettes(*counts: Mapping[int, int], palette: Mapping[int, RGB]) -> dict[str, LabelPixels]:
    return {
        f"masks/{number:02}.png": LabelPixels(
            "palette", "P", counts=each, palette={index: palette[index] for index in each}, plain=True
        )
        for number, each in enumerate(counts)
    }


def facts_of(labels: Labels) -> dict[str, FileFacts]:
    return {name: FileFacts(name, "", pixels=pixels) for name, pixels in labels.items()}


def layout_of(folder: Path) -> Layout:
    lists = Lists(classes=(), train=(), val=())
    return Layout(folder, "photos", "folders", lists, read_classes(folder) or UNDECLARED)


def planned(folder: Path, labels: Labels, wish: VoidWish = VoidWish()) -> Plan:  # noqa: B008 - frozen
    layout, facts = layout_of(folder), facts_of(labels)
    reading = None if layout.declared is UNDECLARED else choose_reading(layout.declared, facts)
    return plan_classes(layout, read_contents(layout, facts, reading), reading, wish)


def marks(plan: Plan) -> dict[str, tuple[Mark, ...]]:
    return {each.name: each.marks for each in plan.classes}


BLACK, RED, BLUE, BORDER = (0, 0, 0), (220, 20, 60), (0, 0, 142), (224, 224, 192)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    path = tmp_path / "photos"
    path.mkdir()
    return path


@pytest.mark.parametrize(
    ("labels", "named", "void"),
    [
        (values({0: 9, 1: 1}), {"background": (0,), "foreground": (1,)}, ()),
        (values({0: 9, 255: 1}), {"background": (0,), "foreground": (255,)}, ()),
        (values({0: 9, 1: 1, 255: 1}), {"background": (0,), "foreground": (1,)}, (255,)),
        (values({1: 9, 2: 1}), {"class-1": (1,), "class-2": (2,)}, ()),
        (values({0: 9, 7: 1, 8: 1, 255: 1}), {"class-0": (0,), "class-7": (7,), "class-8": (8,)}, (255,)),
        (values({0: 1, 85: 1, 170: 1, 255: 1}), {f"class-{v}": (v,) for v in (0, 85, 170, 255)}, ()),
        (colors({BLACK: 9, RED: 1}), {"background": (BLACK,), "foreground": (RED,)}, ()),
        (colors({BLACK: 9, BLUE: 1, RED: 5}), {"background": (BLACK,), "class-1": (RED,), "class-2": (BLUE,)}, ()),
        (colors({RED: 1, BLUE: 1, BORDER: 1}), {"class-0": (BLUE,), "class-1": (RED,)}, (BORDER,)),
        (
            palettes({0: 9, 5: 1, 255: 1}, palette={0: BLACK, 5: RED, 255: BORDER}),
            {"background": (0,), "foreground": (5,)},
            (255,),
        ),
        (
            palettes({0: 9, 1: 1, 2: 3}, palette={0: RED, 1: BLUE, 2: BLACK}),
            {"class-0": (0,), "class-1": (1,), "background": (2,)},
            (),
        ),
    ],
)
def test_classes_without_names(
    folder: Path, labels: Labels, named: dict[str, tuple[Mark, ...]], void: tuple[Mark, ...]
) -> None:
    plan = planned(folder, labels)
    assert (marks(plan), plan.void) == (named, void)
    assert plan.origin == ""


def test_contradictory_palettes_are_read_by_colour(folder: Path) -> None:
    labels = palettes({0: 9, 1: 1}, palette={0: BLACK, 1: RED}) | {
        "masks/x.png": LabelPixels("palette", "P", counts={0: 9, 1: 1}, palette={0: RED, 1: BLACK}, plain=True)
    }
    assert marks(planned(folder, labels)) == {"background": (BLACK,), "foreground": (RED,)}


@pytest.mark.parametrize(
    ("masks", "name"),
    [("masks", "foreground"), ("lane_masks", "lane"), ("masks/train/crack", "crack"), ("binary/masks", "foreground")],
)
def test_the_class_of_binary_masks_is_named_after_their_folder(folder: Path, masks: str, name: str) -> None:
    labels = {f"{masks}/0.png": LabelPixels("values", "L", counts={0: 9, 255: 1}, plain=True)}
    assert list(marks(planned(folder, labels))) == ["background", name]


TOOLS = {
    "names for all": ("class_names.txt", "sky\nroad\ncar\n", {0: 1, 1: 1, 2: 1}, {"sky": 0, "road": 1, "car": 2}, ()),
    "numbered from 1": ("labels.txt", "road\ncar\n", {0: 1, 1: 1, 2: 1}, {"road": 1, "car": 2}, (0,)),
    "0 is not named": ("classes.csv", "id,name\n1,road\n2,car\n", {0: 1, 1: 1, 2: 1}, {"road": 1, "car": 2}, (0,)),
    "one is missing": ("labels.txt", "sky\nroad\ncar\n", {0: 1, 2: 1}, {"sky": 0, "car": 2}, ()),
    "one is not named": ("labels.txt", "sky\nroad\n", {0: 1, 1: 1, 9: 1}, {"sky": 0, "road": 1, "class-9": 9}, ()),
    "a name like ours": (
        "labels.txt",
        "class-1\nclass-9\n",
        {0: 1, 1: 1, 9: 1},
        {"class-1": 0, "class-9": 1, "unnamed-9": 9},
        (),
    ),
    "border": ("labels.txt", "sky\nroad\ncar\n", {0: 1, 1: 1, 255: 1}, {"sky": 0, "road": 1}, (255,)),
}


@pytest.mark.parametrize("kind", TOOLS)
def test_names_come_from_a_tool(folder: Path, kind: str) -> None:
    file, text, counts, named, void = TOOLS[kind]
    (folder / file).write_text(text)
    plan = planned(folder, values(counts))
    assert plan.origin == file
    assert plan.is_kept is (kind == "names for all")
    assert {name: [mark for mark in found if mark in counts] for name, found in marks(plan).items()} == {
        name: [value] for name, value in named.items()
    }
    assert plan.void == void


def test_names_for_colours_come_by_their_place_in_vocs_palette(folder: Path) -> None:
    (folder / "class_names.txt").write_text("_background_\ncat\ndog\ncow\n")
    plan = planned(folder, colors({voc_color(0): 9, voc_color(3): 1, BORDER: 1}))
    assert marks(plan) == {"_background_": (voc_color(0),), "cow": (voc_color(3),)}
    assert plan.void == (BORDER,)
    other = planned(folder, colors({BLACK: 9, RED: 1, BLUE: 2}))
    assert list(marks(other)) == ["background", "class-1", "class-2"]
    assert "class_names.txt names 4 classes, but not their colours" in other.notes


@pytest.mark.parametrize(
    ("wish", "named", "void"),
    [
        (VoidWish(frozenset({0})), ["class-1", "class-2"], (0, 255)),
        (VoidWish(detect=False), ["class-0", "class-1", "class-2", "class-255"], ()),
        (VoidWish(frozenset({0}), detect=False), ["class-1", "class-2", "class-255"], (0,)),
    ],
)
def test_a_wish_for_void(folder: Path, wish: VoidWish, named: list[str], void: tuple[Mark, ...]) -> None:
    plan = planned(folder, values({0: 1, 1: 1, 2: 1, 255: 1}), wish)
    assert (list(marks(plan)), plan.void) == (named, void)


def test_a_wish_for_a_value_that_no_label_has_is_a_mistake(folder: Path) -> None:
    with pytest.raises(UserError, match=r"--void 7: no label in .* contains it; they contain 0, 1, 10"):
        planned(folder, values({0: 1, 1: 1, 10: 1}), VoidWish(frozenset({7})))


@pytest.mark.parametrize(
    ("counts", "is_said"),
    [
        ([{0: 1, **dict.fromkeys(range(1, 8), 1)}, {0: 1, 1: 1, 2: 1}], True),
        ([{0: 1, **dict.fromkeys(range(1, 8), 1)}, {0: 1, 3: 1}], False),
        ([{0: 1, 1: 1, 2: 1}, {0: 1, 1: 1}], False),
    ],
)
def test_numbered_objects_are_suspected(folder: Path, counts: list[dict[int, int]], *, is_said: bool) -> None:
    notes = planned(folder, values(*counts)).notes
    assert any("numbers its values without gaps" in note for note in notes) is is_said


def test_too_many_values_are_refused(folder: Path) -> None:
    with pytest.raises(UserError, match="299 different values or colours, but at most 255"):
        planned(folder, values(dict.fromkeys(range(300), 1), mode="I;16"))


def test_a_grey_palette_in_another_order_is_ambiguous(folder: Path) -> None:
    with pytest.raises(UserError, match="grey palette in another order than its indices"):
        planned(folder, palettes({0: 9, 1: 1}, palette={0: (255,) * 3, 1: (0,) * 3}))


def grey_labels(found: list[int]) -> dict[str, LabelPixels]:
    return values(dict.fromkeys(found, 5))


def color_labels(found: list[int]) -> dict[str, LabelPixels]:
    return colors({(value, 255 - value, value // 2): 5 for value in found})


def palette_labels(found: list[int]) -> dict[str, LabelPixels]:
    return palettes(dict.fromkeys(found, 5), palette={value: (value, 9, 255 - value) for value in found})


@settings(max_examples=50)
@given(
    found=st.lists(st.integers(0, 255), min_size=2, max_size=20, unique=True),
    kind=st.sampled_from([grey_labels, color_labels, palette_labels]),
    detect=st.booleans(),
)
def test_classes_json_says_what_is_planned(
    tmp_path_factory: pytest.TempPathFactory, found: list[int], kind: Callable[[list[int]], Labels], *, detect: bool
) -> None:
    folder, labels = tmp_path_factory.mktemp("classes"), kind(found)
    plan = planned(folder, labels, VoidWish(detect=detect))
    layout, facts = layout_of(folder), facts_of(labels)
    contents = read_contents(layout, facts)
    (folder / "classes.json").write_text(classes_text(layout, plan, contents))
    declared = read_classes(folder)
    assert declared is not None
    assert [(entry.name, entry.color) for entry in declared.classes] == [
        (each.name, each.color) for each in plan.classes
    ]
    reading = choose_reading(declared, facts)
    assert not reading.refused
    read = meanings(declared, reading)
    assert {mark: read[mark] for mark in contents.pixels} == {mark: plan.meanings()[mark] for mark in contents.pixels}
    assert VOID not in {plan.meanings()[mark] for mark in contents.pixels} or detect
    assert planned(folder, labels).is_kept


# Classes that are too rare to learn.

FEW = values(*[{0: 5000, 1: 900, 2: 90}] * 30, {0: 5000, 3: 1}, {0: 5000, 4: 700})


def test_rare_classes_are_in_few_labels_or_pixels(folder: Path) -> None:
    plan = planned(folder, FEW)
    contents = read_contents(layout_of(folder), facts_of(FEW))
    assert rare_classes(plan, contents) == [3, 4]
    small = values(*[{0: 100_000, 1: 9, 2: 5000}] * 9)
    assert rare_classes(planned(folder, small), read_contents(layout_of(folder), facts_of(small))) == [1]
    tiny = values({0: 9, 1: 1, 2: 4}, {0: 9, 1: 2, 2: 3}, {0: 9, 2: 4})
    assert rare_classes(planned(folder, tiny), read_contents(layout_of(folder), facts_of(tiny))) == []


@pytest.mark.parametrize(
    ("into", "named"),
    [
        ("void", {"class-0": (0,), "class-1": (1,), "class-2": (2,)}),
        ("class-2", {"class-0": (0,), "class-1": (1,), "class-2": (2, 3, 4)}),
        ("other", {"class-0": (0,), "class-1": (1,), "class-2": (2,), "other": (3, 4)}),
    ],
)
def test_rare_classes_are_merged(folder: Path, into: str, named: dict[str, tuple[Mark, ...]]) -> None:
    plan, contents = planned(folder, FEW), read_contents(layout_of(folder), facts_of(FEW))
    found = merged(plan, [3, 4], into)
    assert marks(found) == named
    assert found.void == ((3, 4) if into == "void" else ())
    (folder / "classes.json").write_text(classes_text(layout_of(folder), found, contents))
    declared = read_classes(folder)
    assert declared is not None
    assert [declared.values[value] for value in range(5)] == [
        meaning if meaning != VOID else 255 for meaning in (found.meanings()[value] for value in range(5))
    ]
    assert sum(share.pixels for share in class_shares(found, contents)) + (701 if into == "void" else 0) == int(
        np.sum([list(each.counts.values()) for each in FEW.values()][:30]) + 5000 * 2 + 701
    )


@pytest.mark.parametrize("rare", [[], [3]])
def test_there_may_be_nothing_to_merge(folder: Path, rare: list[int]) -> None:
    plan = planned(folder, FEW)
    found = merged(plan, rare, "class-3")
    assert found.classes == plan.classes
    assert "no other class is too rare to learn" in found.notes


def test_merging_all_classes_is_refused(folder: Path) -> None:
    plan = planned(folder, values({0: 9, 1: 1}))
    with pytest.raises(UserError, match="--merge-rare void would leave fewer than two classes"):
        merged(plan, [1], "void")
