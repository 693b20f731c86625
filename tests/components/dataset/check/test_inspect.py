from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from components.dataset.check.inspect import check_files, hash_files
from components.dataset.layouts import read_layout
from components.errors import UserError

MakeDataset = Callable[..., Path]


def refusal(folder: Path) -> str:
    with pytest.raises(UserError) as error:
        check_files(read_layout(folder))
    assert "\n" not in str(error.value)
    return str(error.value)


def test_a_good_dataset_passes(make_dataset: MakeDataset, capsys: pytest.CaptureFixture[str]) -> None:
    check_files(read_layout(make_dataset()))
    assert "100% images checked" in capsys.readouterr().err


def test_hashes_are_those_of_the_files(make_dataset: MakeDataset) -> None:
    import hashlib

    layout = read_layout(make_dataset())
    assert hash_files(layout) == {
        name: hashlib.sha256((layout.folder / name).read_bytes()).hexdigest() for name in layout.lists.file_names()
    }


def test_label_ids_outside_the_classes_are_named(make_dataset: MakeDataset) -> None:
    folder = make_dataset()
    label = folder / "labels/train/03.png"
    ids = np.zeros((8, 12), np.uint8)
    ids[2, 3], ids[4, 5], ids[0, 0] = 3, 200, 255
    Image.fromarray(ids).save(label)
    assert refusal(folder) == (
        f"label {label} has ids outside the 3 classes: 3, 200; valid ids are 0 to 2, and 255 for void; map others to a "
        'class with "values" in classes.json, or to void with "ignore_values"'
    )


def test_many_wrong_ids_are_cut_short(make_dataset: MakeDataset) -> None:
    folder = make_dataset()
    Image.fromarray(np.arange(96, dtype=np.uint8).reshape(8, 12)).save(folder / "labels/val/00.png")
    assert "3, 4, 5, 6, 7, 8, 9, 10, … (93 values)" in refusal(folder)


def test_a_label_of_another_size_is_named(make_dataset: MakeDataset) -> None:
    folder = make_dataset()
    label = folder / "labels/val/01.png"
    Image.fromarray(np.zeros((8, 11), np.uint8)).save(label)
    assert refusal(folder) == (
        f"label {label} is 11x8, but its image {folder}/images/val/01.png is 12x8: give both the same size"
    )


@pytest.mark.parametrize("kind", ["cut short", "no picture", "empty"])
def test_an_unreadable_image_is_named(make_dataset: MakeDataset, kind: str) -> None:
    folder = make_dataset()
    image = folder / "images/train/05.png"
    whole = image.read_bytes()
    image.write_bytes({"cut short": whole[: len(whole) // 2], "no picture": b"GIF? no", "empty": b""}[kind])
    text = refusal(folder)
    assert text.startswith(f"image {image} cannot be read (")
    assert text.endswith("): replace it, or remove it from the dataset")


def test_a_colour_mask_is_not_taken_for_ids(make_dataset: MakeDataset) -> None:
    folder = make_dataset()
    label = folder / "labels/train/00.png"
    Image.fromarray(np.zeros((8, 12, 3), np.uint8)).save(label)
    assert refusal(folder) == (
        f"label {label} has pixel mode RGB, but must hold class ids: save it as 8-bit grey or palette PNG"
    )


def test_palette_labels_are_ids(make_dataset: MakeDataset) -> None:
    folder = make_dataset()
    picture = Image.fromarray(np.full((8, 12), 2, np.uint8), mode=None).convert("P")
    picture.putpalette([0, 0, 0, 9, 9, 9, 255, 0, 0])
    picture.putdata([2] * 96)
    picture.save(folder / "labels/train/00.png")
    assert check_files(read_layout(folder))["labels/train/00.png"] == [2]
