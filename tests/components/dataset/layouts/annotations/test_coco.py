"""COCO files as exported by COCO itself, Roboflow, Label Studio and CVAT."""

import json
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image
from pycocotools import mask as coco_mask

from components.dataset.check.inspect import inspect_dataset
from components.dataset.layouts import account_lines, read_layout, unused
from components.dataset.prepare import prepare
from components.dataset.stored.reader import DatasetReader
from components.storage.client import Store
from tests.components.dataset.annotated_on_disk import (
    HEIGHT,
    WIDTH,
    coco,
    decoded,
    expected,
    opened,
    polygon,
    read_labels,
    refusal,
    square,
    two_parts,
)
from tests.components.dataset.scenes_on_disk import SIZE, grey, ids_of, photograph

WHOLE = expected((1, (2, 2, 6)), (2, (10, 2, 4)))


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    folder = tmp_path / "photos"
    folder.mkdir()
    return folder


def edit(path: Path, **changes: Any) -> None:
    """Replace top-level values of a JSON file; a function gets the value to change it in place."""
    value = json.loads(path.read_text())
    for key, change in changes.items():
        if callable(change):
            change(value[key])
        elif change is None:
            del value[key]
        else:
            value[key] = change
    path.write_text(json.dumps(value))


def test_a_file_for_each_part_as_roboflow_exports(folder: Path) -> None:
    two_parts(folder)
    layout, labels = read_labels(folder)
    assert (layout.kind, len(layout.lists.train), len(layout.lists.val)) == ("coco", 2, 2)
    assert [entry.name for entry in layout.lists.classes] == ["background", "cat", "dog"]
    assert all((label == WHOLE).all() for label in labels.values())
    assert "2 annotation files" in account_lines(layout.account)[0]
    assert {use.state for use in layout.account} == {"used"}
    assert any("without an annotation are class 0 (background)" in note for note in layout.notes)


@pytest.mark.parametrize(
    ("train", "val", "folders"),
    [
        ("annotations/instances_train2017.json", "annotations/instances_val2017.json", ("train2017", "val2017")),
        (
            "annotations/instances_Train.json",
            "annotations/instances_Validation.json",
            ("images/Train", "images/Validation"),
        ),
        ("train.json", "val.json", ("images", "images")),
        ("annotations/train_v2.json", "annotations/val_v2.json", ("data", "data")),
    ],
)
def test_parts_by_the_names_of_the_files(folder: Path, train: str, val: str, folders: tuple[str, str]) -> None:
    coco(folder, train, {"a.jpg": [polygon(1)], "b.jpg": [polygon(2)]}, folder=folders[0])
    coco(folder, val, {"c.jpg": [polygon(1)]}, folder=folders[1])
    lists = read_layout(folder).lists
    assert ([sample.image[-5:] for sample in lists.train], [sample.image[-5:] for sample in lists.val]) == (
        ["a.jpg", "b.jpg"],
        ["c.jpg"],
    )


@pytest.mark.parametrize(
    ("file", "name", "place"),
    [
        ("result.json", "images/{}.jpg", "images"),  # Label Studio
        ("result.json", r"images\{}.jpg", "images"),
        ("result.json", "/data/upload/1/{}.jpg", "images"),
        ("result.json", "http://localhost:8080/data/upload/1/{}%20x.jpg", "images"),
        ("result.json", "/data/local-files/?d=photos/images/{}.jpg", "images"),
        ("annotations/instances_default.json", "{}.jpg", "images"),  # CVAT
        ("annotations/instances_default.json", "default/{}.jpg", "images/default"),
        ("labels.json", "{}.jpg", "data"),  # FiftyOne
        ("annotations.coco.json", "/mnt/data/photos/images/{}.jpg", "images"),
        ("coco/all.json", "./../images/{}.jpg", "images"),
    ],
)
def test_one_file_is_split_by_hash(folder: Path, file: str, name: str, place: str) -> None:
    names = [name.format(f"p{number}") for number in range(10)]
    coco(folder, file, {each: [polygon()] for each in names}, {1: "cat"}, folder="written")
    for number in range(10):
        photograph(folder / place / f"p{number}{' x' if '%20' in name else ''}.jpg", number)
    shutil.rmtree(folder / "written")
    layout, labels = read_labels(folder)
    assert (len(layout.lists.train), len(layout.lists.val), len(labels)) == (9, 1, 10)
    assert any("held out 1 image" in note for note in layout.notes)


