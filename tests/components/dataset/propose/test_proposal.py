"""After a proposal is written, the dataset passes the check and is read exactly as proposed, whatever the folder."""

import hashlib
import json
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from components.dataset.check.findings import CheckReport
from components.dataset.check.inspect import inspect_dataset
from components.dataset.layouts import Layout, read_layout
from components.dataset.prepare import opened_layout
from components.dataset.propose.lines import describe
from components.dataset.propose.proposal import Proposal, Settings, propose, write
from components.errors import UserError
from tests.components.dataset.scenes_on_disk import (
    PAINT,
    Ids,
    grey,
    grey_png,
    ids_of,
    painted,
    photograph,
    pixels_of,
    with_palette,
    write_classes,
    write_dataset,
)

ALL = {"all": 12}


def shown_as(table: list[int]) -> Callable[[Path, Ids], None]:
    """Return a writer of grey labels that shows each class id as one of these values."""
    return lambda path, ids: grey(path, np.array(table, np.uint8)[ids])


def with_border(path: Path, ids: Ids) -> None:
    bordered = ids.copy()
    bordered[0] = 255
    grey(path, bordered)


def sixteen_bits(path: Path, ids: Ids) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(ids.astype(np.uint16) * 9).save(path)


def places(root: Path) -> None:
    for number, place in enumerate(("oslo", "bergen", "voss", "narvik", "hamar")):
        write_dataset(root, f"{place}/{{name}}.jpg", f"{place}/{{name}}_mask.png", parts={"all": 4}, first=40 * number)


def painted_and_black(root: Path) -> None:
    """Write coloured masks, one of which is a grey file because nothing is in it."""
    write_dataset(root, "images/{name}.jpg", "masks/{name}.png", parts=ALL, classes=3, write=painted)
    grey(root / "masks/05.png", np.zeros_like(ids_of(0)))


def voc_export(root: Path) -> None:
    pairs = write_dataset(
        root, "JPEGImages/{name}.jpg", "SegmentationClass/{name}.png", parts=ALL, classes=3, write=painted
    )
    write_dataset(root, "JPEGImages/more_{name}.jpg", "", parts={"all": 3}, first=700)
    sets = root / "ImageSets/Segmentation"
    sets.mkdir(parents=True)
    (sets / "default.txt").write_text("".join(f"{Path(image).stem}\n" for image, _ in pairs["all"]))


def lists_only(root: Path) -> None:
    for part, names in write_dataset(root, "a/{part} {name}, 1.jpg", "b/{part} {name}.png").items():
        (root / f"{part}.txt").write_text("".join(f"{image}\t{label}\n" for image, label in names))


def train_list_only(root: Path) -> None:
    names = write_dataset(root, "a/{name}.jpg", "b/{name}.png", parts=ALL)["all"]
    (root / "splits").mkdir()
    lines = [f"{image},{label}\n" for image, label in names]
    photograph(root / "a/bare.jpg", 900)
    (root / "splits/train_list.csv").write_text("".join(["image,label\n", *lines, "a/bare.jpg\n"]))


def odd_names(root: Path) -> None:
    names = ["#1", "two words", "a,b", "c;d|e", "it's", "日本", "x=y", "(7)", " 8", "9\u202fPM", "ten", "b"]
    for number, name in enumerate(names):
        photograph(root / f"images/{name}.jpg", number)
        grey(root / f"labels/{name}.png", ids_of(number))


def named_by_a_tool(root: Path) -> None:
    """Write ids from 1, a class file without numbers, and one class too many in it."""
    write_dataset(root, "images/{name}.jpg", "labels/{name}.png", parts=ALL, classes=3)
    (root / "labels.txt").write_text("cat\ndog\n")


def colored_by_voc(root: Path) -> None:
    voc = np.array([[0, 0, 0], [128, 0, 0], [0, 128, 0]], np.uint8)
    write = lambda path, ids: painted(path, ids, voc)  # noqa: E731
    write_dataset(root, "images/{name}.jpg", "labels/{name}.png", parts=ALL, classes=3, write=write)
    (root / "class_names.txt").write_text("_background_\ncat\ndog\n")


def flat(classes: int, write: Callable[[Path, Ids], None], image: str = "{name}.jpg") -> Callable[[Path], None]:
    def make(root: Path) -> None:
        write_dataset(root, f"images/{image}", f"masks/{image[:-4]}.png", parts=ALL, classes=classes, write=write)

    return make


