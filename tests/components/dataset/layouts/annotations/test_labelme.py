"""LabelMe files beside their photographs or in a folder of their own."""

import base64
import io
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image, ImageDraw

from components.dataset.layouts import account_lines, read_layout
from tests.components.dataset.annotated_on_disk import (
    HEIGHT,
    SQUARE,
    WIDTH,
    corners,
    expected,
    labelme,
    read_labels,
    refusal,
    square,
)
from tests.components.dataset.scenes_on_disk import SIZE, Ids, photograph

CAT = {"label": "cat", "points": corners()}
DOG = {"label": "dog", "points": corners(square(10, 2, 4))}
# Pillow, and so labelme, includes a polygon's right and bottom outline.
WHOLE = expected((1, (2, 2, 7)), (2, (10, 2, 5)))


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    folder = tmp_path / "photos"
    folder.mkdir()
    return folder


def drawn(kind: str, *points: tuple[float, float]) -> Ids:
    """Return what labelme's shape_to_mask gives."""
    mask = Image.fromarray(np.zeros(SIZE, np.uint8))
    draw = ImageDraw.Draw(mask)
    {"polygon": draw.polygon, "rectangle": draw.rectangle, "circle": draw.ellipse}[kind](
        list(points), outline=1, fill=1
    )
    return np.asarray(mask)


def test_files_beside_their_images(folder: Path) -> None:
    for number in range(10):
        labelme(folder / f"p{number}.json", CAT, DOG)
    photograph(folder / "new.jpg", 3)
    layout, labels = read_labels(folder)
    assert (layout.kind, len(layout.lists.train), len(layout.lists.val)) == ("labelme", 9, 1)
    assert layout.lists.unlabeled == ("new.jpg",)
    assert [entry.name for entry in layout.lists.classes] == ["background", "cat", "dog"]
    assert all((label == WHOLE).all() for label in labels.values())
    assert "10 annotation files" in account_lines(layout.account)[0]


@pytest.mark.parametrize(
    ("images", "files"),
    [
        ("images/{}", "labels/{}"),
        ("{}/images", "{}/json"),
        ("{}", "{}"),
        ("images/{}", "annotations/{}"),
        ("{}_images", "{}_labels"),
    ],
)
@pytest.mark.parametrize("path", [r"..\photos\{}.jpg", "/somewhere/else/{}.jpg", "renamed-{}.png"])
def test_files_in_folders_of_their_own(folder: Path, images: str, files: str, path: str) -> None:
    for part, names in (("train", "ab"), ("val", "cd")):
        for name in names:
            photograph(folder / images.format(part) / f"{name}.jpg", ord(name))
            labelme(folder / files.format(part) / f"{name}.json", CAT, DOG, image=path.format(name))
    layout, labels = read_labels(folder)
    assert (len(layout.lists.train), len(layout.lists.val), len(labels)) == (2, 2, 4)
    assert {use.state for use in layout.account} == {"used"}


def test_images_and_files_in_equal_subfolders(folder: Path) -> None:
    for site in ("north", "south"):
        for name in "ab":
            photograph(folder / f"images/{site}/{name}.jpg", ord(name))
            labelme(folder / f"labels/{site}/{name}.json", CAT, image=f"{name}.jpg")
    photograph(folder / "images/east/new.jpg", 5)
    layout = read_layout(folder)
    assert {sample.image for sample in (*layout.lists.train, *layout.lists.val)} == {
        f"images/{site}/{name}.jpg" for site in ("north", "south") for name in "ab"
    }
    assert layout.lists.unlabeled == ("images/east/new.jpg",)


def test_parts_by_the_names_of_the_images(folder: Path) -> None:
    for part in ("train", "val"):
        for number in range(2):
            labelme(folder / f"{part}_{number}.json", CAT)
    assert [sample.image for sample in read_layout(folder).lists.val] == ["val_0.jpg", "val_1.jpg"]