def test_run_lengths_in_both_forms(folder: Path) -> None:
    masks = np.random.default_rng(0).random((3, *SIZE)) < 0.4
    compressed = [coco_mask.encode(np.asfortranarray(mask.astype(np.uint8))) for mask in masks]
    flat = masks[1].T.ravel()
    runs = np.diff(np.flatnonzero(np.concatenate(([True], np.diff(flat), [True])))).tolist()
    counts = [0, *runs] if flat[0] else runs
    rle = {"size": list(SIZE), "counts": compressed[0]["counts"].decode()}
    two_parts(
        folder,
        {
            "a.jpg": [{"category_id": 1, "segmentation": rle}],
            "b.jpg": [{"category_id": 2, "segmentation": {"size": list(SIZE), "counts": counts}, "iscrowd": 1}],
        },
    )
    layout, labels = read_labels(folder)
    assert (labels["a"] == masks[0]).all()
    assert (labels["b"] == 2 * masks[1]).all()
    assert any("iscrowd (1) are drawn as their category, below" in note for note in layout.notes)


def test_polygons_with_several_parts_and_fractions_are_those_of_pycocotools(folder: Path) -> None:
    random = np.random.default_rng(1)
    rings = [(random.random((7, 2)) * (WIDTH + 8, HEIGHT + 8) - 4).ravel().tolist() for _ in range(3)]
    two_parts(folder, {"a.jpg": [{"category_id": 1, "segmentation": rings}], "b.jpg": [polygon(2)]})
    _, labels = read_labels(folder)
    drawn = decoded(coco_mask.merge(coco_mask.frPyObjects(rings, HEIGHT, WIDTH)))
    assert (labels["a"] == drawn).all()
    assert drawn.any()


def test_the_smaller_annotation_covers_the_larger_and_crowds_lie_below(folder: Path) -> None:
    shapes = [polygon(2, square(3, 3, 2)), polygon(1, square(0, 0, 9)), polygon(2, square(0, 0, 8), iscrowd=1)]
    two_parts(folder, {"a.jpg": shapes, "b.jpg": [polygon(1)]})
    layout, labels = read_labels(folder)
    assert (labels["a"] == expected((1, (0, 0, 9)), (2, (3, 3, 2)))).all()
    assert any("in 1 image (" in note and "the smaller annotation is drawn over" in note for note in layout.notes)


def test_a_listed_image_without_annotations_is_background_and_an_unlisted_one_unlabelled(folder: Path) -> None:
    two_parts(folder, {"a.jpg": [polygon(1)], "b.jpg": [polygon(2)], "empty.jpg": []})
    photograph(folder / "train/unlisted.jpg", 50)
    photograph(folder / "unlabeled/far.jpg", 51)
    layout, labels = read_labels(folder)
    assert not labels["empty"].any()
    assert layout.lists.unlabeled == ("train/unlisted.jpg", "unlabeled/far.jpg")
    notes = " ".join(layout.notes)
    assert "1 image listed without annotations, such as empty.jpg: all background" in notes
    assert "2 images without annotations, such as train/unlisted.jpg, count as unlabelled" in notes
    photograph(folder / "valid/new.jpg", 52)
    assert "valid/new.jpg has no annotations, but every validation image needs them" in refusal(folder)


