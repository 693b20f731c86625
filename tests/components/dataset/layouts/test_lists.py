import json
from collections.abc import Callable
from pathlib import Path

import pytest

from components.dataset.classes import CITYSCAPES
from components.dataset.layouts import read_layout
from components.dataset.manifest import Sample
from components.errors import UserError

MakeDataset = Callable[..., Path]


def refusal(folder: Path) -> str:
    with pytest.raises(UserError) as error:
        read_layout(folder)
    assert "\n" not in str(error.value)
    return str(error.value)


def as_cityscapes(folder: Path) -> Path:
    """Move the dataset's lists to the reference implementation's places and format."""
    subsets = folder / "config_new" / "subset_train"
    subsets.mkdir(parents=True)
    for part in ("train", "val"):
        lines = (folder / f"{part}.txt").read_text().splitlines()
        tabbed = ["\t".join(f"/{name}" for name in line.split()) + "\n" for line in lines]
        (folder / f"{part}.txt").unlink()
        (folder / "config_new" / f"{part}.txt").write_text("".join(tabbed))
        if part == "train":
            (subsets / "train_aug_labeled_1-4.txt").write_text("".join(tabbed[:2]))
            (subsets / "train_aug_unlabeled_1-4.txt").write_text("".join(tabbed[2:]))
    return folder


def test_plain_lists_are_read(make_dataset: MakeDataset) -> None:
    folder = make_dataset(train=3, val=2)
    (folder / "unlabeled.txt").write_text("images/val/00.png\n\n")
    layout = read_layout(folder)
    assert (layout.kind, layout.name) == ("lists", "tiny")
    assert layout.lists.train[2] == Sample(image="images/train/02.png", label="labels/train/02.png")
    assert [entry.name for entry in layout.lists.classes] == ["road", "sky", "car"]
    assert layout.lists.unlabeled == ("images/val/00.png",)
    assert layout.lists.file_names() == sorted(
        f"{kind}/{part}/{n:02d}.png"
        for kind in ("images", "labels")
        for part, c in (("train", 3), ("val", 2))
        for n in range(c)
    )


def test_a_training_image_without_label_is_unlabelled(make_dataset: MakeDataset) -> None:
    folder = make_dataset(train=2)
    (folder / "train.txt").write_text("images/train/00.png labels/train/00.png\r\nimages/train/01.png\r\n")
    lists = read_layout(folder).lists
    assert [sample.image for sample in lists.train] == ["images/train/00.png"]
    assert lists.unlabeled == ("images/train/01.png",)


def test_the_one_folder_inside_is_taken_and_the_name_kept(make_dataset: MakeDataset) -> None:
    folder = make_dataset()
    layout = read_layout(folder.parent, "my set (v2)")
    assert (layout.folder, layout.name) == (folder, "my-set-v2")


def test_the_references_lists_are_read(make_dataset: MakeDataset) -> None:
    folder = as_cityscapes(make_dataset(train=5))
    layout = read_layout(folder)
    assert layout.kind == "cityscapes-cps"
    assert len(layout.lists.train) == 5
    own = layout.lists.ratio_lists["1/4"]
    assert own.labeled[1] == Sample(image="images/train/01.png", label="labels/train/01.png")
    assert own.unlabeled == ("images/train/02.png", "images/train/03.png", "images/train/04.png")
    (folder / "classes.json").unlink()
    assert read_layout(folder).lists.classes == CITYSCAPES


def test_more_classes_than_a_byte_can_tell_apart_are_refused(make_dataset: MakeDataset) -> None:
    folder = make_dataset(train=5)
    for names in ([f"class {number}" for number in range(256)], {str(number): f"c{number}" for number in range(256)}):
        (folder / "classes.json").write_text(json.dumps(names))
        assert refusal(folder) == (
            f"{folder / 'classes.json'} names 256 classes, but masks store a class in one byte, and one value is void: "
            'merge classes until at most 255 are left; a class takes several values with "values": [7, 8]'
        )
    (folder / "classes.json").write_text(json.dumps([f"class {number}" for number in range(255)]))
    assert len(read_layout(folder).lists.classes) == 255


def test_names_with_spaces_are_parted_where_both_files_are_there(make_dataset: MakeDataset) -> None:
    folder = make_dataset(train=1)
    (folder / "images/train/00.png").rename(folder / "images/train/a b.png")
    (folder / "train.txt").write_text("images/train/a b.png\tlabels/train/00.png\n")
    assert read_layout(folder).lists.train[0].image == "images/train/a b.png"
    (folder / "train.txt").write_text("images/train/a b.png labels/train/00.png\n")
    assert read_layout(folder).lists.train[0].image == "images/train/a b.png"
    (folder / "train.txt").write_text("images/train/a c.png labels/train/00.png\n")
    assert refusal(folder) == (
        f"{folder}/train.txt:1: 3 names on one line; write `image label` or `image`, and separate the two names with a "
        "tab if one contains spaces"
    )