def in_parts(classes: int = 2, **parts: int) -> Callable[[Path], None]:
    def make(root: Path) -> None:
        write_dataset(root, parts=parts or {"train": 8, "val": 4}, classes=classes)
        write_dataset(root, label="", parts={"unlabelled": 3, "test": 2}, first=600)

    return make


# The classes of each kind of folder, in the order of their ids.
KINDS: dict[str, tuple[Callable[[Path], None], list[str]]] = {
    "ids": (flat(4, grey), ["class-0", "class-1", "class-2", "class-3"]),
    "ids and border": (flat(3, with_border), ["class-0", "class-1", "class-2"]),
    "ids with gaps": (flat(3, shown_as([7, 11, 26])), ["class-7", "class-11", "class-26"]),
    "ids from 1": (flat(3, shown_as([1, 2, 3])), ["class-1", "class-2", "class-3"]),
    "grey levels": (flat(3, shown_as([0, 128, 255])), ["class-0", "class-128", "class-255"]),
    "no background": (flat(2, shown_as([1, 255])), ["class-1", "class-255"]),
    "0 and 255": (flat(2, shown_as([0, 255]), "lane/{name}.jpg"), ["background", "lane"]),
    "1 bit": (flat(2, lambda path, ids: grey_png(path, ids, 1)), ["background", "foreground"]),
    "2 bits": (flat(4, lambda path, ids: grey_png(path, ids, 2)), ["class-0", "class-1", "class-2", "class-3"]),
    "16 bits": (flat(3, sixteen_bits), ["class-0", "class-9", "class-18"]),
    "grey in RGB": (flat(3, lambda p, ids: painted(p, ids, np.arange(256).repeat(3).reshape(-1, 3).astype(np.uint8))),
                    ["class-0", "class-1", "class-2"]),
    "colours": (flat(3, painted), ["background", "class-1", "class-2"]),
    "colours and black": (painted_and_black, ["background", "class-1", "class-2"]),
    "palette": (flat(3, lambda path, ids: with_palette(path, ids, PAINT)), ["background", "class-1", "class-2"]),
    "palette in another order": (flat(3, lambda path, ids: with_palette(path, 2 - ids, PAINT[::-1])),
                                 ["class-0", "class-1", "background"]),
    "places": (places, ["background", "foreground"]),
    "parts": (in_parts(3), ["class-0", "class-1", "class-2"]),
    "no val": (in_parts(2, train=8), ["background", "foreground"]),
    "VOC export": (voc_export, ["background", "class-1", "class-2"]),
    "lists": (lists_only, ["background", "foreground"]),
    "train list": (train_list_only, ["background", "foreground"]),
    "odd names": (odd_names, ["background", "foreground"]),
    "a tool's names": (named_by_a_tool, ["cat", "dog"]),
    "a tool's names of colours": (colored_by_voc, ["_background_", "cat", "dog"]),
}  # fmt: skip


@pytest.fixture
def root(tmp_path: Path) -> Path:
    folder = tmp_path / "1 photos"
    folder.mkdir()
    return folder


def proposed(root: Path, **settings: object) -> Proposal:
    return propose(root, Settings.model_validate(settings))


def digests(root: Path) -> dict[str, str]:
    return {
        path.relative_to(root).as_posix(): hashlib.sha256(path.read_bytes()).hexdigest()
        for path in root.rglob("*")
        if path.is_file()
    }


@contextmanager
def read(root: Path) -> Iterator[tuple[Layout, CheckReport]]:
    with opened_layout(str(root), "", None, root.parent / "scratch", root.parent / "downloads") as layout:
        yield layout, inspect_dataset(layout)


@pytest.mark.parametrize("kind", KINDS)
def test_what_is_proposed_is_what_is_read(kind: str, root: Path) -> None:
    make, names = KINDS[kind]
    make(root)
    before = digests(root)
    proposal = proposed(root)
    assert digests(root) == before, "a proposal writes nothing"
    assert [each.name for each in proposal.classes] == names
    write(proposal)
    after = digests(root)
    assert after.keys() - before.keys() == {file.path for file in proposal.files if not file.replaces}
    assert {name for name in before if after[name] != before[name]} == set(proposal.replaced)
    with read(root) as (layout, report):
        assert report.verdict != "fatal", report.findings
        assert [(row.name, row.color) for row in report.balance] == [(c.name, c.color) for c in proposal.classes]
        pixels = [row.train_pixels + row.val_pixels for row in report.balance]
        total = sum(ids.size for ids in [ids_of(0)] * (len(layout.lists.train) + len(layout.lists.val)))
        assert [round(each.pixel_share * total) for each in proposal.classes] == pixels
        counted = proposal.images
        assert len(layout.lists.train) + len(layout.lists.val) == counted["labeled"] + counted["val"]
        assert not {sample.image for sample in layout.lists.train} & {sample.image for sample in layout.lists.val}
        assert (len(layout.lists.test), report.images["test"]) == (counted["test"], counted["test"])
        if proposal.split:
            assert len(layout.lists.val) == proposal.split.images > 0
        assert not any(use.state == "unused" for use in layout.account)
    again = proposed(root)
    assert (again.files, again.classes[0].name, again.split) == ((), names[0], None)