def test_pictures_beside_a_flat_dataset_are_unlabelled(folder: Path) -> None:
    coco(folder, "result.json", {f"images/{n}.jpg": [polygon()] for n in range(4)}, {1: "cat"}, folder="images")
    photograph(folder / "images/new.jpg", 50)
    photograph(folder / "unlabeled/far.jpg", 51)
    photograph(folder / "depth/0.jpg", 52)
    layout = read_layout(folder)
    assert layout.lists.unlabeled == ("images/new.jpg", "unlabeled/far.jpg")
    assert [use.place for use in unused(layout, "unused")] == ["depth/0.jpg"]


def test_test_images_with_and_without_annotations(folder: Path) -> None:
    two_parts(folder)
    coco(folder, "test/_annotations.coco.json", {"t.jpg": []})
    assert [sample.label for sample in read_layout(folder).lists.test] == [None]
    coco(folder, "test/_annotations.coco.json", {"t.jpg": [polygon()]})
    _, labels = read_labels(folder)
    assert (labels["t"] == expected((1, (2, 2, 6)))).all()


def test_classes_follow_the_category_ids_and_unused_ones_are_left_out(folder: Path) -> None:
    two_parts(folder, categories={7: "zebra", 2: "dog", 1: "cat", 0: "animals"})
    layout = read_layout(folder)
    assert [entry.name for entry in layout.lists.classes] == ["background", "cat", "dog"]
    assert any("no image has an annotation of 'animals', 'zebra': left out" in note for note in layout.notes)
    # Ids may differ between the parts: names decide.
    coco(folder, "valid/_annotations.coco.json", {"c.jpg": [polygon(5)], "d.jpg": []}, {5: "dog", 6: "cat"})
    _, labels = read_labels(folder)
    assert (labels["c"] == expected((2, (2, 2, 6)))).all()


def test_a_category_named_background_is_the_background(folder: Path) -> None:
    two_parts(folder, categories={1: "cat", 2: "Dog", 0: "background"})
    layout, labels = read_labels(folder)
    assert [entry.name for entry in layout.lists.classes] == ["background", "cat", "Dog"]
    assert (labels["a"] == WHOLE).all()


def test_classes_json_orders_maps_and_ignores_names(folder: Path) -> None:
    two_parts(folder, categories={1: "cat", 2: "dog"})
    classes = [{"id": 0, "name": "pet", "names": ["dog"]}, {"id": 1, "name": "background"}]
    (folder / "classes.json").write_text(json.dumps({"classes": classes, "ignore_names": ["cat"]}))
    layout, labels = read_labels(folder)
    assert [entry.name for entry in layout.lists.classes] == ["pet", "background"]
    assert (labels["a"] == expected((255, (2, 2, 6)), (0, (10, 2, 4)), background=1)).all()
    assert any("class 1 (background), as classes.json says" in note for note in layout.notes)
    (folder / "classes.json").write_text(json.dumps({"classes": ["cat", "dog"], "ignore_names": ["background"]}))
    layout, labels = read_labels(folder)
    assert (labels["a"] == expected((0, (2, 2, 6)), (1, (10, 2, 4)), background=255)).all()
    assert any("are void, as classes.json says" in note for note in layout.notes)


def test_classes_json_must_say_what_every_name_and_the_background_are(folder: Path) -> None:
    two_parts(folder)
    (folder / "classes.json").write_text('["cat", "dog"]')
    assert "does not say what pixels without an annotation are" in refusal(folder)
    (folder / "classes.json").write_text('["background", "cat", "dogs"]')
    assert "classes.json does not name 'dog', which is annotated" in refusal(folder)
    assert "did you mean 'dogs'?" in refusal(folder)


