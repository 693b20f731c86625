"""Read datasets as downloaded: Cityscapes, PASCAL VOC, CamVid, and image and label folders side by side."""

import hashlib
import io
import json
import tarfile
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from components.dataset.check.inspect import inspect_dataset
from components.dataset.check.page import render_check
from components.dataset.class_ids import with_class_ids
from components.dataset.classes import CAMVID, CITYSCAPES, CITYSCAPES_TRAIN_IDS, VOC
from components.dataset.layouts import read_layout, unused, with_pools
from components.dataset.layouts.camvid import CAMVID_COLORS
from components.dataset.layouts.camvid import _part as frame_part
from components.dataset.manifest import Sample
from components.dataset.prepare import opened_layout, prepare
from components.dataset.stored.reader import DatasetReader
from components.errors import UserError
from components.storage.client import Store
from tests.components.conftest import MakeDataset

CLASSES = {"classes": [{"id": 0, "name": "a"}, {"id": 1, "name": "b"}]}


def image(path: Path) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    pixels = np.frombuffer(hashlib.sha256(path.name.encode()).digest() * 3, np.uint8).reshape(4, 8, 3)
    Image.fromarray(pixels).save(path)


def label(path: Path, ids: list[int], *, palette: bool = False) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    pixels = np.resize(np.array(ids, np.uint8), (4, 8))
    picture = Image.fromarray(pixels)
    if palette:
        picture.putpalette([number for color in VOC for number in color.color])
    picture.save(path)


def refusal(folder: Path) -> str:
    with pytest.raises(UserError) as error:
        read_layout(folder)
    assert "\n" not in str(error.value)
    return str(error.value)


@pytest.fixture
def cityscapes(tmp_path: Path) -> Path:
    """Return Cityscapes as downloaded: two training cities, and one each for validation, test and train_extra."""
    root = tmp_path / "cityscapes"
    for part, city in (("train", "aachen"), ("train", "bremen"), ("val", "munster"), ("test", "berlin")):
        stem = f"{part}/{city}/{city}_000000_000019"
        image(root / "leftImg8bit" / f"{stem}_leftImg8bit.png")
        label(root / "gtFine" / f"{stem}_gtFine_labelIds.png", [0, 7, 8, 26, 33, 3])
        label(root / "gtFine" / f"{stem}_gtFine_instanceIds.png", [1])
    image(root / "leftImg8bit/train_extra/ulm/ulm_000000_000000_leftImg8bit.png")
    (root / "license.txt").write_text("…")
    return root


def test_cityscapes_label_ids_are_mapped_when_it_is_stored(cityscapes: Path, store: Store, tmp_path: Path) -> None:
    manifest = prepare(str(cityscapes), "", store, tmp_path / "work")
    assert (manifest.layout, manifest.name, manifest.classes) == ("cityscapes", "cityscapes", CITYSCAPES)
    assert [len(part) for part in (manifest.train, manifest.val, manifest.test, manifest.unlabeled)] == [2, 1, 1, 0]
    name = "gtFine/train/aachen/aachen_000000_000019_gtFine_labelTrainIds.png"
    assert manifest.train[0] == Sample(
        image="leftImg8bit/train/aachen/aachen_000000_000019_leftImg8bit.png", label=name
    )
    assert manifest.test[0].label is None
    entry = manifest.files[name]
    shard = store.get_bytes(manifest.shards[entry.shard].key)
    stored = shard[entry.offset : entry.offset + entry.size]
    assert hashlib.sha256(stored).hexdigest() == entry.sha256
    ids = np.asarray(Image.open(io.BytesIO(stored)))
    assert ids.ravel()[:6].tolist() == [255, 0, 1, 13, 18, 255]
    assert not [name for name in manifest.files if "labelIds" in name or "license" in name]
    # The dataset's folder was not touched, and the scratch folder was removed.
    assert not list(cityscapes.rglob("*TrainIds*"))
    assert list((tmp_path / "work").iterdir()) == []
    assert prepare(str(cityscapes), "", store, tmp_path / "work").digest == manifest.digest


def test_every_train_id_has_one_label_id() -> None:
    assert sorted(CITYSCAPES_TRAIN_IDS.values()) == list(range(19))
    assert CITYSCAPES_TRAIN_IDS[24] == [entry.name for entry in CITYSCAPES].index("person")


