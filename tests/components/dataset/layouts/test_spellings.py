"""Read the many spellings of folders, lists and class files, and check that no file is ignored silently."""

import json
import shutil
import unicodedata
from pathlib import Path, PurePosixPath

import numpy as np
import pytest
from PIL import Image

from components.dataset.check.inspect import inspect_dataset
from components.dataset.layouts import Layout, account_lines, read_layout, unused
from components.dataset.layouts.names import image_stems, is_named_like_a_part, label_stems, part_of, role_of
from components.dataset.prepare import opened_layout
from components.errors import UserError
from tests.components.dataset.scenes_on_disk import (
    PAINT,
    grey,
    painted,
    photograph,
    with_palette,
    write_classes,
    write_dataset,
)
from tests.pipeline.in_process import cps

NAMES = ("background", "cat", "dog")


def counts(layout: Layout) -> tuple[int, int, int, int]:
    lists = layout.lists
    return len(lists.train), len(lists.val), len(lists.test), len(lists.unlabeled)


def refusal(folder: Path) -> str:
    with pytest.raises(UserError) as error:
        read_layout(folder)
    assert "\n" not in str(error.value)
    return str(error.value)


def fatal(folder: Path) -> list[str]:
    with opened_layout(str(folder), "", None, folder.parent / "scratch", folder.parent / "downloads") as layout:
        return [item.text for each in inspect_dataset(layout).findings if each.level == "fatal" for item in each.items]


@pytest.mark.parametrize(
    ("name", "part", "role"),
    [
        ("Valid", "val", None),
        ("validation", "val", None),
        ("dev", "val", None),
        ("Testing", "test", None),
        ("UNLABELLED", "unlabeled", None),
        ("train_unlabeled", "unlabeled", None),
        ("train2017", "train", None),
        ("train_images", "train", "image"),
        ("imagesTest", "test", "image"),
        ("trainannot", "train", "label"),
        ("labels-val", "val", "label"),
        ("ann_dir", None, "label"),
        ("ground_truth", None, "label"),
        ("SegmentationClassPNG", None, "label"),
        ("SegmentationObject", None, "other"),
        ("SegmentationClassVisualization", None, "other"),
        ("JPEGImages", None, "image"),
        ("leftImg8bit", None, "image"),
        ("contest", None, None),
        ("trainval", None, None),
        ("test_drive", None, None),
    ],
)
def test_what_a_folders_name_says(name: str, part: str | None, role: str | None) -> None:
    assert (part_of(name), role_of(name)) == (part, role)


@pytest.mark.parametrize(
    ("name", "like"), [("val_hard", True), ("trainval", True), ("contest", False), ("extra", False)]
)
def test_which_names_must_not_be_dropped(name: str, *, like: bool) -> None:
    assert is_named_like_a_part(name) is like


@pytest.mark.parametrize(
    "name",
    ["x_mask.png", "mask_x.png", "x.jpg.png", "x_L.png", "x-label.png", "x_gtFine_labelIds.png", "x.jpg_seg.png"],
)
def test_which_image_a_label_belongs_to(name: str) -> None:
    assert "x" in label_stems(PurePosixPath(name))
    assert image_stems(PurePosixPath("x_leftImg8bit.png")) == ["x_leftImg8bit", "x"]


@pytest.mark.parametrize(
    ("image", "label", "parts"),
    [
        ("images/{part}/{name}.jpg", "masks/{part}/{name}.png", {"Train": 4, "Valid": 2}),
        ("images/{part}/{name}.jpg", "annotations/{part}/{name}.png", {"training": 4, "validation": 2}),
        ("img_dir/{part}/{name}.jpg", "ann_dir/{part}/{name}.png", {"train": 4, "val": 2}),
        ("{part}/images/{name}.jpg", "{part}/ground_truth/{name}.png", {"train": 4, "val": 2}),
        ("{part}/{name}.png", "{part}annot/{name}.png", {"train": 4, "val": 2}),
        ("{part}/{name}.png", "{part}_labels/{name}_L.png", {"train": 4, "val": 2}),
        ("images_{part}/{name}.jpg", "labels_{part}/{name}.png", {"train": 4, "dev": 2}),
        ("{part}/{name}.rf.0a.jpg", "{part}/{name}.rf.0a_mask.png", {"train": 4, "valid": 2}),
        ("{part}/{name}.jpg", "{part}/{name}.png", {"train": 4, "val": 2}),
        ("images/{part}/{name}.jpg", "labels/{part}/{name}.jpg.png", {"train": 4, "val": 2}),
        (
            "images/{part}/city/{name}_leftImg8bit.png",
            "labels/{part}/city/{name}_gtFine_labelIds.png",
            {"train": 4, "val": 2},
        ),
        ("images/{part}/{part}{name}.jpg", "masks/{part}{name}.png", {"train": 4, "val": 2}),
        ("images/{part}{name}.jpg", "masks/{part}/{part}{name}.png", {"train": 4, "val": 2}),
        ("data/images/{part}/{name}.JPG", "data/masks/{part}/mask_{name}.png", {"train": 4, "val": 2}),
    ],
)
def test_folders_are_read_under_any_spelling(tmp_path: Path, image: str, label: str, parts: dict[str, int]) -> None:
    write_dataset(tmp_path, image, label, parts=parts)
    root = tmp_path / "data" if image.startswith("data/") else tmp_path
    write_classes(root, *NAMES[:2])
    layout = read_layout(tmp_path)
    assert (layout.kind, counts(layout)) == ("folders", (4, 2, 0, 0))
    assert {use.state for use in layout.account} == {"used"}
    for sample in (*layout.lists.train, *layout.lists.val):
        assert sample.label is not None
        assert (
            Path(sample.image).name[:2] in Path(sample.label).name or "train" in sample.image or "val" in sample.image
        )


