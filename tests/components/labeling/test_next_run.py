"""The next run after label-next: labelled images leave the unlabelled ones, and a list of one's own is used."""

import json
from pathlib import Path

import pytest

from components.dataset.layouts import read_layout
from components.dataset.manifest import Lists, Manifest
from components.dataset.split import Split, split_labels

CLASSES = [{"id": number, "name": name, "color": [number, 0, 0]} for number, name in enumerate(("road", "sky"))]


@pytest.fixture
def photos(tmp_path: Path) -> Path:
    """Of five photographs a and b are labelled for training, c and d are not labelled."""
    for name in "abcdv":
        (tmp_path / f"{name}.jpg").touch()
        (tmp_path / f"{name}.png").touch()
    (tmp_path / "train.txt").write_text("a.jpg a.png\nb.jpg b.png\n")
    (tmp_path / "val.txt").write_text("v.jpg v.png\n")
    (tmp_path / "unlabeled.txt").write_text("c.jpg\nd.jpg\n")
    (tmp_path / "classes.json").write_text(json.dumps({"classes": CLASSES}))
    return tmp_path


def split(folder: Path, ratio: str) -> Split:
    lists = read_layout(folder).lists
    fields = {name: getattr(lists, name) for name in Lists.model_fields}
    return split_labels(Manifest(**fields, digest="0" * 64, name="p", layout="lists", files={}, shards=()), ratio, 0)


def test_an_image_that_was_labeled_is_not_unlabeled_any_more(photos):
    with (photos / "train.txt").open("a") as lines:
        lines.write("c.jpg c.png\n")
    found = split(photos, "1/1")
    assert {sample.image for sample in found.labeled} == {"a.jpg", "b.jpg", "c.jpg"}
    assert found.unlabeled == ("d.jpg",)


def test_a_list_of_ones_own_is_the_split_of_its_ratio(photos):
    (photos / "1_2").mkdir()
    (photos / "1_2" / "labeled.txt").write_text("b.jpg\tb.png\n")
    found = split(photos, "1/2")
    assert found.origin == "lists"
    assert [sample.image for sample in found.labeled] == ["b.jpg"]
    assert found.unlabeled == ("a.jpg", "c.jpg", "d.jpg")
