"""`cps dataset check` and `scenes` as a shell sees them."""

import json
import os
import subprocess
import tarfile
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from tests.pipeline.in_process import cps

ROOT = Path(__file__).parents[3]
CLASSES = '{"classes": [{"id": 0, "name": "road"}, {"id": 1, "name": "car"}]}'


def check(*arguments: str | Path, cache: Path | None = None) -> "subprocess.CompletedProcess[str]":
    return dataset("check", *arguments, cache=cache)


def dataset(*arguments: str | Path, cache: Path | None = None) -> "subprocess.CompletedProcess[str]":
    return cps("dataset", *map(str, arguments), CPS_CACHE=str(cache) if cache else os.environ["CPS_CACHE"])


@pytest.fixture
def photos(tmp_path: Path) -> Path:
    folder = tmp_path / "photos"
    folder.mkdir()
    rng = np.random.default_rng(0)
    for part, numbers in (("train", range(16)), ("val", range(16, 18))):
        lines = []
        for number in numbers:
            Image.fromarray(rng.integers(0, 256, (16, 24, 3), dtype=np.uint8)).save(folder / f"{number}.png")
            Image.fromarray(rng.integers(0, 2, (16, 24), dtype=np.uint8)).save(folder / f"{number}-label.png")
            lines.append(f"{number}.png {number}-label.png\n")
        (folder / f"{part}.txt").write_text("".join(lines))
    (folder / "classes.json").write_text(CLASSES)
    return folder


def test_a_fine_dataset_ends_with_0(photos: Path) -> None:
    ended = check(photos)
    assert (ended.returncode, ended.stderr) == (0, "")
    first, layout, used, *splits = ended.stdout.splitlines()
    assert first.startswith("photos: fine (16 labelled, 0 unlabelled, 2 val, 0 test images; ")
    assert layout == "layout   lists, 2 classes"
    assert used == (
        "         used: 16 train images, 16 train labels, 2 val images, 2 val labels, 2 lists, classes (classes.json)"
    )
    assert splits[0] == "1/16     1 labelled, 15 unlabelled"


def test_a_warning_ends_with_0_and_is_on_the_page(photos: Path, tmp_path: Path) -> None:
    (photos / "3.png").write_bytes((photos / "17.png").read_bytes())
    page = tmp_path / "out" / "report.html"
    ended = check(photos, "-o", page)
    assert ended.returncode == 0
    assert "warning  Exact copies (1)\n         17.png (val) is a copy of 3.png (labelled)\n" in ended.stdout
    assert ended.stdout.splitlines()[-1] == str(page)
    assert "17.png (val) is a copy of 3.png (labelled)" in page.read_text()


def test_what_is_fatal_ends_with_1_and_one_line(photos: Path, tmp_path: Path) -> None:
    (photos / "3.png").write_bytes((photos / "3.png").read_bytes()[:200])
    (photos / "5.png").write_bytes(b"")
    ended = check(photos, "--json", "-o", tmp_path / "report.html")
    assert ended.returncode == 1
    report = json.loads(ended.stdout)
    assert report["verdict"] == "fatal"
    assert [item["image"] for item in report["findings"][0]["items"]] == ["3.png", "5.png"]
    page, error = ended.stderr.splitlines()
    assert page == str(tmp_path / "report.html")
    assert error.startswith("cps: error: dataset photos cannot be trained on: fatal: unreadable files: ")
    assert error.endswith("(and 1 more)")


def test_it_says_how_the_folder_was_read_and_which_pools_were_left_out(photos: Path, tmp_path: Path) -> None:
    """The reference's Cityscapes, with lists of its own for a half and a pool of further images."""
    (photos / "config_new" / "subset_train").mkdir(parents=True)
    (photos / "config_new" / "coarse_split").mkdir()
    for part in ("train", "val"):
        (photos / f"{part}.txt").rename(photos / "config_new" / f"{part}.txt")
    lines = (photos / "config_new" / "train.txt").read_text().splitlines(keepends=True)
    subsets = photos / "config_new" / "subset_train"
    (subsets / "train_aug_labeled_1-2.txt").write_text("".join(lines[8:]))
    (subsets / "train_aug_unlabeled_1-2.txt").write_text("".join(lines[:8]))
    Image.new("RGB", (24, 16), (9, 99, 200)).save(photos / "extra.png")
    (photos / "config_new" / "coarse_split" / "train_extra_3000.txt").write_text("extra.png\n")
    page = tmp_path / "report.html"
    ended = check(photos, "-o", page)
    assert ended.returncode == 0, ended.stderr
    lines = ended.stdout.splitlines()
    assert lines[1:5] == [
        "layout   cityscapes-cps, 2 classes",
        "         used: 16 train images, 16 train labels, 2 val images, 2 val labels, classes (classes.json)",
        "         not used: 5 files (config_new): lists of the reference implementation; 1 image (extra.png): "
        "unlabelled pool train_extra_3000 (add it with --pools)",
        "         ignored without --pools: train_extra_3000 (1 image)",
    ]
    assert "1/4      4 labelled, 12 unlabelled" in lines
    assert "1/2      8 labelled, 8 unlabelled by its own list" in lines
    assert "additional unlabelled pools: train_extra_3000 (1 image)" in page.read_text()
    taken = json.loads(check(photos, "--pools", "train_extra_3000", "--json").stdout)
    assert (taken["layout"], taken["pools"], taken["images"]["unlabeled"]) == ("cityscapes-cps", {}, 1)
    assert taken["source"] == str(photos)