@pytest.mark.parametrize("name", ["testing", "Test", "tst"])
def test_test_images_without_labels_are_for_prediction(tmp_path: Path, name: str) -> None:
    write_dataset(tmp_path)
    write_dataset(tmp_path, label="", parts={name: 3}, first=500)
    write_classes(tmp_path, *NAMES[:2])
    layout = read_layout(tmp_path)
    assert counts(layout) == (4, 2, 3, 0)
    assert f"3 test images without labels, for prediction (images/{name}/)" in account_lines(layout.account)[0]


@pytest.mark.parametrize(
    "name", ["unlabelled", "Unlabeled", "train_unlabeled", "un_labeled", "No-Labels", "not_labelled", "without_labels"]
)
def test_images_without_labels_are_taken(tmp_path: Path, name: str) -> None:
    write_dataset(tmp_path)
    write_dataset(tmp_path, label="", parts={name: 3}, first=500)
    write_classes(tmp_path, *NAMES[:2])
    assert counts(read_layout(tmp_path)) == (4, 2, 0, 3)


@pytest.mark.parametrize("name", ["val_hard", "trainval", "testing_round_2"])
def test_a_folder_that_is_named_like_a_part_is_not_dropped(tmp_path: Path, name: str) -> None:
    write_dataset(tmp_path)
    write_dataset(tmp_path, label="", parts={name: 3}, first=500)
    write_classes(tmp_path, *NAMES[:2])
    assert fatal(tmp_path) == [
        f"images/{name}/: 3 images (first: 00.jpg) are not used: rename {name} to train, val, test or unlabeled, or "
        "move it out of the dataset"
    ]


def test_other_folders_are_a_warning_with_the_first_name(tmp_path: Path) -> None:
    write_dataset(tmp_path)
    write_dataset(tmp_path, label="", parts={"extra": 3}, first=500)
    grey(tmp_path / "labels/train/99.png", np.zeros((16, 24), np.uint8))
    (tmp_path / "README.md").write_text("Photographs of cats.\n")
    (tmp_path / "images/IMG_1.CR2").write_bytes(b"II*\0\x10\0\0\0CR")
    (tmp_path / "clip.mp4").write_bytes(b"\0\0\0\x18ftypmp42")
    (tmp_path / ".DS_Store").write_bytes(b"\0")
    write_classes(tmp_path, *NAMES[:2])
    layout = read_layout(tmp_path)
    assert counts(layout) == (4, 2, 0, 0)
    texts = {use.text() for use in unused(layout, "unused")}
    assert len(texts) == 4
    assert any(
        text.startswith("images/extra/: 3 images (first: 00.jpg) are not used: they belong to no part")
        for text in texts
    )
    assert "labels/train/99.png: 1 label is not used: no used image has a matching name" in texts
    assert any(
        text.startswith("clip.mp4: 1 MP4 file is not used: extract frames") and "ffmpeg" in text for text in texts
    )
    assert any(text.startswith("images/IMG_1.CR2: 1 CR2 file is not used: develop") for text in texts)
    assert account_lines(layout.account)[1] == "not used: 1 hidden file (.DS_Store); 1 other file (README.md)"
    assert sum(use.files for use in layout.account) == sum(1 for path in tmp_path.rglob("*") if path.is_file())


def test_photographs_in_a_format_that_is_not_read_are_named(tmp_path: Path) -> None:
    write_dataset(tmp_path)
    for path in (tmp_path / "images").rglob("*.jpg"):
        path.rename(path.with_suffix(".CR2"))
    write_classes(tmp_path, *NAMES[:2])
    assert (
        "has no images in a supported format (images/train/00.CR2 is CR2): develop the raw photographs to JPEG"
        in refusal(tmp_path)
    )


def test_two_photographs_with_one_label_are_refused(tmp_path: Path) -> None:
    write_dataset(tmp_path)
    photograph(tmp_path / "images/train/00.png", 0)
    write_classes(tmp_path, *NAMES[:2])
    assert refusal(tmp_path) == (
        f"dataset {tmp_path}: images/train/00.jpg and images/train/00.png both match labels/train/00.png; keep "
        "one image"
    )