def test_cityscapes_train_ids_are_taken_as_they_are(cityscapes: Path, tmp_path: Path) -> None:
    for path in list((cityscapes / "gtFine").rglob("*_labelIds.png")):
        label(path.with_name(path.name.replace("labelIds", "labelTrainIds")), [0, 18, 255])
    layout = read_layout(cityscapes)
    assert layout.notes == ("labels are train ids",)
    assert with_class_ids(layout, tmp_path / "mapped").folder == layout.folder
    # A single missing train-id label makes us read the label ids, which are complete.
    next(iter((cityscapes / "gtFine/val").rglob("*TrainIds*"))).unlink()
    assert read_layout(cityscapes).lists.train[0].label == (
        "gtFine/train/aachen/aachen_000000_000019_gtFine_labelIds.png"
    )


def test_cityscapes_without_some_labels(cityscapes: Path) -> None:
    (cityscapes / "gtFine/train/bremen/bremen_000000_000019_gtFine_labelIds.png").unlink()
    lists = read_layout(cityscapes).lists
    assert len(lists.train) == 1
    assert lists.unlabeled == ("leftImg8bit/train/bremen/bremen_000000_000019_leftImg8bit.png",)
    (cityscapes / "gtFine/val/munster/munster_000000_000019_gtFine_labelIds.png").unlink()
    assert refusal(cityscapes) == (
        f"{cityscapes}: leftImg8bit/val/munster/munster_000000_000019_leftImg8bit.png has no label "
        "gtFine/val/munster/munster_000000_000019_gtFine_labelIds.png: unpack gtFine_trainvaltest.zip"
    )


def test_a_label_id_without_a_meaning_is_named(cityscapes: Path, tmp_path: Path) -> None:
    path = cityscapes / "gtFine/train/bremen/bremen_000000_000019_gtFine_labelIds.png"
    label(path, [7, 34, 200])
    with pytest.raises(UserError) as error:
        with_class_ids(read_layout(cityscapes), tmp_path / "mapped")
    assert str(error.value) == f"label {path} has 34, 200, which are not Cityscapes label ids: download the label again"
    path.write_bytes(path.read_bytes()[:60])
    with pytest.raises(UserError, match=r"cannot be read \(.+\): replace it"):
        with_class_ids(read_layout(cityscapes), tmp_path / "again")


def test_a_check_names_every_label_that_cannot_be_mapped(cityscapes: Path, tmp_path: Path) -> None:
    aachen, bremen = (f"gtFine/train/{city}/{city}_000000_000019_gtFine_labelIds.png" for city in ("aachen", "bremen"))
    label(cityscapes / bremen, [7, 34, 200])
    (cityscapes / aachen).write_bytes(b"no picture at all")
    (tmp_path / "scratch").mkdir()
    with opened_layout(str(cityscapes), "", None, tmp_path / "scratch", tmp_path) as layout:
        report = inspect_dataset(layout)
        page = render_check(report)
    fatal = [(finding.kind, [item.text for item in finding.items]) for finding in report.findings[:2]]
    assert fatal == [
        ("unreadable", [f"label {aachen} cannot be read (not an image): replace it"]),
        ("ids", [f"label {bremen} has 34, 200, which are not Cityscapes label ids: download the label again"]),
    ]
    assert report.verdict == "fatal"
    assert report.images == {"labeled": 2, "unlabeled": 0, "val": 1, "test": 1}
    assert bremen in page