@pytest.mark.parametrize(
    ("annotation", "text"),
    [
        ({"segmentation": [], "bbox": [2, 2, 6, 6]}, "annotation 3 (cat) has a box, not an area: draw it as a polygon"),
        ({"segmentation": [[1, 1, 5]]}, "has an odd number of coordinates"),
        ({"segmentation": [[1, 1, 5, 1, 5, 5e9]]}, "annotation 3 (cat) is far outside the image of 24x16 pixels"),
        ({"segmentation": {"size": [8, 8], "counts": [64]}}, "is a mask of 8x8 pixels in an image of 24x16"),
        ({"segmentation": {"size": [16, 24], "counts": [3, 2]}}, "has run lengths for 5 pixels, but its mask has 384"),
        ({"segmentation": {"size": [16, 24], "counts": [300, 999]}}, "has run lengths for 1,299 pixels"),
        ({"segmentation": {"size": [16, 24], "counts": [3, -2, 383]}}, "has damaged run lengths"),
        ({"segmentation": {"size": [16, 24], "counts": "0003"}}, "has run lengths for 3 pixels"),
        ({"segmentation": {"size": [16, 24], "counts": "é"}}, "has damaged run lengths"),
        ({"segmentation": {"counts": [384]}}, 'has no "size" of its run lengths'),
        ({"segmentation": [[1, 1, 5, 1, 5, "x"]]}, "has a coordinate that is not a number"),
        ({"segmentation": "x"}, "is neither polygons nor run lengths"),
    ],
)
def test_annotations_that_cannot_be_drawn_are_named(folder: Path, annotation: dict[str, Any], text: str) -> None:
    two_parts(folder, {"a.jpg": [polygon(1), polygon(2, square(10)), {"category_id": 1, **annotation}]})
    assert text in refusal(folder)
    assert "train/_annotations.coco.json" in refusal(folder)


def test_the_check_lists_every_image_that_cannot_be_drawn(folder: Path, store: Store) -> None:
    box = {"category_id": 1, "segmentation": [], "bbox": [1, 1, 2, 2]}
    two_parts(folder, {"a.jpg": [polygon(1), box], "b.jpg": [polygon(2), box], "c.jpg": [polygon(2)]})
    with opened(folder) as layout:
        report = inspect_dataset(layout)
    [finding] = [each for each in report.findings if each.level == "fatal"]
    assert (finding.kind, [item.image for item in finding.items]) == ("shapes", ["train/a.jpg", "train/b.jpg"])
    with pytest.raises(Exception, match=f"{folder}/train/_annotations.coco.json: image a.jpg, annotation 2"):
        prepare(str(folder), "", store, folder.parent / "work")
    assert not store.list("datasets/")


def test_shapes_without_pixels_are_reported(folder: Path) -> None:
    two_parts(
        folder,
        {"a.jpg": [polygon(1), polygon(2, square(10)), polygon(1, [1, 1, 9, 9])], "b.jpg": [polygon(2, square(50))]},
    )
    layout, _ = read_labels(folder)
    assert any("not drawn: 2, such as train/a.jpg, annotation 3" in note for note in layout.notes)


def test_what_is_no_segmentation_is_refused(folder: Path) -> None:
    two_parts(folder)
    file = folder / "train/_annotations.coco.json"

    def each(**fields: Any) -> list[dict[str, Any]]:
        return [{"id": 1, "image_id": 1, "category_id": 1, **fields}]

    for fields, text in (
        ({"bbox": [1, 1, 2, 2]}, "has boxes, but no areas"),
        ({"bbox": [1, 1, 2, 2], "segmentation": [], "keypoints": [1, 1, 2]}, "has keypoints, but no areas"),
        ({"caption": "a cat"}, "has captions, but no areas"),
        ({"segments_info": [{"id": 1}]}, "is a COCO panoptic file, which is not supported"),
    ):
        edit(file, annotations=each(**fields))
        assert text in refusal(folder)