def test_linked_folders_are_followed_and_loops_are_not(tmp_path: Path) -> None:
    root, disk = tmp_path / "photos", tmp_path / "disk"
    write_dataset(root)
    write_dataset(disk, "images/{name}.jpg", "labels/{name}.png", parts={"city": 3}, first=500)
    for kind in ("images", "labels"):
        (root / kind / "train/city").symlink_to(disk / kind)
    (root / "images/train/again").symlink_to(root / "images")
    write_classes(root, *NAMES[:2])
    layout = read_layout(root)
    assert counts(layout) == (7, 2, 0, 0)
    [link] = [use for use in layout.account if use.what == "link"]
    assert (link.place, link.why) == ("images/train/again", "points to a folder that contains it")


def test_voc_folders_with_classes_of_ones_own(tmp_path: Path) -> None:
    voc = np.array([[0, 0, 0], [128, 0, 0], [0, 128, 0]])
    pairs = write_dataset(
        tmp_path, "JPEGImages/{part}_{name}.png", "SegmentationClass/{part}_{name}.png", classes=3,
        write=lambda path, ids: with_palette(path, ids, voc),
    )  # fmt: skip
    sets = tmp_path / "ImageSets/Segmentation"
    sets.mkdir(parents=True)
    for part, names in pairs.items():
        (sets / f"{part}.txt").write_text("".join(f"{Path(image).stem}\n" for image, _ in names))
    [text] = fatal(tmp_path)
    assert "contain only 3 of PASCAL VOC's 21 classes: list your own classes in class_names.txt, one per line" in text
    (tmp_path / "class_names.txt").write_text("_background_\nweed\ncrop\n")
    layout = read_layout(tmp_path)
    assert [entry.name for entry in layout.lists.classes] == ["_background_", "weed", "crop"]
    assert (layout.kind, counts(layout)) == ("voc", (4, 2, 0, 0))
    # A list that is named like a part but is not read would lose images.
    (sets / "unlabelled.txt").write_text("more_1\n")
    assert ["is not used" in text for text in fatal(tmp_path)] == [True]


def test_a_cvat_export_is_read_as_it_is(tmp_path: Path) -> None:
    pairs = write_dataset(
        tmp_path, "JPEGImages/{name}.jpg", "SegmentationClass/{name}.png", parts={"all": 20}, classes=3, write=painted
    )
    sets = tmp_path / "ImageSets/Segmentation"
    sets.mkdir(parents=True)
    (sets / "default.txt").write_text("".join(f"{Path(image).stem}\n" for image, _ in pairs["all"]))
    rows = [f"{name}:{','.join(map(str, color))}::" for name, color in zip(NAMES, PAINT.tolist(), strict=True)]
    (tmp_path / "labelmap.txt").write_text("\n".join(("# label:color_rgb:parts:actions", *rows)))
    layout = read_layout(tmp_path)
    assert counts(layout) == (18, 2, 0, 0)
    assert layout.declared.colors == {tuple(color): number for number, color in enumerate(PAINT.tolist())}
    assert fatal(tmp_path) == []


CLASS_FILES = {
    "labelmap.txt": "# label:color_rgb:parts:actions\nbackground:0,0,0::\ncat:220,20,60::\ndog:0,0,142::\n",
    "class_dict.csv": "name,r,g,b\nbackground,0,0,0\ncat,220,20,60\ndog,0,0,142\n",
    "_classes.csv": "Pixel Value, Class\n0, background\n1, cat\n2, dog\n",
    "class_names.txt": "background\ncat\ndog\n",
    "labels.txt": "__ignore__\r\nbackground\r\ncat\r\ndog\r\n",
    "classes.txt": "0 background\n1 cat\n2 dog\n",
    "label_colors.txt": "0 0 0\tbackground\n220 20 60\tcat\n0 0 142\tdog\n",
    "data.yaml": "nc: 3\nnames: [background, cat, dog]\n",
    "classes.yaml": "classes: [background, cat, dog]\n",
    "classes.json": '{"categories": [{"id": 0, "name": "background"}, {"id": 1, "name": "cat"}, '
    '{"id": 2, "name": "dog"}]}',
    "classes.yml": "{0: background, 1: cat, 2: dog}\n",
    "classes.csv": "id;name;r;g;b\n0;background;0;0;0\n1;cat;220;20;60\n2;dog;0;0;142\n",
    "labels.csv": "background,#000000\ncat,#dc143c\ndog,#00008e\n",
    "class_colors.txt": "background 0 0 0\ncat 220 20 60\ndog 0 0 142\n",
    "label_map.txt": "0: background\n1: cat\n2: dog\n",
    "classes.names": "background\ncat\ndog\n",
}


@pytest.mark.parametrize("name", CLASS_FILES)
def test_classes_are_read_from_what_tools_write(tmp_path: Path, name: str) -> None:
    write_dataset(tmp_path, classes=3)
    (tmp_path / name).write_bytes(CLASS_FILES[name].encode())
    layout = read_layout(tmp_path)
    assert [entry.name for entry in layout.lists.classes] == list(NAMES)
    assert layout.declared.files == (name,)
    assert {use.state for use in layout.account} == {"used"}


