"""CVAT's XML for images."""

from pathlib import Path

import numpy as np
import pytest

from components.dataset.layouts import account_lines, read_layout
from tests.components.dataset.annotated_on_disk import (
    HEIGHT,
    WIDTH,
    cvat,
    cvat_polygon,
    expected,
    read_labels,
    refusal,
    square,
)
from tests.components.dataset.scenes_on_disk import SIZE, photograph

BOTH = cvat_polygon() + cvat_polygon("dog", square(10, 2, 4))
WHOLE = expected((1, (2, 2, 6)), (2, (10, 2, 4)))


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    folder = tmp_path / "photos"
    folder.mkdir()
    return folder


def one_image(folder: Path, shapes: str) -> np.ndarray[tuple[int, int], np.dtype[np.uint8]]:
    """Return the label of an image with these shapes."""
    cvat(folder, "annotations.xml", {"a.jpg": shapes, "b.jpg": BOTH})
    _, labels = read_labels(folder)
    return labels["a"]


def test_a_task_is_one_file_with_images(folder: Path) -> None:
    cvat(folder, "annotations.xml", {f"{n}.jpg": BOTH for n in range(10)}, labels=("cat", "cow", "dog"))
    photograph(folder / "images/new.jpg", 1)
    layout, labels = read_labels(folder)
    assert (layout.kind, len(layout.lists.train), len(layout.lists.val)) == ("cvat", 9, 1)
    assert layout.lists.unlabeled == ("images/new.jpg",)
    assert [(entry.name, entry.color) for entry in layout.lists.classes] == [
        ("background", (80, 80, 80)),
        ("cat", (20, 0, 0)),
        ("dog", (22, 0, 0)),
    ]
    assert all((label == WHOLE).all() for label in labels.values())
    assert "1 annotation file (annotations.xml)" in account_lines(layout.account)[0]


def test_a_label_that_the_file_does_not_declare_comes_last(folder: Path) -> None:
    cvat(folder, "annotations.xml", {"a.jpg": BOTH, "b.jpg": BOTH}, labels=("dog",))
    assert [entry.name for entry in read_layout(folder).lists.classes] == ["background", "dog", "cat"]


def test_subsets_are_parts(folder: Path) -> None:
    images = {'a.jpg subset="Train"': BOTH, 'b.jpg subset="Train"': BOTH, 'c.jpg subset="Validation"': BOTH}
    cvat(folder, "annotations.xml", images)
    lists = read_layout(folder).lists
    assert ([sample.image for sample in lists.val], len(lists.train)) == (["images/c.jpg"], 2)
    cvat(folder, "annotations.xml", {**images, 'd.jpg subset="hard"': BOTH})
    assert "images/d.jpg belongs to no part, but other images do" in refusal(folder)
    cvat(folder, "annotations.xml", {"a.jpg": BOTH, "b.jpg": BOTH, 'c.jpg subset="val_hard"': BOTH})
    assert "image c.jpg is in subset 'val_hard', which is not used: rename the subset" in refusal(folder)


def test_equal_names_in_two_subsets(folder: Path) -> None:
    cvat(folder, "annotations.xml", {'a.jpg subset="Train"': BOTH, 'b.jpg subset="Train"': BOTH}, folder="images/Train")
    text = (folder / "annotations.xml").read_text()
    row = f'<image id="9" name="a.jpg" subset="Validation" width="{WIDTH}" height="{HEIGHT}">{cvat_polygon()}</image>'
    (folder / "annotations.xml").write_text(text.replace("</annotations>", f"{row}</annotations>"))
    photograph(folder / "images/Validation/a.jpg", 7)
    lists = read_layout(folder).lists
    assert [sample.image for sample in lists.val] == ["images/Validation/a.jpg"]
    assert [sample.image for sample in lists.train] == ["images/Train/a.jpg", "images/Train/b.jpg"]


def test_a_file_in_each_part(folder: Path) -> None:
    cvat(folder, "train/annotations.xml", {"a.jpg": BOTH, "b.jpg": BOTH}, folder="train/images")
    cvat(folder, "val/annotations.xml", {"c.jpg": BOTH}, folder="val/images")
    lists = read_layout(folder).lists
    assert (len(lists.train), len(lists.val)) == (2, 1)


def test_the_greater_z_order_covers(folder: Path) -> None:
    small = cvat_polygon("dog", square(3, 3, 2), z_order=1)
    large = cvat_polygon("cat", square(2, 2, 6), z_order=0)
    assert (one_image(folder, small + large) == expected((1, (2, 2, 6)), (2, (3, 3, 2)))).all()
    # Without z_order, the later one does.
    label = one_image(folder, cvat_polygon("dog", square(3, 3, 2)) + cvat_polygon("cat", square(2, 2, 6)))
    assert (label == expected((1, (2, 2, 6)))).all()


def test_boxes_and_rotated_boxes(folder: Path) -> None:
    box = '<box label="cat" xtl="4" ytl="6" xbr="12" ybr="8"{}></box>'
    plain = np.zeros(SIZE, np.uint8)
    plain[6:8, 4:12] = 1
    assert (one_image(folder, box.format("")) == plain).all()
    turned = np.zeros(SIZE, np.uint8)
    turned[3:11, 7:9] = 1
    assert (one_image(folder, box.format(' rotation="90.00"')) == turned).all()
    # 45 degrees clockwise: the left end goes up.
    label = one_image(folder, box.format(' rotation="45"'))
    assert label[5, 6] == label[8, 10] == 1
    assert label[8, 6] == label[5, 10] == 0


