"""Datasets with files that cannot be read: every one is a finding of the check, and an error when it is stored."""

import os
import shutil
from pathlib import Path

import pytest

from components.dataset.check.findings import CheckReport
from components.dataset.check.inspect import inspect_dataset
from components.dataset.check.page import render_check
from components.dataset.layouts import read_layout
from components.dataset.prepare import opened_layout, prepare
from components.dataset.sources.address import check_source, parse_sources
from components.errors import UserError
from components.storage.client import Store
from tests.components.dataset.scenes_on_disk import write_classes, write_dataset
from tests.disks import permissions_count, read_only
from tests.odd_files import ODD, spoil


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    folder = tmp_path / "photos"
    write_dataset(folder)
    write_classes(folder, "ground", "cat")
    return folder


def checked(folder: Path) -> CheckReport:
    work = folder.parent
    with opened_layout(str(folder), "", None, work / "scratch", work / "downloads") as layout:
        report = inspect_dataset(layout)
        render_check(report)
    return report


def unreadable(report: CheckReport) -> list[str]:
    return [item.text for finding in report.findings if finding.kind == "unreadable" for item in finding.items]


@pytest.mark.parametrize("kind", sorted(ODD))
def test_every_unreadable_file_is_a_finding_and_nothing_is_stored(kind: str, folder: Path, store: Store) -> None:
    said = spoil(folder / "images/train/01.jpg", kind)
    spoil(folder / "labels/val/01.png", kind)
    report = checked(folder)
    assert report.verdict == "fatal"
    image, label = unreadable(report)
    for text, what in ((image, "image images/train/01.jpg"), (label, "label labels/val/01.png")):
        assert text.startswith(f"{what} cannot be read (")
        assert said in text
        assert text.endswith("): replace it, or remove it from the dataset")
    with pytest.raises(UserError, match=rf"photos/images/train/01\.jpg cannot be read \(.*{said[-10:]}") as error:
        prepare(str(folder), "", store, folder.parent / "work")
    assert "\n" not in str(error.value)
    assert store.list("datasets/") == []


@pytest.mark.parametrize("kind", ["pipe", "socket", "broken link", "link to itself", "device"])
@pytest.mark.parametrize("name", ["notes", "notes.txt", "x.json", "names.yaml"])
def test_what_the_dataset_does_not_use_does_not_disturb(kind: str, name: str, folder: Path) -> None:
    spoil(folder / name, kind)
    report = checked(folder)
    assert unreadable(report) == []
    assert sum(use.files for use in report.account) == 13 + 1


@pytest.mark.parametrize("kind", sorted(ODD.keys() - {"empty"}))
@pytest.mark.parametrize("name", ["classes.json", "train.txt"])
def test_lists_and_classes_are_not_passed_over(kind: str, name: str, folder: Path) -> None:
    for part in ("train", "val"):
        pairs = [
            f"images/{part}/{path.name} labels/{part}/{path.stem}.png" for path in (folder / "images" / part).iterdir()
        ]
        (folder / f"{part}.txt").write_text("\n".join(pairs))
    read_layout(folder)
    said = spoil(folder / name, kind)
    with pytest.raises(UserError) as error:
        read_layout(folder)
    assert f"{folder}/{name} cannot be read" in str(error.value)
    assert said in str(error.value)


def test_a_list_names_a_broken_link(folder: Path) -> None:
    for part in ("train", "val"):
        (folder / f"{part}.txt").write_text(f"images/{part}/00.jpg labels/{part}/00.png")
    said = spoil(folder / "images/train/00.jpg", "broken link")
    with pytest.raises(UserError) as error:
        read_layout(folder)
    assert str(error.value) == f"{folder}/train.txt:1: images/train/00.jpg cannot be read: it is {said}"


@pytest.mark.parametrize("name", ["images/train/01.jpg", "labels/train/01.png", "classes.json"])
def test_what_is_only_in_icloud_is_not_left_out(name: str, folder: Path, store: Store) -> None:
    path = folder / name
    path.rename(path.with_name(f".{path.name}.icloud"))
    with pytest.raises(UserError, match=rf"\.{path.name}\.icloud.* only in iCloud: download") as error:
        prepare(str(folder), "", store, folder.parent / "work")
    assert "brctl download" in str(error.value)
    if name != "classes.json":
        assert checked(folder).verdict == "fatal"


def test_permissions(folder: Path, store: Store) -> None:
    def refused(path: Path) -> str:
        mode = path.stat().st_mode
        path.chmod(0)
        try:
            with permissions_count(), pytest.raises(UserError) as error:
                prepare(str(folder), "", store, folder.parent / "work")
        finally:
            path.chmod(mode)
        return str(error.value)

    (folder / "images/train").chmod(0o600)  # its files are listed, but cannot be opened
    with permissions_count():
        assert len(unreadable(checked(folder))) == 4
    (folder / "images/train").chmod(0o700)
    image, advice = folder / "images/train/01.jpg", "correct its permissions, or move it elsewhere"
    assert refused(image).startswith(f"file {image} cannot be read (Permission denied): ")
    assert refused(folder / "labels/val") == f"{folder}/labels/val cannot be read: Permission denied; {advice}"
    assert refused(folder / "classes.json") == f"{folder}/classes.json cannot be read: Permission denied"
    assert refused(folder) == f"{folder} cannot be read: Permission denied; {advice}"


def test_a_read_only_dataset_is_like_any_other(folder: Path, store: Store) -> None:
    digest = prepare(str(folder), "", store, folder.parent / "work").digest
    with read_only(folder):
        assert checked(folder).verdict != "fatal"
        assert prepare(str(folder), "", store, folder.parent / "work").digest == digest


def test_links_that_lead_back(folder: Path) -> None:
    digest = [sample.image for sample in read_layout(folder).lists.train]
    (folder / "images/train/again").symlink_to(folder)
    (folder / "images/train/self").symlink_to("self")
    layout = read_layout(folder)
    assert [sample.image for sample in layout.lists.train] == digest
    assert any(use.place == "images/train/again" and "contains it" in use.why for use in layout.account)


def test_names_that_are_not_utf_8(folder: Path) -> None:
    odd = os.fsdecode(b"caf\xe9")
    shutil.copy(folder / "classes.json", folder / f"{odd}.txt")
    shown = {use.place for use in read_layout(folder).account if use.what == "other files"}
    assert shown == {"caf\ufffd.txt"}
    (folder / "images/train/00.jpg").rename(folder / "images/train" / f"{odd}.jpg")
    (folder / "labels/train/00.png").rename(folder / "labels/train" / f"{odd}.png")
    with pytest.raises(UserError, match=r"the file name 'images/train/caf.\.jpg' is not UTF-8: rename it"):
        read_layout(folder)


@pytest.mark.parametrize("kind", ["pipe", "device", "broken link"])
def test_a_source_that_is_no_file_is_refused_at_once(kind: str, tmp_path: Path) -> None:
    said = spoil(tmp_path / "a.tar", kind)
    with pytest.raises(UserError, match=rf"^dataset '.*/a\.tar' cannot be read: it is {said}$"):
        check_source(str(tmp_path / "a.tar"), is_here=True)


def test_a_source_may_begin_with_a_tilde(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    (tmp_path / "my photos").mkdir()
    assert [source.text for source in parse_sources("~/my photos")] == [f"{tmp_path}/my photos"]
    sources = parse_sources("~/a.zip '~/b c.zip'")
    assert [source.text for source in sources] == [f"{tmp_path}/a.zip", f"{tmp_path}/b c.zip"]
