"""Several folders that could all hold the labels: names decide and a note says so, or the dataset is refused."""

from pathlib import Path, PurePosixPath

import numpy as np
import pytest

from components.dataset.layouts import account_lines, read_layout, unused
from components.dataset.layouts.label_folders import folder_of
from components.dataset.layouts.names import label_rank
from components.errors import UserError
from tests.components.dataset.scenes_on_disk import SIZE, grey, ids_of, photograph, write_classes, write_dataset


def drive(root: Path, labels: str = "1st_manual", ending: str = "manual1") -> None:
    """Write a dataset as DRIVE's, with a field of view for each image."""
    view = np.zeros(SIZE, np.uint8)
    view[2:-2, 2:-2] = 1
    for part, first in (("training", 21), ("test", 1)):
        for number in range(first, first + 4):
            name = f"{number:02}"
            photograph(root / part / f"images/{name}_{part}.tif", number)
            grey(root / part / f"mask/{name}_{part}_mask.png", view)
            if part == "training":
                grey(root / part / labels / f"{name}_{ending}.png", ids_of(number))
    write_classes(root, "background", "vessel")


def used_folders(root: Path) -> set[str]:
    lists = read_layout(root).lists
    samples = (*lists.train, *lists.val, *lists.test)
    return {folder_of(PurePosixPath(sample.label)) for sample in samples if sample.label}


@pytest.mark.parametrize(("labels", "ending"), [("1st_manual", "manual1"), ("manual1", "training"), ("gt", "gt")])
def test_the_field_of_view_is_not_the_label(tmp_path: Path, labels: str, ending: str) -> None:
    drive(tmp_path, labels, ending)
    layout = read_layout(tmp_path)
    assert used_folders(tmp_path) == {labels}
    assert (len(layout.lists.train), len(layout.lists.val), len(layout.lists.test)) == (3, 1, 4)
    assert all(sample.label is None for sample in layout.lists.test)
    assert any(f"are read from {labels}/, not from mask/, because of their names" in note for note in layout.notes)
    assert f"8 files: labels are read from {labels}/" in account_lines(layout.account)[1]
    assert not unused(layout, "unused")


def test_labels_that_cannot_be_read_do_not_make_way_for_the_field_of_view(tmp_path: Path) -> None:
    drive(tmp_path)
    for path in sorted(tmp_path.glob("*/1st_manual/*.png")):
        path.rename(path.with_suffix(".gif"))
    with pytest.raises(
        UserError, match=r"1st_manual/21_manual1\.gif, by its name the label of .* cannot be read: save"
    ):
        read_layout(tmp_path)
    for path in sorted(tmp_path.glob("*/mask/*.png")):
        path.rename(path.with_suffix(".gif"))
    with pytest.raises(UserError, match=r"01_test_mask\.gif cannot be read, because it is GIF: save the labels"):
        read_layout(tmp_path)


@pytest.mark.parametrize(
    ("labels", "other"),
    [
        ("masks", "masks_color"),
        ("labels", "labels_rgb"),
        ("gt", "gt_color"),
        ("gt", "mask"),
        ("semantic_labels", "labels"),
        ("labels", "fov_mask"),
        ("ground_truth", "masks"),
    ],
)
def test_the_more_specific_name_is_read(tmp_path: Path, labels: str, other: str) -> None:
    write_dataset(tmp_path, "images/{part}/{name}.jpg", f"{labels}/{{part}}/{{name}}.png")
    write_dataset(tmp_path, "images/{part}/{name}.jpg", f"{other}/{{part}}/{{name}}.png")
    write_classes(tmp_path, "background", "cat")
    layout = read_layout(tmp_path)
    assert used_folders(tmp_path) == {labels}
    assert any(f"from {labels}/, not from {other}/, because of their names" in note for note in layout.notes)
    # Alone, the other folder is read.
    for path in sorted((tmp_path / labels).rglob("*.png")):
        path.unlink()
    assert used_folders(tmp_path) == {other}


@pytest.mark.parametrize(
    ("one", "other"), [("labels", "masks"), ("1st_manual", "2nd_manual"), ("annotations", "gt"), ("masks_a", "masks_b")]
)
def test_names_that_do_not_decide_are_refused(tmp_path: Path, one: str, other: str) -> None:
    for folder in (one, other):
        write_dataset(tmp_path, "images/{name}.jpg", f"{folder}/{{name}}.png", parts={"all": 10})
    write_classes(tmp_path, "background", "cat")
    with pytest.raises(UserError) as error:
        read_layout(tmp_path)
    assert str(error.value) == (
        f"dataset {tmp_path}: {one}/00.png and {other}/00.png both match images/00.jpg; "
        f"move the one that holds no labels out of the dataset: {one}/ or {other}/"
    )
    (tmp_path / other).rename(tmp_path.parent / f"{tmp_path.name}-{other}")
    assert used_folders(tmp_path) == {one}


def test_an_image_that_only_the_field_of_view_covers_is_unlabelled(tmp_path: Path) -> None:
    drive(tmp_path)
    (tmp_path / "training/1st_manual/21_manual1.png").unlink()
    assert read_layout(tmp_path).lists.unlabeled == ("training/images/21_training.tif",)


def test_instances_beside_labels_are_named(tmp_path: Path) -> None:
    for folder in ("labels", "instances"):
        write_dataset(tmp_path, "images/{name}.jpg", f"{folder}/{{name}}.png", parts={"all": 10})
    write_classes(tmp_path, "background", "cat")
    assert used_folders(tmp_path) == {"labels"}
    ignored = account_lines(read_layout(tmp_path).account)[1]
    assert "10 pictures (instances/): instance masks or visualisations" in ignored


def test_a_folder_of_unknown_name_beside_labels_is_a_warning(tmp_path: Path) -> None:
    for folder in ("gt", "roi"):
        write_dataset(tmp_path, "images/{name}.jpg", f"{folder}/{{name}}.png", parts={"all": 10})
    write_classes(tmp_path, "background", "cat")
    assert used_folders(tmp_path) == {"gt"}
    [use] = unused(read_layout(tmp_path), "unused")
    assert use.text() == (
        "roi/: 10 images (first: 00.png) are not used: their names match images whose labels are elsewhere; if these "
        "are the labels, rename roi to labels, and move the others out of the dataset"
    )


def test_an_image_of_the_labels_very_name_comes_first(tmp_path: Path) -> None:
    write_dataset(tmp_path, "images/{name}.jpg", "gt/{name}.png", parts={"all": 10})
    photograph(tmp_path / "images/00_training.jpg", 60)
    write_classes(tmp_path, "background", "cat")
    assert read_layout(tmp_path).lists.unlabeled == ("images/00_training.jpg",)


def test_which_names_are_more_specific() -> None:
    names = ("masks_color", "mask", "1st_manual", "SemanticLabelIds", "labels")
    assert [label_rank(name) for name in names] == [0, 1, 2, None, None]
    assert label_rank("labels_semantic") == 3