@pytest.mark.parametrize("kind", ["ids", "0 and 255", "colours", "palette in another order", "2 bits"])
def test_every_pixel_gets_its_class(kind: str, root: Path) -> None:
    KINDS[kind][0](root)
    write(proposed(root))
    classes = len(KINDS[kind][1])
    with read(root) as (_, report):
        found = sorted(row.train_pixels + row.val_pixels for row in report.balance)
    assert found == sorted(pixels_of(classes, ALL))


def test_the_second_label_of_two_tools_is_asked_about(root: Path) -> None:
    write_dataset(root, "images/{name}.jpg", "masks/{name}.png", parts={"all": 6})
    for number in range(3):
        grey(root / f"masks/{number:02}.png", ids_of(number) * np.uint8(255))
    with pytest.raises(
        UserError, match=r"has 0 and 255, but label masks/0. has 1: 255 may be void".replace("0.", "03.png")
    ):
        proposed(root)
    assert [each.name for each in proposed(root, void=frozenset({255})).classes] == ["background", "foreground"]


def test_unlabelled_images_stay_in_training(root: Path) -> None:
    in_parts(2, train=8)(root)
    proposal = proposed(root)
    assert [(file.path, file.images) for file in proposal.files] == [
        ("classes.json", 0), ("unlabeled.txt", 3), ("test.txt", 2), ("val.txt", 2), ("train.txt", 6),
    ]  # fmt: skip
    write(proposal)
    with read(root) as (_, report):
        assert report.images == {"labeled": 6, "unlabeled": 3, "val": 2, "test": 2}


def test_a_train_list_is_replaced_beside_a_new_val_list(root: Path) -> None:
    train_list_only(root)
    proposal = proposed(root)
    assert proposal.replaced == ["splits/train_list.csv"]
    assert [file.path for file in proposal.files] == ["classes.json", "splits/val.csv", "splits/train_list.csv"]
    assert any(line.startswith(f"replace  {root}/splits/train_list.csv") for line in describe(proposal))


def test_a_class_file_of_ours_is_extended(root: Path) -> None:
    write_dataset(root, classes=4)
    own = {"classes": ["sky", "road"], "remark": "draft", "ignore_index": 255}
    (root / "classes.json").write_text(json.dumps(own))
    proposal = proposed(root)
    assert proposal.replaced == ["classes.json"]
    assert "classes.json lacks 2, 3, which labels contain" in proposal.notes
    write(proposal)
    text = json.loads((root / "classes.json").read_text())
    assert (text["remark"], [line["name"] for line in text["classes"]]) == (
        "draft",
        ["sky", "road", "class-2", "class-3"],
    )
    with read(root) as (_, report):
        assert report.verdict != "fatal"


def test_a_yaml_file_is_left_to_its_owner(root: Path) -> None:
    write_dataset(root, classes=3)
    (root / "classes.yaml").write_text("classes: [sky, road]  # draft\n")
    with pytest.raises(UserError, match=r"classes\.yaml is YAML, whose comments an automatic edit would lose"):
        proposed(root)


@pytest.mark.parametrize(
    ("setting", "option"), [({"void": frozenset({0})}, "--void"), ({"merge_rare": "sky"}, "--merge-rare")]
)
def test_a_class_file_of_ours_decides(root: Path, setting: dict[str, object], option: str) -> None:
    write_dataset(root, classes=3)
    write_classes(root, "sky", "road", "car")
    with pytest.raises(UserError, match=option):
        proposed(root, **setting)


def test_a_class_that_no_label_has_is_refused_as_the_check_does(root: Path) -> None:
    write_dataset(root)
    write_classes(root, "sky", "road", "car")
    proposal = proposed(root)
    assert proposal.files == ()
    with pytest.raises(UserError, match=r"no label contains class 2 \(car\)"):
        proposal.refuse_fatal()