def test_what_is_wrong_in_an_archive_is_named_by_the_archive(
    cityscapes: Path, store: Store, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    def said() -> str:
        with tarfile.open(archive, "w") as tar:
            tar.add(cityscapes, ".")
        with pytest.raises(UserError) as error:
            prepare(str(archive), "", store, tmp_path / "work")
        return str(error.value)

    archive = tmp_path / "cityscapes.tar"
    bremen = "gtFine/train/bremen/bremen_000000_000019_gtFine_labelIds.png"
    label(cityscapes / bremen, [7, 34, 200])
    assert (
        said() == f"label {archive}/{bremen} has 34, 200, which are not Cityscapes label ids: download the label again"
    )
    label(cityscapes / bremen, [7])
    photograph = "leftImg8bit/train/bremen/bremen_000000_000019_leftImg8bit.png"
    (cityscapes / photograph).write_bytes(b"no picture at all")
    assert said() == (
        f"image {archive}/{photograph} cannot be read (not an image): replace it, or remove it from the dataset"
    )
    (cityscapes / "gtFine").rename(cityscapes / "labels-of-another-name")
    assert said().startswith(f"dataset {archive} declares no classes")
    assert str(tmp_path / "work") not in capsys.readouterr().err


def test_a_pool_is_taken_on_demand(cityscapes: Path, store: Store, tmp_path: Path) -> None:
    extra = "leftImg8bit/train_extra/ulm/ulm_000000_000000_leftImg8bit.png"
    layout = read_layout(cityscapes)
    assert (layout.lists.unlabeled, layout.pools) == ((), {"train_extra": (extra,)})
    without = prepare(str(cityscapes), "", store, tmp_path / "work")
    taken = prepare(str(cityscapes), "", store, tmp_path / "work", pools="train_extra")
    assert taken.unlabeled == (extra,)
    assert taken.digest != without.digest
    with pytest.raises(UserError, match=r"has no unlabelled pool 'extra'; available pools: train_extra$"):
        with_pools(layout, ["extra"])


def test_the_references_coarse_lists_are_pools(tmp_path: Path) -> None:
    root = tmp_path / "city"
    for part, count in (("train", 2), ("val", 1)):
        lines = []
        for number in range(count):
            image(root / f"images/{part}/{number}.png")
            label(root / f"segmentation/{part}/{number}.png", [0])
            lines.append(f"/images/{part}/{number}.png\t/segmentation/{part}/{number}.png\n")
        (root / "config_new/coarse_split").mkdir(parents=True, exist_ok=True)
        (root / f"config_new/{part}.txt").write_text("".join(lines))
    for count in (3, 6):
        # As in the reference, larger lists include the smaller ones, and may repeat a training image.
        lines = [
            "/images/train/0.png\n",
            *(f"/images/extra/{number}.png\t/coarse/{number}.png\n" for number in range(count)),
        ]
        (root / f"config_new/coarse_split/train_extra_{count}000.txt").write_text("".join(lines))
    layout = read_layout(root)
    assert (layout.kind, list(layout.pools)) == ("cityscapes-cps", ["train_extra_3000", "train_extra_6000"])
    with pytest.raises(UserError) as error:
        with_pools(layout, ["train_extra_3000"])
    assert str(error.value) == (f"pool train_extra_3000 of dataset city: images/extra/0.png does not exist in {root}")
    for number in range(6):
        image(root / f"images/extra/{number}.png")
    taken = with_pools(layout, ["train_extra_3000", "train_extra_6000"]).lists.unlabeled
    assert taken == tuple(f"images/extra/{number}.png" for number in range(6))


@pytest.fixture
def voc(tmp_path: Path) -> Path:
    """Return a folder with VOCdevkit/VOC2012: three training images, one for validation, one without a label."""
    root = tmp_path / "download" / "VOCdevkit" / "VOC2012"
    for number in range(5):
        image(root / f"JPEGImages/2007_{number:06d}.jpg")
        if number < 4:
            label(root / f"SegmentationClass/2007_{number:06d}.png", [0, 15, 255], palette=True)
    sets = root / "ImageSets" / "Segmentation"
    sets.mkdir(parents=True)
    (sets / "train.txt").write_text("".join(f"2007_{number:06d}\n" for number in range(3)))
    (sets / "val.txt").write_text("2007_000003\n")
    return tmp_path / "download"


def test_voc_is_read(voc: Path, store: Store, tmp_path: Path) -> None:
    manifest = prepare(str(voc), "", store, tmp_path / "work")
    assert (manifest.layout, manifest.name, manifest.classes) == ("voc", "VOC2012", VOC)
    assert manifest.train[2] == Sample(image="JPEGImages/2007_000002.jpg", label="SegmentationClass/2007_000002.png")
    assert (len(manifest.train), len(manifest.val), manifest.unlabeled) == (3, 1, ())
    assert with_pools(read_layout(voc), ["JPEGImages"]).lists.unlabeled == ("JPEGImages/2007_000004.jpg",)
    assert [(entry.name, entry.color) for entry in (VOC[0], VOC[15], VOC[20])] == [
        ("background", (0, 0, 0)),
        ("person", (192, 128, 128)),
        ("tvmonitor", (0, 64, 128)),
    ]


def test_voc_with_more_labels_beside_it(voc: Path) -> None:
    for number in range(5):
        label(voc / f"SegmentationClassAug/2007_{number:06d}.png", [0, 15])
    layout = read_layout(voc)
    assert layout.folder == voc
    assert [sample.image[-10:-4] for sample in layout.lists.train] == ["000000", "000001", "000002", "000004"]
    assert layout.lists.train[3] == Sample(
        image="VOCdevkit/VOC2012/JPEGImages/2007_000004.jpg", label="SegmentationClassAug/2007_000004.png"
    )
    assert layout.lists.val[0].label == "VOCdevkit/VOC2012/SegmentationClass/2007_000003.png"
    sets = voc / "VOCdevkit/VOC2012/ImageSets/SegmentationAug"
    sets.mkdir()
    (sets / "train_aug.txt").write_text("/JPEGImages/2007_000004.jpg /SegmentationClassAug/2007_000004.png\n")
    assert [sample.image[-10:-4] for sample in read_layout(voc).lists.train] == ["000004"]


def test_a_missing_file_of_voc_is_named_with_its_line(voc: Path) -> None:
    root = voc / "VOCdevkit/VOC2012"
    (root / "SegmentationClass/2007_000001.png").unlink()
    assert refusal(voc) == (
        f"{root}/ImageSets/Segmentation/train.txt:2: SegmentationClass/2007_000001.png does not exist in {root}; "
        "correct the line or add the file"
    )


def test_two_datasets_in_one_folder_are_named(voc: Path) -> None:
    (voc / "VOCdevkit/VOC2012").rename(voc / "VOCdevkit/VOC2007")
    (voc / "VOCdevkit/VOC2012").mkdir()
    for name in ("JPEGImages", "SegmentationClass", "ImageSets"):
        (voc / "VOCdevkit/VOC2012" / name).mkdir()
    assert refusal(voc) == (
        f"{voc} contains several datasets, VOCdevkit/VOC2007 and VOCdevkit/VOC2012: pass the folder of one of them"
    )


def test_camvid_as_segnet_has_it(tmp_path: Path) -> None:
    root = tmp_path / "CamVid"
    for part in ("train", "val", "test"):
        image(root / part / "0001TP.png")
        label(root / f"{part}annot" / "0001TP.png", [0, 10, 11])
        (root / f"{part}.txt").write_text(f"/SegNet/CamVid/{part}/0001TP.png /SegNet/CamVid/{part}annot/0001TP.png\n")
    layout = read_layout(tmp_path)
    assert (layout.kind, layout.name, layout.lists.ignore_index) == ("camvid", "CamVid", 11)
    assert layout.lists.classes == CAMVID
    assert layout.lists.train == (Sample(image="train/0001TP.png", label="trainannot/0001TP.png"),)
    (root / "trainannot/0001TP.png").unlink()
    assert "train.txt:1: /SegNet/CamVid/trainannot/0001TP.png does not exist in" in refusal(tmp_path)
    # Without lists it is read as folders side by side, which must declare their classes.
    label(root / "trainannot/0001TP.png", [0])
    for part in ("train", "val", "test"):
        (root / f"{part}.txt").unlink()
    (root / "classes.yaml").write_text("classes: camvid\n")
    layout = read_layout(tmp_path)
    assert (layout.kind, layout.lists.classes, layout.lists.ignore_index) == ("folders", CAMVID, 11)
    assert layout.lists.test == (Sample(image="test/0001TP.png", label="testannot/0001TP.png"),)


@pytest.mark.parametrize(
    ("images", "labels"),
    [
        ("images/{part}/city/{name}.jpg", "labels/{part}/city/{name}.png"),
        ("imgs/{part}/{name}.png", "masks/{part}/{name}_mask.png"),
        ("{part}/images/{name}.png", "{part}/annotations/{name}.png"),
        ("{part}/{name}.png", "{part}_labels/{name}_L.png"),
    ],
)
def test_folders_side_by_side(tmp_path: Path, images: str, labels: str) -> None:
    for part, count in (("train", 3), ("val", 1)):
        for number in range(count):
            image(tmp_path / images.format(part=part, name=number))
            if (part, number) != ("train", 2):
                label(tmp_path / labels.format(part=part, name=number), [0, 1])
    (tmp_path / "classes.json").write_text(json.dumps(CLASSES))
    (tmp_path / images.format(part="train", name=0)).with_name("._0.png").write_bytes(b"what a Mac leaves")
    layout = read_layout(tmp_path)
    assert layout.kind == "folders"
    assert layout.lists.train == tuple(
        Sample(image=images.format(part="train", name=number), label=labels.format(part="train", name=number))
        for number in range(2)
    )
    assert layout.lists.unlabeled == (images.format(part="train", name=2),)
    assert len(layout.lists.val) == 1


def test_two_folders_hold_some_out(tmp_path: Path) -> None:
    for number in range(21):
        image(tmp_path / f"images/{number:02d}.jpg")
        if number < 20:
            label(tmp_path / f"labels/{number:02d}.png", [0, 1])
    label(tmp_path / "labels/99.png", [0])
    (tmp_path / "classes.json").write_text(json.dumps(CLASSES))
    layout = read_layout(tmp_path)
    assert [sample.image for sample in layout.lists.val] == ["images/06.jpg", "images/15.jpg"]
    assert (len(layout.lists.train), layout.lists.unlabeled) == (18, ("images/20.jpg",))
    assert layout.notes == ("no val folder: held out 2 images, chosen by a hash of their names",)
    [left] = unused(layout, "unused")
    assert left.text() == "labels/99.png: 1 label is not used: no used image has a matching name"


def test_folders_that_lack_something_are_told_what(tmp_path: Path) -> None:
    image(tmp_path / "images/train/0.png")
    label(tmp_path / "labels/train/0.png", [0])
    assert refusal(tmp_path) == f"dataset {tmp_path} declares no classes: add classes.json or classes.yaml to it"
    (tmp_path / "classes.yaml").write_text("classes: nonsense\n")
    assert refusal(tmp_path) == (
        f"{tmp_path}/classes.yaml: unknown class set 'nonsense'; available: cityscapes, voc, camvid"
    )
    (tmp_path / "classes.yaml").write_text("classes: voc\n")
    assert refusal(tmp_path) == "too few labelled images to hold one out for validation: at least two are needed"
    image(tmp_path / "images/val/0.png")
    assert refusal(tmp_path) == (f"dataset {tmp_path}: images/val/0.png has no label; every validation image needs one")
    label(tmp_path / "labels/val/0.png", [0])
    label(tmp_path / "labels/val/0.bmp", [0])
    assert refusal(tmp_path) == (
        f"dataset {tmp_path}: labels/val/0.bmp and labels/val/0.png both match images/val/0.png; remove one label"
    )


def test_lists_with_classes_count_more_than_a_known_layout(cityscapes: Path) -> None:
    sample = "leftImg8bit/train/aachen/aachen_000000_000019_leftImg8bit.png"
    own = "gtFine/train/aachen/aachen_000000_000019_gtFine_labelIds.png"
    for part in ("train", "val"):
        (cityscapes / f"{part}.txt").write_text(f"{sample} {own}\n")
    (cityscapes / "classes.json").write_text(json.dumps(CLASSES))
    assert read_layout(cityscapes).kind == "lists"


@pytest.fixture
def original_camvid(tmp_path: Path) -> Path:
    """Return CamVid as downloaded, with six frames from all four videos."""
    root = tmp_path / "CamVid"
    frames = ["0001TP_006690", "0001TP_008550", "0006R0_f00930", "0016E5_07959", "0016E5_08190", "Seq05VD_f00000"]
    for number, frame in enumerate(frames):
        image(root / f"701_StillsRaw_full/{frame}.png")
        mask = np.zeros((4, 8, 3), np.uint8)
        mask[1:3], mask[3] = (192, 128, 192), CAMVID[number].color if number != 4 else (0, 0, 192)
        (root / "LabeledApproved_full").mkdir(exist_ok=True)
        Image.fromarray(mask).save(root / f"LabeledApproved_full/{frame}_L.png")
    (root / "label_colors.txt").write_text("64 128 64\tAnimal\n")
    return root


def test_camvid_as_downloaded_is_mapped_to_11_classes(original_camvid: Path, store: Store, tmp_path: Path) -> None:
    manifest = prepare(str(original_camvid), "", store, tmp_path / "work")
    assert (manifest.layout, manifest.classes, manifest.ignore_index) == ("camvid", CAMVID, 11)
    names = [[Path(sample.image).stem for sample in part] for part in (manifest.train, manifest.val, manifest.test)]
    assert names == [
        ["0001TP_006690", "0006R0_f00930", "0016E5_08190"], ["0016E5_07959"], ["0001TP_008550", "Seq05VD_f00000"],
    ]  # fmt: skip
    assert manifest.train[0].label == "LabeledApproved_full/0001TP_006690_trainIds.png"
    with DatasetReader(store, manifest.digest, tmp_path / "cache") as reader:
        rows = [reader.label(str(sample.label))[:, 0].tolist() for sample in manifest.train]
    assert rows == [[11, 8, 8, 0], [11, 8, 8, 2], [11, 8, 8, 4]], "void, a bus, and sky, pole, sidewalk"


def test_a_colour_that_camvid_has_not_is_named(original_camvid: Path, tmp_path: Path) -> None:
    path = original_camvid / "LabeledApproved_full/0006R0_f00930_L.png"
    Image.new("RGB", (8, 4), (1, 2, 3)).save(path)
    with pytest.raises(UserError, match=r"0006R0_f00930_L.png has the colour \(1, 2, 3\), which belongs to no class"):
        with_class_ids(read_layout(original_camvid), tmp_path / "mapped")


@pytest.mark.camvid
def test_the_parts_of_camvid_are_segnets(camvid: Path) -> None:
    for part in ("train", "val"):
        images = [line.split()[0] for line in (camvid / f"{part}.txt").read_text().splitlines()]
        assert {frame_part(camvid, Path(image).stem + ".png") for image in images} == {part}
    assert len(set(CAMVID_COLORS)) == 32
    assert {CAMVID_COLORS[entry.color] for entry in CAMVID if entry.name != "pavement"} == {0, 1, 2, 3, *range(5, 11)}


def test_vocs_own_lists_for_a_ratio(voc: Path) -> None:
    splits = voc / "VOCdevkit/VOC2012/splits"
    ids = [Path(sample.image).stem for sample in read_layout(voc).lists.train]
    for name, one in (("1_3", ids[2]), ("2-3", ids[0])):
        (splits / name).mkdir(parents=True)
        (splits / name / "labeled.txt").write_text(f"JPEGImages/{one}.jpg SegmentationClass/{one}.png\n")
    (splits / "2-3/unlabeled.txt").write_text(f"{ids[1]}\n")
    own = read_layout(voc).lists.ratio_lists
    assert sorted(own) == ["1/3", "2/3"]
    assert [Path(sample.image).stem for sample in own["1/3"].labeled] == [ids[2]]
    assert own["1/3"].labeled[0].label == f"SegmentationClass/{ids[2]}.png"
    assert [Path(image).stem for image in own["1/3"].unlabeled] == ids[:2]
    assert [Path(image).stem for image in own["2/3"].unlabeled] == [ids[1]]
    (splits / "4_6").mkdir()
    (splits / "4_6/labeled.txt").write_text(f"{ids[0]}\n")
    assert "has two lists for ratio 2/3" in refusal(voc)


def test_lists_own_lists_for_a_ratio(make_dataset: MakeDataset) -> None:
    folder = make_dataset()
    lines = (folder / "train.txt").read_text().splitlines()
    (folder / "splits/1_8").mkdir(parents=True)
    (folder / "splits/1_8/labeled.txt").write_text(lines[5] + "\n")
    lists = read_layout(folder).lists
    assert lists.ratio_lists["1/8"].labeled == (lists.train[5],)
    assert lists.ratio_lists["1/8"].unlabeled == tuple(s.image for s in lists.train if s != lists.train[5])