def test_instances_are_read_and_other_tasks_are_not(folder: Path) -> None:
    for part in ("train", "val"):
        images = {f"{part}{n}.jpg": [polygon(1 + n)] for n in range(2)}
        coco(folder, f"annotations/instances_{part}2017.json", images, folder=f"{part}2017")
        for task in ("captions", "person_keypoints", "panoptic"):
            shutil.copy(
                folder / f"annotations/instances_{part}2017.json", folder / f"annotations/{task}_{part}2017.json"
            )
        grey(folder / f"annotations/panoptic_{part}2017/{part}0.png", ids_of(1))
    layout, labels = read_labels(folder)
    assert len(labels) == 4
    assert not unused(layout, "unused")
    assert "6 files (annotations/): another task; the labels are read from" not in account_lines(layout.account)[1]
    assert (
        "another task; the labels are read from annotations/instances_train2017.json"
        in account_lines(layout.account)[1]
    )


def test_two_files_for_a_part_are_refused(folder: Path) -> None:
    two_parts(folder)
    shutil.copy(folder / "train/_annotations.coco.json", folder / "train/more.json")
    assert "train/_annotations.coco.json and train/more.json both annotate the train images: keep one" in refusal(
        folder
    )
    (folder / "train/more.json").rename(folder / "all.json")
    assert "the name of all.json names no part, but that of train/_annotations.coco.json does" in refusal(folder)


def test_masks_are_read_rather_than_annotations(folder: Path) -> None:
    coco(folder, "annotations/instances_default.json", {f"{n}.jpg": [polygon()] for n in range(4)}, folder="images")
    for number in range(4):
        grey(folder / f"masks/{number}.png", ids_of(number))
    assert "declares no classes: add classes.json or classes.yaml to it; it also has COCO annotations" in refusal(
        folder
    )
    (folder / "classes.json").write_text('["background", "cat"]')
    layout = read_layout(folder)
    assert layout.kind == "folders"
    assert any("not from COCO annotations such as annotations/instances_default.json" in note for note in layout.notes)


def test_annotations_of_two_formats_are_refused(folder: Path) -> None:
    two_parts(folder)
    shape = {"label": "cat", "points": [[1, 1], [5, 1], [5, 5]]}
    (folder / "train/a.json").write_text(json.dumps({"shapes": [shape], "imagePath": "a.jpg"}))
    text = refusal(folder)
    assert "COCO annotations (train/_annotations.coco.json) and LabelMe annotations (train/a.json)" in text


