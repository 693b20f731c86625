"""Check the findings and the verdict of `inspect_dataset` for datasets with a single fault."""

import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from components.contract import Class
from components.dataset.check.findings import CheckReport, Finding
from components.dataset.check.inspect import check_files, inspect_dataset
from components.dataset.check.overlaps import overlaps, parts_of
from components.dataset.check.page import render_check
from components.dataset.layouts import read_layout
from components.dataset.manifest import Lists, RatioLists, Sample
from components.errors import UserError
from components.recipes.model import Split

MakeDataset = Callable[..., Path]


def inspect(folder: Path, **options: object) -> CheckReport:
    return inspect_dataset(read_layout(folder), **options)  # type: ignore[arg-type]


def found(report: CheckReport) -> dict[str, Finding]:
    return {finding.kind: finding for finding in report.findings}


def add_line(folder: Path, name: str, line: str) -> None:
    with (folder / name).open("a") as file:
        file.write(line + "\n")


def test_a_good_dataset_is_fine(make_dataset: MakeDataset) -> None:
    report = inspect(make_dataset(train=16, val=3))
    assert (report.verdict, report.findings) == ("fine", ())
    assert report.images == {"labeled": 16, "unlabeled": 0, "val": 3, "test": 0}
    assert report.sizes == {"12x8": 19}
    assert report.files == 38
    assert [(row.ratio, row.labeled, row.missing) for row in report.ratios] == [
        ("1/16", 1, ()), ("1/8", 2, ()), ("1/4", 4, ()), ("1/2", 8, ()),
    ]  # fmt: skip


def test_the_balance_counts_pixels_and_images(make_dataset: MakeDataset) -> None:
    folder = make_dataset(train=4, val=1)
    labels = [np.array(Image.open(path)) for path in sorted((folder / "labels/train").iterdir())]
    report = inspect(folder)
    for number, row in enumerate(report.balance):
        assert row.train_pixels == sum(int((label == number).sum()) for label in labels)
        assert row.train_images == sum(bool((label == number).any()) for label in labels)
    assert report.void_share == pytest.approx(np.mean([label == 255 for label in labels]))


@pytest.mark.parametrize("what", ["images/train/02.png", "labels/train/02.png"])
def test_every_file_that_cannot_be_read_is_found(make_dataset: MakeDataset, what: str) -> None:
    folder = make_dataset()
    for name in (what, "images/val/01.png"):
        (folder / name).write_bytes((folder / name).read_bytes()[:60])
    finding = found(inspect(folder))["unreadable"]
    assert finding.level == "fatal"
    assert [item.text.split(" cannot be read")[0].split()[-1] for item in finding.items] == [what, "images/val/01.png"]


def test_labels_that_do_not_fit_are_fatal_with_their_values(make_dataset: MakeDataset) -> None:
    folder = make_dataset()
    ids = np.zeros((8, 12), np.uint8)
    ids[0, :2] = 7, 200
    Image.fromarray(ids).save(folder / "labels/train/00.png")
    Image.new("RGB", (12, 8)).save(folder / "labels/train/01.png")
    Image.new("L", (6, 4)).save(folder / "labels/train/02.png")
    report = inspect(folder)
    assert report.verdict == "fatal"
    kinds = found(report)
    assert kinds["ids"].items[0].ids == (7, 200)
    assert kinds["ids"].items[0].text == (
        "label labels/train/00.png has ids outside the 3 classes: 7, 200; valid ids are 0 to 2, and 255 for void; map "
        'others to a class with "values" in classes.json, or to void with "ignore_values"'
    )
    assert kinds["mode"].items[0].label == "labels/train/01.png"
    assert kinds["size"].items[0].text.startswith("label labels/train/02.png is 6x4, but its image")
    assert kinds["single"].items[0].label == "labels/train/02.png"