def test_what_the_check_refuses_is_refused_with_the_proposal(root: Path) -> None:
    flat(2, grey)(root)
    grey(root / "masks/03.png", np.zeros((9, 9), np.uint8))
    proposal = proposed(root)
    assert proposal.files
    with pytest.raises(UserError, match=r"label masks/03.png is 9x9, but its image images/03.jpg is 24x16"):
        proposal.refuse_fatal()
    assert "fatal    Labels and images of different sizes (1)" in list(describe(proposal))


@pytest.mark.parametrize(
    ("write_label", "said"),
    [
        (lambda path, ids: grey(path.with_suffix(".jpg"), ids), "is saved as JPEG"),
        (shown_as([5, 5]), "contain one class only (5)"),
        (
            lambda path, ids: painted(path, ids) if path.stem < "06" else grey(path, ids + 3),
            "has grey values, but label",
        ),
        (lambda path, ids: Image.fromarray(ids.astype(np.uint16) * 300).save(path), "contain the value 300"),
    ],
)
def test_labels_without_a_meaning_are_refused(root: Path, write_label: Callable[[Path, Ids], None], said: str) -> None:
    (root / "masks").mkdir()
    flat(2, write_label)(root)
    with pytest.raises(UserError) as error:
        proposed(root)
    assert said in str(error.value)
    assert "\n" not in str(error.value)


@pytest.mark.parametrize("name", ["a\tb", "a\nb", "a\udcff"])
def test_names_that_no_list_can_hold_are_refused(root: Path, name: str) -> None:
    write_dataset(root, "images/{name}.jpg", "labels/{name}.png", parts=ALL)
    (root / "images/03.jpg").rename(root / f"images/{name}.jpg")
    (root / "labels/03.png").rename(root / f"labels/{name}.png")
    with pytest.raises(UserError, match=r"lists cannot hold this file name|is not UTF-8"):
        proposed(root)


def test_a_dataset_in_a_subfolder_gets_its_files_there(root: Path) -> None:
    flat(2, grey)(root / "download" / "lanes")
    (root / "README.txt").write_text("Lanes.\n")
    proposal = proposed(root)
    assert Path(proposal.folder) == root / "download" / "lanes"
    assert [each.name for each in proposal.classes] == ["background", "lanes"]
    write(proposal)
    with read(root) as (_, report):
        assert report.verdict != "fatal"


def test_datasets_with_classes_of_their_own_are_not_joined(root: Path) -> None:
    places(root)
    write_classes(root / "oslo", "a", "b")
    with pytest.raises(UserError, match="contains several datasets, bergen and hamar"):
        proposed(root)


def test_written_together_or_not_at_all(root: Path) -> None:
    flat(2, grey)(root)
    (root / "train.txt").mkdir()  # which no file can replace
    before = digests(root)
    with pytest.raises(UserError, match="nothing was changed"):
        write(proposed(root))
    assert digests(root) == before
    assert not list(root.glob(".*"))


@pytest.mark.camvid
def test_camvid_without_its_classes_and_lists(camvid: Path, root: Path) -> None:
    for name in sorted(path.name for path in (camvid / "images" / "train").iterdir())[::12]:
        for kind, suffix in (("images", ".jpg"), ("labels", ".png")):
            (root / kind).mkdir(exist_ok=True)
            (root / kind / Path(name).with_suffix(suffix)).symlink_to(
                (camvid / kind / "train" / name).with_suffix(suffix).resolve()
            )
    proposal = proposed(root)
    assert len(proposal.classes) == 11
    assert [each.mark for each in proposal.marks if each.meaning == "void"] == [255]
    assert proposal.split is not None
    assert (proposal.split.method, proposal.split.groups) == ("sequences", ("0001TP",))


def test_annotations_name_their_classes(tmp_path: Path) -> None:
    shape = {"label": "cat", "shape_type": "polygon", "points": [[2, 2], [9, 2], [9, 9]]}
    for number in range(3):
        photograph(tmp_path / f"{number}.jpg", number)
        content = {"shapes": [shape], "imagePath": f"{number}.jpg", "imageHeight": 16, "imageWidth": 24}
        (tmp_path / f"{number}.json").write_text(json.dumps(content))
    with pytest.raises(UserError, match="has LabelMe annotations, which name their classes, so there is nothing"):
        propose(tmp_path, Settings())
    assert read_layout(tmp_path).lists.classes[1].name == "cat"