def test_damaged_files_are_refused_in_one_line(folder: Path) -> None:
    two_parts(folder)
    file = folder / "train/_annotations.coco.json"
    whole = file.read_text()
    file.write_text(whole[: len(whole) // 2])
    assert "is damaged or incomplete (EOF while parsing" in refusal(folder)
    file.write_bytes(whole.replace("cat", "k\xe4tzchen").encode("latin-1"))
    assert "is not UTF-8 text: save it as UTF-8" in refusal(folder)
    for encoding in ("utf-16", "utf-8-sig"):
        file.write_text(whole, encoding=encoding)
        assert len(read_layout(folder).lists.train) == 2
    for changes, text in (
        ({"categories": None}, 'has no "categories", which name the classes'),
        ({"categories": []}, 'has no "categories", which name the classes'),
        ({"categories": lambda each: each.pop()}, 'has category 2, which "categories" does not list'),
        ({"categories": lambda each: each[1].update(id=1)}, "uses category id 1 twice"),
        ({"images": lambda each: each.pop()}, 'is on image 2, which "images" does not list'),
        ({"images": lambda each: each[1].update(id=1)}, "uses image id 1 twice"),
        ({"images": lambda each: each[0].pop("file_name")}, "images.0.file_name is missing"),
        ({"images": lambda each: each[1].update(file_name="a.jpg")}, "lists train/a.jpg twice: keep one entry"),
        ({"images": lambda each: each[0].update(file_name="x.jpg")}, "lists x.jpg, which cannot be found in"),
        ({"annotations": []}, "has no annotations"),
    ):
        file.write_text(whole)
        edit(file, **changes)
        assert text in refusal(folder)


def test_names_that_fit_two_pictures_are_refused(folder: Path) -> None:
    coco(folder, "result.json", {f"{n}.jpg": [polygon()] for n in range(4)}, {1: "cat"}, folder="images/one")
    photograph(folder / "images/two/0.jpg", 60)
    assert "result.json: 0.jpg may be images/one/0.jpg or images/two/0.jpg" in refusal(folder)


def test_an_image_in_two_parts_is_refused(folder: Path) -> None:
    coco(folder, "train.json", {"a.jpg": [polygon()], "b.jpg": [polygon()]}, folder="images")
    coco(folder, "val.json", {"a.jpg": [polygon()]}, folder="images")
    assert "val.json lists images/a.jpg, as train.json does: keep one entry" in refusal(folder)


def test_the_size_of_the_image_must_be_that_of_the_annotation(folder: Path) -> None:
    two_parts(folder)
    edit(folder / "train/_annotations.coco.json", images=lambda each: each[0].update(width=48, height=32))
    assert "image a.jpg was annotated at 48x32, but train/a.jpg is 24x16" in refusal(folder)
    edit(folder / "train/_annotations.coco.json", images=lambda each: each[0].update(width=None, height=None))
    read_labels(folder)


def test_turned_photographs_are_annotated_upright_unless_the_sizes_say_otherwise(folder: Path) -> None:
    two_parts(folder)
    for name in ("a.jpg", "b.jpg"):
        path = folder / "train" / name
        with Image.open(path) as picture:
            picture.load()
        exif = Image.Exif()
        exif[0x0112] = 6
        picture.save(path, exif=exif)  # upright, it is 16 wide and 24 high
    edit(folder / "train/_annotations.coco.json", images=lambda each: each[0].update(width=16, height=24))
    layout, labels = read_labels(folder)
    upright = np.zeros((24, 16), np.uint8)
    upright[2:8, 2:8], upright[2:6, 10:14] = 1, 2
    assert (labels["a"] == upright).all()
    assert (labels["b"] == np.rot90(WHOLE, -1)).all()
    assert any(
        "annotated before the rotation in their EXIF data" in note and "1 image" in note for note in layout.notes
    )


def test_fully_annotated_images_need_no_background(folder: Path) -> None:
    whole = [polygon(1, [0, 0, WIDTH, 0, WIDTH, HEIGHT, 0, HEIGHT]), polygon(2, square(10))]
    coco(folder, "train/x.json", {"a.jpg": whole, "b.jpg": whole})
    coco(folder, "valid/x.json", {"c.jpg": whole})
    text = refusal(folder)
    assert "no label contains class 0 (background): every pixel is annotated" in text
    (folder / "classes.json").write_text('{"classes": ["cat", "dog"], "ignore_names": ["background"]}')
    with opened(folder) as layout:
        assert inspect_dataset(layout).verdict != "fatal"


def test_the_digest_depends_on_the_annotations_alone(folder: Path, store: Store, tmp_path: Path) -> None:
    two_parts(folder)
    first = prepare(str(folder), "", store, tmp_path / "work")
    assert prepare(str(folder), "", store, tmp_path / "work") == first
    with DatasetReader(store, first.digest, tmp_path / "cache") as reader:
        label = reader.label(str(first.train[0].label))
    assert (label == WHOLE).all()
    moved = tmp_path / "again" / "photos"
    shutil.copytree(folder, moved)
    value = json.loads((moved / "train/_annotations.coco.json").read_text())
    (moved / "train/_annotations.coco.json").write_text(json.dumps(value, indent=2))
    assert prepare(str(moved), "", store, tmp_path / "work").digest == first.digest
    edit(moved / "train/_annotations.coco.json", annotations=lambda each: each[0].update(segmentation=[square(3)]))
    assert prepare(str(moved), "", store, tmp_path / "work").digest != first.digest