def test_a_folder_without_lists_is_told_what_to_add(tmp_path: Path) -> None:
    assert refusal(tmp_path) == (
        f"{tmp_path} is not a recognised dataset layout: add train.txt and val.txt (one `image label` pair per line), "
        "or folders images/ and labels/; Cityscapes, Cityscapes for CPS (config_new/), PASCAL VOC and CamVid are read "
        "as downloaded, and COCO, LabelMe and CVAT annotations as exported"
    )


def test_a_missing_list_is_named(make_dataset: MakeDataset) -> None:
    folder = make_dataset()
    (folder / "val.txt").unlink()
    assert refusal(folder) == f"dataset {folder} has no val.txt: add it with one `image label` pair per line"


def test_a_missing_file_is_named_with_its_line(make_dataset: MakeDataset) -> None:
    folder = make_dataset()
    (folder / "labels/train/04.png").unlink()
    assert refusal(folder) == (
        f"{folder}/train.txt:5: labels/train/04.png does not exist in {folder}; correct the line or add the file"
    )


def test_a_missing_file_of_a_ratios_list_is_named_with_its_line(make_dataset: MakeDataset) -> None:
    folder = as_cityscapes(make_dataset())
    path = folder / "config_new/subset_train/train_aug_unlabeled_1-4.txt"
    path.write_text("/images/train/02.png\n/images/train/99.png\n")
    assert refusal(folder).startswith(f"{path}:2: /images/train/99.png does not exist in {folder}")


@pytest.mark.parametrize("name", ["../secret.png", "images/../../secret.png", "/../secret.png"])
def test_a_name_that_leads_out_of_the_folder_is_refused(make_dataset: MakeDataset, name: str) -> None:
    folder = make_dataset()
    (folder.parent / "secret.png").write_bytes(b"")
    (folder / "train.txt").write_text(f"{name} labels/train/00.png\n")
    assert refusal(folder) == (
        f"{folder}/train.txt:1: {name!r} points outside the dataset's folder; write a path relative to it"
    )


def test_val_images_need_labels(make_dataset: MakeDataset) -> None:
    folder = make_dataset()
    (folder / "val.txt").write_text("images/val/00.png\n")
    assert refusal(folder) == f"{folder}/val.txt: images/val/00.png has no label; write `image label` on every line"
    (folder / "val.txt").write_text("\n")
    assert refusal(folder) == f"{folder}/val.txt is empty: write one `image label` pair per line"


def test_plain_lists_need_classes(make_dataset: MakeDataset) -> None:
    folder = make_dataset()
    (folder / "classes.json").unlink()
    assert refusal(folder) == (
        f"dataset {folder} declares no classes: add classes.json or classes.yaml next to train.txt"
    )


def test_classes_may_be_yaml_without_colours(make_dataset: MakeDataset) -> None:
    folder = make_dataset()
    (folder / "classes.json").unlink()
    (folder / "classes.yaml").write_text("classes:\n- {id: 1, name: sky}\n- {id: 0, name: road}\n")
    lists = read_layout(folder).lists
    assert [(entry.name, entry.color) for entry in lists.classes] == [
        ("road", (0, 114, 178)),
        ("sky", (240, 228, 66)),
    ]
    assert lists.ignore_index == 255


@pytest.mark.parametrize(
    ("classes", "expected"),
    [
        (
            [{"id": 2, "name": "a"}, {"id": 2, "name": "b"}],
            "class id 2 is used twice; give each class its own id",
        ),
        ([{"id": 0, "name": "a"}, {"id": 1, "name": "b", "colour": [0, 0, 9]}], "unknown key 'colour'; write 'color'"),
        ([{"id": 0, "name": "a"}, {"id": 1, "name": "b", "values": [0]}], "value 0 is assigned to both 'a' and 'b'"),
        ([{"id": 0, "name": "a"}], "classes: must have at least 2 values, not 1"),
        (
            [{"id": 0, "name": "a"}, {"id": 1, "name": "b", "color": [1, 2, 300]}],
            "color.2: must be at most 255",
        ),
        *(
            (
                [{"id": 0, "name": "a"}, {"id": 1, "name": "b", "values": [1, value]}],
                "classes.1.values.1: must be a label value from 0 to 255, or a colour such as [128, 64, 128] or ",
            )
            for value in ("black", "#00", 300, -1, 0.5, True, None, [0, 0], [0, 0, 256])
        ),
    ],
)
def test_wrong_classes_are_named(make_dataset: MakeDataset, classes: list[object], expected: str) -> None:
    folder = make_dataset()
    (folder / "classes.json").write_text(json.dumps({"classes": classes}))
    text = refusal(folder)
    assert text.startswith(f"{folder}/classes.json: ")
    assert expected in text


def test_an_ignore_index_that_is_a_class_is_refused(make_dataset: MakeDataset) -> None:
    folder = make_dataset()
    classes = [{"id": 0, "name": "a"}, {"id": 1, "name": "b"}]
    (folder / "classes.json").write_text(json.dumps({"classes": classes, "ignore_index": 1}))
    assert (
        refusal(folder) == f"{folder}/classes.json: ignore_index 1 is also a class id; use another value, such as 255"
    )