def test_shapes_are_drawn_as_labelme_draws_them(folder: Path) -> None:
    points = [(3.3, 1.7), (21.6, 4.2), (15.5, 14.9), (-3.4, 9.1)]
    labelme(folder / "a.json", {"label": "x", "points": points})
    labelme(folder / "b.json", {"label": "x", "points": [(20.4, 12.6), (5.7, 3.2)], "shape_type": "rectangle"})
    labelme(folder / "c.json", {"label": "x", "points": [(10.2, 8.4), (14.9, 9.7)], "shape_type": "circle"})
    labelme(folder / "d.json", {"label": "x", "points": [(1.5, 2.5), (4.5, 3.5)], "shape_type": "circle"})
    labelme(folder / "e.json", {"label": "x", "points": points, "shape_type": "oriented_rectangle"})
    labelme(folder / "f.json", {"label": "x", "points": points, "shape_type": None})
    layout, labels = read_labels(folder)
    assert any("1 of 6 shapes are rectangles, drawn as areas" in note for note in layout.notes)
    assert (labels["a"] == drawn("polygon", *points)).all()
    assert (labels["b"] == drawn("rectangle", (5.7, 3.2), (20.4, 12.6))).all()
    for name, (x, y), (px, py) in (("c", (10.2, 8.4), (14.9, 9.7)), ("d", (1.5, 2.5), (4.5, 3.5))):
        radius = np.hypot(px - x, py - y)
        assert (labels[name] == drawn("circle", (x - radius, y - radius), (x + radius, y + radius))).all()
    assert (labels["e"] == labels["a"]).all()
    assert (labels["f"] == labels["a"]).all()


def test_mask_shapes_are_pasted_and_cut_at_the_border(folder: Path) -> None:
    mask = np.zeros((4, 6), np.uint8)
    mask[1:3, 1:5] = 255
    file = io.BytesIO()
    Image.fromarray(mask).save(file, "PNG")
    text = base64.b64encode(file.getvalue()).decode()
    shape = {"label": "x", "shape_type": "mask", "mask": text}
    labelme(folder / "a.json", {**shape, "points": [[3, 5], [8, 8]]})
    labelme(folder / "b.json", {**shape, "points": [[-3, -2], [2, 1]]})
    labelme(folder / "c.json", {**shape, "points": [[20, 14], [25, 17]]})
    _, labels = read_labels(folder)
    whole = np.zeros((HEIGHT + 8, WIDTH + 12), np.uint8)
    for name, left, top in (("a", 3, 5), ("b", -3, -2), ("c", 20, 14)):
        canvas = np.zeros_like(whole)
        canvas[4 + top : 8 + top, 6 + left : 12 + left] = mask > 0
        assert (labels[name] == canvas[4:-4, 6:-6]).all()


def test_later_shapes_cover_earlier_ones(folder: Path) -> None:
    small = {"label": "dog", "points": corners(square(3, 3, 2))}
    labelme(folder / "a.json", CAT, small)
    labelme(folder / "b.json", small, CAT)
    layout, labels = read_labels(folder)
    assert (labels["a"] == expected((1, (2, 2, 7)), (2, (3, 3, 3)))).all()
    assert (labels["b"] == expected((1, (2, 2, 7)))).all()
    assert any("the later shape is drawn over the earlier one, as in labelme" in note for note in layout.notes)


def test_classes_come_from_labels_txt(folder: Path) -> None:
    labelme(folder / "a.json", CAT, DOG)
    labelme(folder / "b.json", {**CAT, "label": "__ignore__"}, DOG)
    (folder / "labels.txt").write_text("__ignore__\n_background_\ndog\nhorse\ncat\n")
    layout, labels = read_labels(folder)
    assert [entry.name for entry in layout.lists.classes] == ["_background_", "dog", "cat"]
    assert (labels["a"] == expected((2, (2, 2, 7)), (1, (10, 2, 5)))).all()
    assert (labels["b"] == expected((255, (2, 2, 7)), (1, (10, 2, 5)))).all()
    assert any("no image has an annotation of 'horse'" in note for note in layout.notes)
    (folder / "labels.txt").write_text("dog\ncat\n__ignore__\n")
    assert [entry.name for entry in read_layout(folder).lists.classes] == ["background", "dog", "cat"]
    (folder / "labels.txt").write_text("dog\n__ignore__\n")
    assert "labels.txt does not name 'cat', which is annotated: add it" in refusal(folder)