@pytest.mark.parametrize("encoding", ["utf-8-sig", "utf-16"])
def test_text_as_windows_writes_it(tmp_path: Path, encoding: str) -> None:
    pairs = write_dataset(tmp_path)
    (tmp_path / "classes.json").write_bytes(
        json.dumps({"classes": ["straße", "cat"]}, ensure_ascii=False).encode(encoding)
    )
    for part, names in pairs.items():
        lines = "".join(f"{image}\t{label}\r\n" for image, label in names)
        (tmp_path / f"{part}.txt").write_bytes(lines.replace("/", "\\").encode(encoding))
    layout = read_layout(tmp_path)
    assert (layout.kind, counts(layout), layout.lists.classes[0].name) == ("lists", (4, 2, 0, 0), "straße")


def test_files_of_classes_that_differ_are_refused(tmp_path: Path) -> None:
    write_dataset(tmp_path, classes=3)
    (tmp_path / "labels.txt").write_text("background\ncat\ndog\n")
    (tmp_path / "classes.txt").write_text("background\ncat\nhorse\n")
    assert refusal(tmp_path).endswith("declare different classes: remove one, or add classes.json")
    (tmp_path / "classes.txt").write_text("0 background\n1 cat\n2 dog\n300 horse\n")
    assert refusal(tmp_path) == (
        f"{tmp_path}/classes.txt:4: '300 horse' is not a valid class: write a name with a value or colour of 0 to 255"
    )


def test_a_name_that_says_void_is_void(tmp_path: Path) -> None:
    write_dataset(tmp_path, classes=3)
    (tmp_path / "class_dict.csv").write_text("name,r,g,b\nVoid,0,0,0\ncat,220,20,60\ndog,0,0,142\n")
    layout = read_layout(tmp_path)
    assert [entry.name for entry in layout.lists.classes] == ["cat", "dog"]
    assert layout.declared.colors[0, 0, 0] == layout.lists.ignore_index
    assert layout.notes == ("classes from class_dict.csv", "'Void' is treated as void because of its name")


@pytest.mark.parametrize("ending", ["csv", "json", "yaml"])
def test_a_split_that_is_not_read_is_refused(tmp_path: Path, ending: str) -> None:
    pairs = write_dataset(tmp_path, "images/{part}{name}x.jpg", "labels/{part}{name}x.png")
    write_classes(tmp_path, *NAMES[:2])
    names = {part: [Path(image).name for image, _ in each] for part, each in pairs.items()}
    rows = "".join(f"{name},{part}\n" for part, each in names.items() for name in each)
    (tmp_path / f"split.{ending}").write_text(f"image,split\n{rows}" if ending == "csv" else json.dumps(names))
    assert [
        text.startswith(f"split.{ending}: 1 list is not used: it assigns images to parts") for text in fatal(tmp_path)
    ] == [True]


@pytest.mark.parametrize("name", ["{part}_{name}", "{name}_{part}", "{part}{name}"])
def test_parts_that_the_names_of_images_say(tmp_path: Path, name: str) -> None:
    write_dataset(tmp_path, f"images/{name}.jpg", f"labels/{name}.png")
    write_classes(tmp_path, *NAMES[:2])
    layout = read_layout(tmp_path)
    assert counts(layout) == (4, 2, 0, 0)
    assert all("val" in sample.image for sample in layout.lists.val)
    assert "parts are taken from the image names" in layout.notes[0]


def test_val_is_held_out_of_train_where_there_is_test_alone(tmp_path: Path) -> None:
    write_dataset(tmp_path, "{part}_images/{name}.jpg", "{part}_masks/{name}.png", parts={"train": 20})
    write_dataset(tmp_path, "{part}_images/{name}.jpg", "", parts={"test": 3}, first=500)
    write_classes(tmp_path, *NAMES[:2])
    layout = read_layout(tmp_path)
    assert counts(layout) == (18, 2, 3, 0)
    assert layout.notes == ("no val folder: held out 2 images, chosen by a hash of their names",)
    photograph(tmp_path / "check/00.jpg", 1)
    [left] = unused(read_layout(tmp_path), "unused")
    assert left.text().startswith("check/00.jpg: 1 image is not used: ")


