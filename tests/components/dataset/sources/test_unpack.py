import io
import stat
import tarfile
import zipfile
from collections.abc import Callable
from pathlib import Path

import pytest

from components.dataset.sources.archive import archive_stem
from components.dataset.sources.unpack import unpack
from components.errors import UserError


def tar_of(path: Path, members: list[tarfile.TarInfo], mode: str = "w") -> Path:
    with tarfile.open(path, mode) as tar:  # type: ignore[call-overload]
        for member in members:
            tar.addfile(member, io.BytesIO(b"x" * member.size))
    return path


def plain(name: str) -> tarfile.TarInfo:
    member = tarfile.TarInfo(name)
    member.size = 3
    return member


def special(name: str, kind: bytes, target: str = "") -> tarfile.TarInfo:
    member = tarfile.TarInfo(name)
    member.type, member.linkname = kind, target
    return member


def refused(archive: Path, folder: Path) -> str:
    folder.mkdir()
    with pytest.raises(UserError) as error:
        unpack(archive, folder)
    assert list(folder.iterdir()) == [], "something was written before the archive was refused"
    assert "\n" not in str(error.value)
    return str(error.value)


@pytest.mark.parametrize(("name", "mode"), [("a.tar", "w"), ("a.tar.gz", "w:gz"), ("a.tgz", "w:gz")])
def test_a_tar_is_unpacked(tmp_path: Path, name: str, mode: str) -> None:
    archive = tar_of(
        tmp_path / name, [special("set", tarfile.DIRTYPE), plain("set/a/b.txt"), plain("./set/c.txt")], mode
    )
    folder = tmp_path / "out"
    folder.mkdir()
    unpack(archive, folder)
    files = {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*") if path.is_file()}
    assert files == {"set/a/b.txt": b"xxx", "set/c.txt": b"xxx"}


def test_a_zip_is_unpacked(tmp_path: Path) -> None:
    with zipfile.ZipFile(tmp_path / "a.zip", "w", zipfile.ZIP_DEFLATED) as zipped:
        zipped.writestr("set/", b"")
        zipped.writestr("set/a.txt", b"hello" * 100)
    folder = tmp_path / "out"
    folder.mkdir()
    unpack(tmp_path / "a.zip", folder)
    assert (folder / "set/a.txt").read_bytes() == b"hello" * 100


@pytest.mark.parametrize("name", ["../evil", "a/../../evil", "/etc/evil", "..", "a\\..\\..\\evil"])
def test_a_name_that_leads_out_is_refused(tmp_path: Path, name: str) -> None:
    archive = tar_of(tmp_path / "a.tar", [plain("good"), plain(name)])
    assert refused(archive, tmp_path / "out") == (
        f"archive {archive}: {name!r} leads out of the target folder; refused"
    )


@pytest.mark.parametrize(
    ("kind", "what"),
    [
        (tarfile.SYMTYPE, "a link"),
        (tarfile.LNKTYPE, "a link"),
        (tarfile.CHRTYPE, "a device"),
        (tarfile.FIFOTYPE, "a device"),
    ],
)
def test_links_and_devices_are_refused(tmp_path: Path, kind: bytes, what: str) -> None:
    archive = tar_of(tmp_path / "a.tar", [plain("good"), special("bad", kind, "good")])
    assert (
        refused(archive, tmp_path / "out") == f"archive {archive}: 'bad' is {what}: pack only regular files and folders"
    )


def test_a_zip_with_a_link_or_a_way_out_is_refused(tmp_path: Path) -> None:
    link = zipfile.ZipInfo("bad")
    link.external_attr = (stat.S_IFLNK | 0o777) << 16
    for member, words in ((link, "'bad' is a link"), (zipfile.ZipInfo("../bad"), "'../bad' leads out")):
        archive = tmp_path / "a.zip"
        with zipfile.ZipFile(archive, "w") as zipped:
            zipped.writestr("good", b"x")
            zipped.writestr(member, b"/etc")
        folder = tmp_path / words.split()[0].strip("'").replace("/", "_")
        assert words in refused(archive, folder)


def _garbage(path: Path) -> Path:
    path.write_bytes(b"no archive at all")
    return path


def _cut(path: Path) -> Path:
    tar_of(path, [plain(f"{n}") for n in range(2000)], "w:gz")
    path.write_bytes(path.read_bytes()[:-3000])
    return path


@pytest.mark.parametrize(("make", "words"), [(_garbage, "is not an archive"), (_cut, "is damaged")])
def test_a_damaged_archive_is_said_to_be(tmp_path: Path, make: Callable[[Path], Path], words: str) -> None:
    assert words in refused(make(tmp_path / "a.tar.gz"), tmp_path / "out")


def test_stems() -> None:
    assert [archive_stem(name) for name in ("camvid.tar.gz", "A.ZIP", "b.tgz", "c.tar", "d.png")] == [
        "camvid", "A", "b", "c", None,
    ]  # fmt: skip


def test_a_zip_made_on_windows_has_folders(tmp_path: Path) -> None:
    archive = tmp_path / "photos.zip"
    with zipfile.ZipFile(archive, "w") as zipped:
        for name in ("images\\", "images\\a.txt", "labels\\b\\c.txt"):
            member = zipfile.ZipInfo(name)
            member.create_system = 0
            zipped.writestr(member, b"" if name.endswith("\\") else b"text")
    (tmp_path / "out").mkdir()
    unpack(archive, tmp_path / "out", "test")
    found = {path.relative_to(tmp_path / "out").as_posix() for path in (tmp_path / "out").rglob("*")}
    assert found == {"images", "images/a.txt", "labels", "labels/b", "labels/b/c.txt"}