def test_an_empty_file_is_background(folder: Path) -> None:
    labelme(folder / "a.json", CAT)
    labelme(folder / "b.json", CAT)
    labelme(folder / "c.json")
    layout, labels = read_labels(folder)
    assert not labels["c"].any()
    assert any("1 image listed without annotations, such as c.jpg: all background" in note for note in layout.notes)


@pytest.mark.parametrize(
    ("shape", "text"),
    [
        ({"shape_type": "line"}, "shape 2 (line) (cat) is a line, not an area"),
        ({"shape_type": "linestrip"}, "is a line, not an area"),
        ({"shape_type": "point", "points": [[3, 3]]}, "is a point, not an area"),
        ({"shape_type": "cuboid"}, 'is a "cuboid", not an area'),
        ({"shape_type": "rectangle", "points": [[3, 3]]}, "is a rectangle with 1 points instead of 2"),
        ({"shape_type": "mask", "points": [[1, 1], [3, 3]], "mask": "AAAA"}, "has a damaged mask image"),
        ({"points": [[1, 1], [2, 2], [9e9, 1]]}, "is far outside the image"),
        ({"points": [[1, 1], [2, "x"], [3, 1]]}, "shapes.1.points.1.1 must be a number"),
    ],
)
def test_shapes_that_are_no_areas_are_refused(folder: Path, shape: dict[str, Any], text: str) -> None:
    labelme(folder / "a.json", CAT, {"label": "cat", "points": corners(), **shape})
    labelme(folder / "b.json", CAT)
    assert text in refusal(folder)
    assert f"{folder}/a.json" in refusal(folder) or refusal(folder).startswith("a.json: image a.jpg")


def test_damaged_files_are_refused_in_one_line(folder: Path) -> None:
    for name in "abc":
        labelme(folder / f"{name}.json", CAT)
    file = folder / "a.json"
    whole = file.read_text()
    file.write_text(whole[:-20])
    assert f"{file} is damaged or incomplete (EOF while parsing" in refusal(folder)
    file.write_text(whole.replace(f'"imageWidth": {WIDTH}', '"imageWidth": 99'))
    assert "image a.jpg was annotated at 99x16, but a.jpg is 24x16" in refusal(folder)
    file.write_text(whole.replace('"imagePath": "a.jpg"', '"imagePath": "b.jpg"'))
    assert "b.json lists b.jpg, as a.json does: keep one entry" in refusal(folder)
    (folder / "a.jpg").unlink()
    file.write_text(whole)
    assert "a.json lists a.jpg, which cannot be found in" in refusal(folder)


def test_embedded_photographs_are_skipped(folder: Path) -> None:
    for name in "ab":
        labelme(folder / f"{name}.json", CAT, imageData="A" * 200_000)
        value = json.loads((folder / f"{name}.json").read_text())
        (folder / f"{name}.json").write_text(json.dumps(dict(sorted(value.items()))))  # the shapes come last
    assert len(read_layout(folder).lists.train) == 1


def test_a_polygon_of_two_points_covers_nothing(folder: Path) -> None:
    labelme(folder / "a.json", CAT, {"label": "cat", "points": [[1, 1], [2, 2]]})
    labelme(folder / "b.json", CAT)
    layout, labels = read_labels(folder)
    assert (labels["a"] == expected((1, (2, 2, 7)))).all()
    assert any("cover no pixel and are not drawn: 1, such as a.jpg, shape 2" in note for note in layout.notes)


def test_the_square_of_the_tests() -> None:
    assert (drawn("polygon", *((x, y) for x, y in corners(SQUARE))) == expected((1, (2, 2, 7)))).all()