@pytest.mark.parametrize("name", ["labels/train/00.json", "labels/train/00.txt", "annotations/instances_train.json"])
def test_annotations_that_are_no_pictures_are_named(tmp_path: Path, name: str) -> None:
    write_dataset(tmp_path, label="")
    write_classes(tmp_path, *NAMES[:2])
    (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
    (tmp_path / name).write_text("{}")
    assert f"; {name} is an annotation file, not an image: export masks as PNG" in refusal(tmp_path)


def test_labels_in_a_format_that_cannot_be_read_are_named(tmp_path: Path) -> None:
    write_dataset(tmp_path)
    write_classes(tmp_path, *NAMES[:2])
    for path in sorted((tmp_path / "labels").glob("*/*.png")):
        path.rename(path.with_suffix(".gif"))
    assert "; labels/train/00.gif cannot be read, because it is GIF: save the labels as PNG" in refusal(tmp_path)


def test_text_in_another_encoding_is_named(tmp_path: Path) -> None:
    write_dataset(tmp_path)
    (tmp_path / "classes.json").write_bytes(b'{"classes": ["stra\xdfe", "cat"]}')
    assert refusal(tmp_path) == f"{tmp_path}/classes.json is not UTF-8 text: save it as UTF-8"


@pytest.mark.parametrize(
    "names",
    [("train.txt", "val.txt"), ("train_list.txt", "val_list.txt"), ("splits/training.csv", "splits/valid.csv")],
)
@pytest.mark.parametrize("separator", [" ", "\t", ",", "|", " , "])
def test_lists_under_any_name_and_separator(tmp_path: Path, names: tuple[str, str], separator: str) -> None:
    pairs = write_dataset(tmp_path, "photos/{part}_{name}.jpg", "masks/{part}_{name}.png")
    write_classes(tmp_path, *NAMES[:2])
    for name, lines in zip(names, pairs.values(), strict=True):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_text("".join(f"./{image}{separator}{label}\n" for image, label in lines))
    layout = read_layout(tmp_path)
    assert (layout.kind, counts(layout)) == ("lists", (4, 2, 0, 0))
    assert layout.lists.train[1].label == "masks/train_01.png"


def test_lists_with_comments_quotes_and_names_from_their_own_folder(tmp_path: Path) -> None:
    pairs = write_dataset(tmp_path)
    write_classes(tmp_path, *NAMES[:2])
    (tmp_path / "lists").mkdir()
    for part, names in pairs.items():
        lines = "".join(f'"../{image}", "../{label}"\n' for image, label in names)
        (tmp_path / f"lists/{part}.csv").write_text(f"# made by hand\nimage,mask\n{lines}")
    assert counts(read_layout(tmp_path)) == (4, 2, 0, 0)
    (tmp_path / "lists/val.csv").write_text("../../etc/passwd\n")
    assert "points outside the dataset's folder" in refusal(tmp_path)


def test_accents_are_one_letter_or_two(tmp_path: Path) -> None:
    composed, apart = (unicodedata.normalize(form, "café") for form in ("NFC", "NFD"))
    pairs = write_dataset(tmp_path, f"images/{{part}}/{composed}{{name}}.jpg", f"labels/{{part}}/{apart}{{name}}.png")
    write_classes(tmp_path, *NAMES[:2])
    assert counts(read_layout(tmp_path)) == (4, 2, 0, 0)
    for part, names in pairs.items():
        lines = "".join(f"{image} {label}\n" for image, label in names)
        (tmp_path / f"{part}.txt").write_text(unicodedata.normalize("NFC", lines))
    layout = read_layout(tmp_path)
    assert (layout.kind, counts(layout)) == ("lists", (4, 2, 0, 0))


def test_a_folder_of_no_part_is_named_where_val_is_missed(tmp_path: Path) -> None:
    write_dataset(tmp_path, parts={"train": 4, "holdout": 2})
    write_classes(tmp_path, *NAMES[:2])
    assert refusal(tmp_path) == (
        f"dataset {tmp_path} has no validation images (found 4 train; images/holdout/00.jpg belongs to no part): add a "
        "folder val with images and labels, or rename an existing folder to val"
    )


def test_ids_of_voc_may_have_spaces(tmp_path: Path) -> None:
    pairs = write_dataset(tmp_path, "JPEGImages/{part} ({name}).jpg", "SegmentationClass/{part} ({name}).png")
    write_classes(tmp_path, *NAMES[:2])
    sets = tmp_path / "ImageSets/Segmentation"
    sets.mkdir(parents=True)
    for part, names in pairs.items():
        (sets / f"{part}.txt").write_text("".join(f"{Path(image).stem}\n" for image, _ in names))
    layout = read_layout(tmp_path)
    assert (layout.kind, counts(layout)) == ("voc", (4, 2, 0, 0))


def test_lists_of_stems_and_a_header(tmp_path: Path) -> None:
    pairs = write_dataset(tmp_path, "images/{part}_{name}.jpg", "labels/{part}_{name}.png")
    write_classes(tmp_path, *NAMES[:2])
    (tmp_path / "train.txt").write_text("".join(f"{Path(image).stem}\n" for image, _ in pairs["train"]))
    (tmp_path / "val.csv").write_text("image\n" + "".join(f"{image}\n" for image, _ in pairs["val"]))
    layout = read_layout(tmp_path)
    assert counts(layout) == (4, 2, 0, 0)
    assert "the lists name images only; labels are matched by file name" in layout.notes


def test_names_with_spaces_and_brackets(tmp_path: Path) -> None:
    pairs = write_dataset(tmp_path, "photos/{part} ({name}).jpg", "masks/{part} ({name}).png")
    write_classes(tmp_path, *NAMES[:2])
    for part, names in pairs.items():
        (tmp_path / f"{part}.txt").write_text("".join(f"{image} {label}\n" for image, label in names))
    assert read_layout(tmp_path).lists.train[0].label == "masks/train (00).png"


def test_a_line_that_can_be_read_in_two_ways_is_refused(tmp_path: Path) -> None:
    pairs = write_dataset(tmp_path, "{part}{name}.png", "m{part}{name}.png")
    write_classes(tmp_path, *NAMES[:2])
    for part, names in pairs.items():
        (tmp_path / f"{part}.txt").write_text("".join(f"{image}\t{label}\n" for image, label in names))
    for name in ("a", "a b.png", "b.png c.png", "c.png"):
        photograph(tmp_path / f"{name.removesuffix('.png')}.png", 0)
    (tmp_path / "a").write_bytes((tmp_path / "a.png").read_bytes())
    (tmp_path / "train.txt").write_text("a b.png c.png\n")
    assert "matches several pairs of files; separate the two names with a tab" in refusal(tmp_path)


@pytest.mark.parametrize("start", ["{root}", "/srv/photos", "C:\\Users\\me\\photos", "/SegNet/CamVid"])
def test_absolute_lists_are_read_from_here(tmp_path: Path, start: str) -> None:
    pairs = write_dataset(tmp_path)
    write_classes(tmp_path, *NAMES[:2])
    base = start.format(root=tmp_path)
    for part, names in pairs.items():
        (tmp_path / f"{part}.txt").write_text("".join(f"{base}/{image} {base}/{label}\n" for image, label in names))
    layout = read_layout(tmp_path)
    assert counts(layout) == (4, 2, 0, 0)
    assert bool(layout.notes) == (base != str(tmp_path))


def test_a_missing_file_is_not_looked_for_by_the_end_of_its_name(tmp_path: Path) -> None:
    pairs = write_dataset(tmp_path)
    write_classes(tmp_path, *NAMES[:2])
    for part, names in pairs.items():
        (tmp_path / f"{part}.txt").write_text("".join(f"{image} {label}\n" for image, label in names))
    (tmp_path / "labels/train/02.png").rename(tmp_path / "02.png")
    assert f"{tmp_path}/train.txt:3: labels/train/02.png does not exist in {tmp_path}" in refusal(tmp_path)


def test_a_list_that_nothing_reads_is_refused_and_a_subset_is_not(tmp_path: Path) -> None:
    pairs = write_dataset(tmp_path)
    write_dataset(tmp_path, label="", parts={"more": 3}, first=500)
    write_classes(tmp_path, *NAMES[:2])
    for part, names in pairs.items():
        (tmp_path / f"{part}.txt").write_text("".join(f"{image} {label}\n" for image, label in names))
    (tmp_path / "trainval.txt").write_text((tmp_path / "train.txt").read_text() + (tmp_path / "val.txt").read_text())
    assert fatal(tmp_path) == []
    (tmp_path / "train_extra.txt").write_text("images/more/00.jpg\n")
    [text] = fatal(tmp_path)
    assert text == (
        "train_extra.txt: 1 list is not used: the dataset is read from train.txt, val.txt; remove this list, or merge "
        "it into one of those"
    )


def test_two_lists_of_one_part_are_refused(tmp_path: Path) -> None:
    pairs = write_dataset(tmp_path)
    write_classes(tmp_path, *NAMES[:2])
    for name in ("train.txt", "training.txt", "val.txt"):
        (tmp_path / name).write_text("".join(f"{image} {label}\n" for image, label in pairs["train"]))
    assert (
        refusal(tmp_path) == f"dataset {tmp_path} has two lists of train images, train.txt and training.txt: keep one"
    )


def test_the_account_is_printed_and_whole_as_json(tmp_path: Path) -> None:
    write_dataset(tmp_path / "photos")
    write_dataset(tmp_path / "photos", label="", parts={"extra": 3}, first=500)
    write_classes(tmp_path / "photos", *NAMES[:2])
    command = ("dataset", "check", str(tmp_path / "photos"))
    text = cps(*command, CPS_CACHE=str(tmp_path / "cache")).stdout
    assert "used: 4 train images (images/train/), 4 train labels (labels/train/)" in text
    assert "images/extra/: 3 images (first: 00.jpg) are not used" in text
    found = json.loads(cps(*command, "--json", CPS_CACHE=str(tmp_path / "cache")).stdout)
    by_place = {use["place"]: (use["state"], use["files"]) for use in found["account"]}
    assert by_place["images/extra/"] == ("unused", 3)
    assert by_place["images/train/"] == ("used", 4)
    assert found["verdict"] == "warning"


def test_a_jfif_is_a_photograph(tmp_path: Path) -> None:
    write_dataset(tmp_path)
    for path in (tmp_path / "images").rglob("*.jpg"):
        path.rename(path.with_suffix(".jfif"))
    write_classes(tmp_path, *NAMES[:2])
    layout = read_layout(tmp_path)
    assert counts(layout) == (4, 2, 0, 0)
    with Image.open(tmp_path / layout.lists.train[0].image) as picture:
        assert picture.format == "JPEG"


def test_lists_of_ratios_are_used_where_there_are_lists_and_refused_elsewhere(tmp_path: Path) -> None:
    pairs = write_dataset(tmp_path)
    write_classes(tmp_path, *NAMES[:2])
    own = tmp_path / "splits/1_2"
    own.mkdir(parents=True)
    (own / "labeled.txt").write_text("".join(f"{image} {label}\n" for image, label in pairs["train"][:2]))
    [text] = fatal(tmp_path)
    assert "splits/1_2/labeled.txt: 1 list is not used: ratio lists need train.txt and val.txt" in text
    for part, names in pairs.items():
        (tmp_path / f"{part}.txt").write_text("".join(f"{image} {label}\n" for image, label in names))
    assert list(read_layout(tmp_path).lists.ratio_lists) == ["1/2"]
    assert fatal(tmp_path) == []


@pytest.mark.parametrize("place", ["meta", "masks", "splits/fold0"])
@pytest.mark.parametrize("stems", [False, True])
def test_lists_that_are_not_found_are_refused(tmp_path: Path, place: str, *, stems: bool) -> None:
    pairs = write_dataset(tmp_path, "images/{name}q.jpg", "masks/{name}q.png", parts={"all": 12})["all"]
    write_classes(tmp_path, *NAMES[:2])
    (tmp_path / place).mkdir(parents=True, exist_ok=True)
    for part, chosen in (("train", pairs[:8]), ("val", pairs[8:])):
        lines = (Path(image).stem if stems else f"{image} {label}" for image, label in chosen)
        (tmp_path / place / f"{part}.txt").write_text("".join(f"{line}\n" for line in lines))
    texts = fatal(tmp_path)
    assert len(texts) == 2
    assert all("move the lists of all parts next to them as train.txt and val.txt" in text for text in texts)


@pytest.mark.parametrize(
    "content",
    [
        [{"train": ["00q", "01q"], "val": ["02q"]}],
        {"00q.jpg": "train", "01q.jpg": "val", "02q.jpg": "val"},
        [{"image": "00q.jpg", "split": "train"}, {"image": "01q.jpg", "split": "val"}],
    ],
)
def test_a_split_in_any_json_is_refused(tmp_path: Path, content: object) -> None:
    write_dataset(tmp_path, "images/{name}q.jpg", "masks/{name}q.png", parts={"all": 12})
    write_classes(tmp_path, *NAMES[:2])
    (tmp_path / "splits_final.json").write_text(json.dumps(content))
    [text] = fatal(tmp_path)
    assert text.startswith("splits_final.json: 1 list is not used: it assigns images to parts")


def test_annotations_that_name_images_are_no_split(tmp_path: Path) -> None:
    pairs = write_dataset(tmp_path)
    write_classes(tmp_path, *NAMES[:2])
    (tmp_path / "annotations").mkdir()
    for part, each in pairs.items():
        images = [{"id": number, "file_name": Path(image).name} for number, (image, _) in enumerate(each)]
        text = json.dumps({"images": images, "categories": [{"id": 1, "name": "train"}], "annotations": []})
        (tmp_path / f"annotations/instances_{part}.json").write_text(text)
    assert fatal(tmp_path) == []


@pytest.mark.parametrize("name", ["{part}_day/{name}", "kyoto_{part}/{name}", "img_{part}{name}_x"])
def test_parts_in_the_middle_of_names_are_not_held_out_over(tmp_path: Path, name: str) -> None:
    write_dataset(tmp_path, f"images/{name}.jpg", f"labels/{name}.png")
    write_classes(tmp_path, *NAMES[:2])
    assert "suggests another part than the rest, but no folder or list assigns parts" in refusal(tmp_path)


def test_pictures_beside_the_images_folder_are_no_photographs(tmp_path: Path) -> None:
    write_dataset(tmp_path, "images/{name}.jpg", "masks/{name}.png", parts={"all": 20})
    for place in ("depth", "images/@eaDir/00.jpg", "images/thumbnails"):
        photograph(tmp_path / place / "00.jpg", 7)
    write_classes(tmp_path, *NAMES[:2])
    layout = read_layout(tmp_path)
    assert counts(layout) == (18, 2, 0, 0)
    assert [use.place for use in unused(layout, "unused")] == ["depth/00.jpg"]


def test_subsets_of_cvat_are_its_parts(tmp_path: Path) -> None:
    pairs = write_dataset(tmp_path, "JPEGImages/{part}_{name}.jpg", "SegmentationClass/{part}_{name}.png")
    write_classes(tmp_path, *NAMES[:2])
    sets = tmp_path / "ImageSets/Segmentation"
    sets.mkdir(parents=True)
    everything = ""
    for name, each in zip(("Train", "Validation"), pairs.values(), strict=True):
        text = "".join(f"{Path(image).stem}\n" for image, _ in each)
        (sets / f"{name}.txt").write_text(text)
        everything += text
    (sets / "default.txt").write_text(everything)
    assert counts(read_layout(tmp_path)) == (4, 2, 0, 0)
    assert fatal(tmp_path) == []


def test_lists_with_lines_twice_or_labels_twice(tmp_path: Path) -> None:
    pairs = write_dataset(tmp_path)
    write_classes(tmp_path, *NAMES[:2])
    for part, names in pairs.items():
        (tmp_path / f"{part}.txt").write_text(2 * "".join(f"{image} {label}\n" for image, label in names))
    assert counts(read_layout(tmp_path)) == (4, 2, 0, 0)
    (tmp_path / "train.txt").write_text(
        f"{pairs['train'][0][0]} {pairs['train'][1][1]}\n" + "{} {}\n".format(*pairs["train"][0])
    )
    assert "the lists pair images/train/00.jpg with two labels, labels/train/01.png and labels/train/00.png" in refusal(
        tmp_path
    )
    (tmp_path / "train.txt").write_text("{} {}\n".format(*pairs["train"][0]))
    (tmp_path / "val.txt").write_text(f"{pairs['val'][0][0]} {pairs['train'][0][1]}\n")
    assert "pair labels/train/00.png with two images, images/train/00.jpg and images/val/00.jpg" in refusal(tmp_path)


def test_names_of_classes_with_numbers_and_words_that_yaml_knows(tmp_path: Path) -> None:
    write_dataset(tmp_path, classes=3)
    (tmp_path / "labels.txt").write_text("level 2\nlevel 1\nlevel 0\n")
    assert [entry.name for entry in read_layout(tmp_path).lists.classes] == ["level 2", "level 1", "level 0"]
    (tmp_path / "labels.txt").write_text("red\ngreen\nblue\n")
    assert [entry.name for entry in read_layout(tmp_path).lists.classes] == ["red", "green", "blue"]
    (tmp_path / "labels.txt").unlink()
    (tmp_path / "data.yaml").write_text("names: [background, off, on]\n")
    assert [entry.name for entry in read_layout(tmp_path).lists.classes] == ["background", "off", "on"]


def test_two_folders_that_mean_the_same_part_are_to_be_renamed_not_emptied(tmp_path: Path) -> None:
    write_dataset(tmp_path)
    for role in ("images", "labels"):
        (tmp_path / role / "val").rename(tmp_path / role / "dev")
        shutil.copytree(tmp_path / role / "dev", tmp_path / role / "eval")
    write_classes(tmp_path, *NAMES[:2])
    assert refusal(tmp_path).endswith(
        "both match labels/dev/00.png; dev and eval both mean val: name the images' and the labels' eval after another "
        "part (train, val, test or unlabeled), or give its images and labels other file names"
    )
    for role in ("images", "labels"):
        (tmp_path / role / "eval").rename(tmp_path / role / "test")
    layout = read_layout(tmp_path)
    assert counts(layout)[1] == counts(layout)[2] > 0


@pytest.mark.parametrize("first", ["dev", "val"])
def test_dev_and_eval_are_not_merged_into_val_in_silence(tmp_path: Path, first: str) -> None:
    write_dataset(tmp_path, parts={"train": 4, first: 2})
    for role in ("images", "labels"):
        shutil.copytree(tmp_path / role / first, tmp_path / role / "eval")
        for path in sorted((tmp_path / role / "eval").iterdir()):
            path.rename(path.with_stem(f"other_{path.stem}"))
    write_classes(tmp_path, *NAMES[:2])
    both = " and ".join(sorted([f"images/{first}", "images/eval"]))
    assert refusal(tmp_path).endswith(
        f"{both} both mean val: if they are two parts, rename eval to test, for images and for "
        "labels; if not, move the files of both into val"
    )
    for role in ("images", "labels"):
        (tmp_path / role / "eval").rename(tmp_path / role / "test")
    assert counts(read_layout(tmp_path)) == (4, 2, 2, 0)


def test_both_folders_of_one_part_can_be_merged(tmp_path: Path) -> None:
    write_dataset(tmp_path, "images/{part}/{part}_{name}.jpg", "labels/{part}/{part}_{name}.png")
    write_dataset(tmp_path, "images/valid/valid_{name}.jpg", "labels/valid/valid_{name}.png", parts={"valid": 2})
    write_classes(tmp_path, *NAMES[:2])
    assert "both mean val" in refusal(tmp_path)
    for role in ("images", "labels"):
        for path in sorted((tmp_path / role / "valid").iterdir()):
            path.rename(tmp_path / role / "val" / path.name)
        (tmp_path / role / "valid").rmdir()
    assert counts(read_layout(tmp_path)) == (4, 4, 0, 0)