def test_masks_are_run_lengths_along_the_rows_of_a_rectangle(folder: Path) -> None:
    mask = np.random.default_rng(0).random((5, 7)) < 0.5
    flat = mask.ravel()
    runs = np.diff(np.flatnonzero(np.concatenate(([True], np.diff(flat), [True])))).tolist()
    counts = [0, *runs] if flat[0] else runs
    text = f'<mask label="dog" rle="{", ".join(map(str, counts))}" left="3" top="4" width="7" height="5"></mask>'
    label = np.zeros(SIZE, np.uint8)
    label[4:9, 3:10] = 2 * mask
    assert (one_image(folder, text) == label).all()


def test_ellipses(folder: Path) -> None:
    label = one_image(folder, '<ellipse label="cat" cx="10" cy="8" rx="6" ry="2"></ellipse>')
    rows, columns = np.mgrid[:HEIGHT, :WIDTH] + 0.5
    assert (label == (((columns - 10) / 6) ** 2 + ((rows - 8) / 2) ** 2 <= 1)).all()
    upright = one_image(folder, '<ellipse label="cat" cx="10" cy="8" rx="6" ry="2" rotation="90"></ellipse>')
    assert (upright == (((columns - 10) / 2) ** 2 + ((rows - 8) / 6) ** 2 <= 1)).all()
    slanted = one_image(folder, '<ellipse label="cat" cx="10" cy="8" rx="6" ry="2" rotation="45"></ellipse>')
    assert slanted[5, 6] == slanted[10, 13] == 1
    assert slanted[10, 6] == slanted[5, 13] == 0


@pytest.mark.parametrize(
    ("shape", "text"),
    [
        ('<polyline label="cat" points="1,1;5,5"/>', "shape 1 (polyline) (cat) is a polyline, not an area"),
        ('<points label="cat" points="1,1"/>', "is a group of points, not an area"),
        ('<skeleton label="cat"><points label="eye" points="1,1"/></skeleton>', "is a skeleton, not an area"),
        ('<cuboid label="cat" xtl1="1"/>', "is a cuboid, not an area"),
        ('<blob label="cat"/>', "is a blob, not an area"),
        ('<polygon label="cat" points="1,1;2"/>', "shape 1 (polygon) has an odd number of coordinates"),
        ('<polygon label="cat"/>', "shape 1 (polygon) has no points"),
        ('<polygon points="1,1;5,1;5,5"/>', "shape 1 (polygon) has no class"),
        ('<polygon label="cat" points="1,x;2,2"/>', "has an attribute that is not a number"),
        ('<mask label="cat" rle="1, 2" left="0" top="0" width="9" height="9"/>', "has run lengths for 3 pixels"),
        ('<mask label="cat" rle="1, -2" left="0" top="0" width="9" height="9"/>', "has damaged run lengths"),
    ],
)
def test_shapes_that_are_no_areas_are_refused(folder: Path, shape: str, text: str) -> None:
    cvat(folder, "annotations.xml", {"a.jpg": shape, "b.jpg": BOTH})
    assert text in refusal(folder)
    assert "annotations.xml: image a.jpg" in refusal(folder)


def test_tags_are_listed_and_not_drawn(folder: Path) -> None:
    tag = '<tag label="sunny" source="manual"></tag>'
    cvat(folder, "annotations.xml", {"a.jpg": BOTH + tag, "b.jpg": BOTH + tag}, labels=("cat", "dog", "sunny"))
    layout, labels = read_labels(folder)
    assert (labels["a"] == WHOLE).all()
    assert any("annotations.xml: 2 tags are labels of whole images, not areas" in note for note in layout.notes)


def test_files_that_are_damaged_or_hostile_or_for_videos(folder: Path) -> None:
    cvat(folder, "annotations.xml", {"a.jpg": BOTH, "b.jpg": BOTH})
    file = folder / "annotations.xml"
    whole = file.read_text()
    file.write_text(whole[:-30])
    assert "annotations.xml is damaged or incomplete (unclosed token" in refusal(folder)
    entities = '<!DOCTYPE x [<!ENTITY a "aaaa"><!ENTITY b "&a;&a;">]>'
    file.write_text(whole.replace("<annotations>", f"{entities}<annotations>"))
    assert "declares a document type or entities, which CVAT does not write" in refusal(folder)
    file.write_text(whole.replace("<image ", '<track id="0" label="cat"></track><image ', 1))
    assert 'it was exported as "CVAT for video": export it as "CVAT for images 1.1"' in refusal(folder)
    file.write_bytes(whole.replace('label="cat"', 'label="k\xe4tzchen"').encode("latin-1"))
    assert "is not UTF-8 text: save it as UTF-8" in refusal(folder)
    file.write_text(whole, encoding="utf-16")
    assert len(read_layout(folder).lists.train) == 1
    file.write_text(whole.replace('name="a.jpg"', ""))
    assert "has an <image> without a name" in refusal(folder)
    file.write_text(whole.replace(f'width="{WIDTH}"', 'width="99"'))
    assert "was annotated at 99x16, but images/" in refusal(folder)