def test_void_labels_are_a_warning_and_fatal_when_all_are(make_dataset: MakeDataset) -> None:
    folder = make_dataset(train=4)
    void = Image.new("L", (12, 8), 255)
    void.save(folder / "labels/train/00.png")
    report = inspect(folder)
    assert report.verdict == "warning"
    assert found(report)["void"].items[0].text == "label labels/train/00.png is void (255) in every pixel"
    for path in (folder / "labels/train").iterdir():
        void.save(path)
    assert found(inspect(folder))["nothing"].items[0].text.startswith("no training label contains any class")
    with pytest.raises(UserError, match=r"^no training label contains any class: there is nothing to learn$"):
        check_files(read_layout(folder))


def test_a_label_in_val_that_is_trained_on_is_fatal(make_dataset: MakeDataset) -> None:
    folder = make_dataset()
    add_line(folder, "train.txt", "images/val/00.png labels/val/00.png")
    report = inspect(folder)
    assert (report.verdict, list(found(report))[:1]) == ("fatal", ["leak"])
    with pytest.raises(UserError) as error:
        check_files(read_layout(folder))
    assert str(error.value) == (
        "images/val/00.png is both a labelled training image and in val: remove it from one list"
    )


def test_parts_are_compared_by_all_lists() -> None:
    def sample(name: str) -> Sample:
        return Sample(image=name, label=f"l{name}")

    lists = Lists(
        classes=(Class(name="a", color=(0, 0, 0)), Class(name="b", color=(1, 1, 1))),
        train=(sample("a"), sample("b")),
        val=(sample("v"), sample("w")),
        test=(Sample(image="w"), Sample(image="c")),
        unlabeled=("c", "v"),
        ratio_lists={"1/8": RatioLists(labeled=(sample("b"), sample("x")), unlabeled=("a", "y"))},
    )
    assert parts_of(lists) == {
        "labeled": ["a", "b", "x"], "unlabeled": ["c", "v", "y"], "val": ["v", "w"], "test": ["w", "c"],
    }  # fmt: skip
    leaks, others = overlaps(lists)
    assert leaks.items == ()
    assert sorted((item.image, item.text.split(": ")[0]) for item in others.items) == [
        ("c", "c is both a training image and in test"),
        ("v", "v is both a training image and in val"),
        ("w", "w is both a val image and in test"),
    ]


def test_copies_and_look_alikes_are_found_across_parts(make_dataset: MakeDataset) -> None:
    folder = make_dataset(train=8, val=3)
    extra = folder / "images/extra"
    extra.mkdir()
    rng = np.random.default_rng(5)
    scene = Image.fromarray(rng.integers(0, 256, (32, 48, 3), dtype=np.uint8)).resize(
        (192, 128), Image.Resampling.BICUBIC
    )
    scene.save(folder / "images/val/00.png")
    Image.new("L", (192, 128), 1).save(folder / "labels/val/00.png")
    scene.resize((96, 64)).save(extra / "small.jpg", quality=70)
    (extra / "copy.png").write_bytes((folder / "images/train/03.png").read_bytes())
    (extra / "again.png").write_bytes((folder / "images/val/01.png").read_bytes())
    for name in ("small.jpg", "copy.png", "again.png"):
        add_line(folder, "unlabeled.txt", f"images/extra/{name}")
    report = inspect(folder)
    assert report.verdict == "warning"
    kinds = found(report)
    assert {(item.image, item.other) for item in kinds["copies"].items} == {
        ("images/train/03.png", "images/extra/copy.png"), ("images/extra/again.png", "images/val/01.png"),
    }  # fmt: skip
    assert [(item.image, item.other) for item in kinds["near"].items] == [
        ("images/extra/small.jpg", "images/val/00.png")
    ]


def test_files_that_cannot_be_read_are_no_copies_of_each_other(make_dataset: MakeDataset) -> None:
    folder = make_dataset(train=4, val=2)
    for name in ("train/00", "train/01", "val/00"):
        (folder / f"images/{name}.png").write_bytes(b"")
    kinds = found(inspect(folder))
    assert len(kinds["unreadable"].items) == 3
    assert "copies" not in kinds