def test_an_archive_is_checked_like_its_folder(photos: Path, tmp_path: Path) -> None:
    with tarfile.open(tmp_path / "photos.tar", "w") as archive:
        archive.add(photos, "photos")
    ended = check(tmp_path / "photos.tar", "--stratify", "--group-by", "^[0-9]", "--seed", "2")
    assert ended.returncode == 0, ended.stderr
    assert ended.stdout.startswith("photos: fine (16 labelled")


def test_several_parts_and_an_address_are_checked_as_a_run_takes_them(photos: Path, tmp_path: Path) -> None:
    from components.files import file_sha256
    from tests.components.dataset.sources.web_server import serving

    with tarfile.open(tmp_path / "labels.tar", "w") as archive:
        for path in sorted(photos.glob("*-label.png")):
            archive.add(path, path.name)
            path.unlink()
    with serving(tmp_path) as web:
        cache = tmp_path / "cache"
        digests = f"-,{file_sha256(tmp_path / 'labels.tar')}"
        ended = check(photos, f"{web.url}/labels.tar", "--sha256", digests, cache=cache)
        assert ended.returncode == 0, ended.stderr
        assert ended.stdout.startswith("photos: fine (16 labelled")
        kept = [path for path in cache.rglob("labels.tar") if path.is_file()]
        assert len(kept) == 1, "a run that follows need not download it again"
        wrong = check(photos, f"{web.url}/labels.tar", "--sha256", f"-,{'0' * 64}", cache=cache)
        assert wrong.returncode == 2
        assert "has sha256" in wrong.stderr


@pytest.mark.parametrize(
    ("arguments", "named"),
    [
        (["nowhere"], "'nowhere' does not exist"),
        (["another"], "is not a recognised dataset layout"),
        (["photos/classes.json"], "is not an archive"),
        (["photos", "--group-by", "("], "is not a regular expression"),
        (["photos", "--seed", "-1"], "--seed"),
        (["photos", "-o", "photos"], "photos"),
        (
            ["photos", "-o", "photos/0.png/out/page.html"],
            "photos/0.png/out/page.html cannot be written: Not a directory",
        ),
        (["photos", "--pools", "more"], "has no unlabelled pool 'more'; the dataset has no pools"),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, list) else "",
)
def test_a_mistake_ends_with_2(
    photos: Path, arguments: list[str], named: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.chdir(tmp_path)
    (photos.parent / "another").mkdir()
    ended = check(*arguments)
    assert ended.returncode == 2
    assert named in ended.stderr
    assert "Traceback" not in ended.stderr
    assert ended.stdout == ""


@pytest.mark.camvid
def test_camvid_is_trainable_and_one_film_is_on_both_sides(camvid: Path) -> None:
    ended = check(camvid, "--json")
    assert ended.returncode == 0
    report = json.loads(ended.stdout)
    assert report["images"] == {"labeled": 367, "unlabeled": 0, "val": 101, "test": 0}
    assert [(entry["kind"], entry["items"]) for entry in report["findings"]] == [
        ("sequence", [{"text": "sequence 0016E5: 204 training images and 101 val images"}])
    ]
    stated = json.loads((camvid / "classes.json").read_text())["stats"]
    for part in ("train", "val"):
        assert {row["name"]: row[f"{part}_pixels"] for row in report["classes"]} == stated[part]["pixels"]


@pytest.mark.parametrize(("options", "progress"), [((), "[prepare-dataset] 100% scenes drawn\n"), (("--quiet",), "")])
def test_scenes_are_drawn_and_their_folder_is_said(options: tuple[str, ...], progress: str, tmp_path: Path) -> None:
    folder = tmp_path / "photos"
    ended = dataset("scenes", folder, "--train", "2", "--val", "1", "--unlabeled", "1", *options)
    assert (ended.returncode, ended.stdout, ended.stderr) == (0, f"{folder}\n", progress)
    assert len(list((folder / "images").rglob("*.jpg"))) == 4