def test_films_that_are_in_training_and_val_are_named(make_dataset: MakeDataset) -> None:
    folder = make_dataset(train=2, val=1)
    for old, new in (("train/00", "train/0001TP_000030"), ("train/01", "train/0006R0_f00030"),
                     ("val/00", "val/0001TP_000060")):  # fmt: skip
        (folder / f"images/{old}.png").rename(folder / f"images/{new}.png")
        name = old.split("/")[0]
        listed = (folder / f"{name}.txt").read_text().replace(f"images/{old}", f"images/{new}")
        (folder / f"{name}.txt").write_text(listed)
    finding = found(inspect(folder))["sequence"]
    assert [item.text for item in finding.items] == ["sequence 0001TP: 1 training image and 1 val image"]


def test_classes_that_the_labelled_part_lacks_are_named_by_ratio(make_dataset: MakeDataset) -> None:
    folder = make_dataset(train=16, val=2)
    layout = read_layout(folder)
    last = inspect(folder).ratios  # all classes in every random label
    assert all(not row.missing for row in last)
    for path in (folder / "labels/train").iterdir():
        label = np.array(Image.open(path))
        label[label == 2] = 255
        Image.fromarray(label).save(path)
    from components.dataset.manifest import Manifest
    from components.dataset.split import split_labels

    manifest = Manifest(**dict(layout.lists), digest="", name="", layout="", files={}, shards=())
    rare = next(
        sample.label for sample in layout.lists.train
        if sample.image == split_labels(manifest, "1/2", 0).unlabeled[-1]
    )  # fmt: skip
    label = np.array(Image.open(folder / str(rare)))
    label[0, 0] = 2
    Image.fromarray(label).save(folder / str(rare))
    report = inspect(folder)
    assert [row.missing for row in report.ratios] == [("car",)] * 4
    assert found(report)["missing"].items[0].text == "at ratio 1/16 (seed 0), no labelled image contains car"
    stratified = inspect(folder, settings=Split(stratify=True))
    assert [row.missing for row in stratified.ratios] == [()] * 4
    assert "missing" not in found(stratified)


def test_warnings_are_said_in_a_line_each_and_do_not_refuse(
    make_dataset: MakeDataset, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = make_dataset(train=4)
    (folder / "images/train/01.png").write_bytes((folder / "images/train/00.png").read_bytes())
    classes = check_files(read_layout(folder))
    assert set(classes["labels/train/00.png"]) <= {0, 1, 2}
    assert len(classes) == 6
    warnings = [line for line in capsys.readouterr().err.splitlines() if "warning: " in line]
    assert warnings == [
        "[prepare-dataset] tiny: warning: exact copies: images/train/01.png (labelled) is a copy of "
        "images/train/00.png (labelled)"
    ]


def test_the_report_is_json_and_a_page_that_shows_what_is_wrong(make_dataset: MakeDataset) -> None:
    folder = make_dataset(train=12)
    (folder / "images/train/00.png").write_bytes(b"<b>no picture</b>")
    for number in range(1, 10):
        Image.new("RGB", (12, 8), "red").save(folder / f"labels/train/{number:02d}.png")
    ids = np.zeros((8, 12), np.uint8)
    ids[0, 0] = 9
    Image.fromarray(ids).save(folder / "labels/train/10.png")
    report = inspect(folder)
    plain = json.loads(report.as_json())
    assert (plain["verdict"], plain["format"]) == ("fatal", 1)
    assert [(entry["kind"], entry["count"]) for entry in plain["findings"]][:3] == [
        ("unreadable", 1), ("mode", 9), ("ids", 1),
    ]  # fmt: skip
    assert plain["findings"][2]["items"][0]["ids"] == [9]
    page = render_check(report)
    assert "<title>tiny · Fatal</title>" in page
    assert [item.image for item in report.samples] == ["images/train/11.png"], "only whole samples come first"
    assert "<em>Fatal:</em> fix 3 problems before training." in page
    assert (
        page.count("<img ") == 2 + 2 * 6 + 2
    )  # the one whole sample, six of nine colour masks, one label with a wrong id, each with its image
    assert "3 more</summary>" in page
    assert "labels/train/09.png" in page
    assert "http" not in page.split("</style>")[1].replace("https", "http").split("base64")[0]
