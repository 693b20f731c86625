"""Archives that somebody made to do harm, or that would do it by accident."""

import gzip
import io
import random
import resource
import shutil
import struct
import tarfile
import zipfile
from collections.abc import Callable
from pathlib import Path

import pytest
import zstandard

from components.dataset.sources.unpack import unpack
from components.errors import UserError

Members = list[tuple[str, bytes]]


def tar(path: Path, members: Members) -> Path:
    with tarfile.open(path, "w", format=tarfile.GNU_FORMAT) as archive:
        for name, data in members:
            member = tarfile.TarInfo(name)
            member.size = len(data)
            archive.addfile(member, io.BytesIO(data))
    return path


def tar_gz(path: Path, members: Members) -> Path:
    path.write_bytes(gzip.compress(tar(path, members).read_bytes()))
    return path


def tar_zst(path: Path, members: Members) -> Path:
    path.write_bytes(zstandard.compress(tar(path, members).read_bytes()))
    return path


def zipped(path: Path, members: Members) -> Path:
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, data in members:
            # zipfile itself only warns of a name that is there twice.
            archive.writestr(zipfile.ZipInfo(name), data, zipfile.ZIP_DEFLATED)
    return path


ALL = pytest.mark.parametrize("make", [tar, tar_gz, tar_zst, zipped])
Make = Callable[[Path, Members], Path]


def refused(archive: Path, outside: Path) -> str:
    """The message; nothing was written, neither in the folder nor beside it."""
    folder = outside / "inner" / "out"
    folder.mkdir(parents=True, exist_ok=True)
    before = set(outside.rglob("*"))
    with pytest.raises(UserError) as error:
        unpack(archive, folder)
    assert set(outside.rglob("*")) == before
    text = str(error.value)
    assert text.isprintable()
    return text


@ALL
def test_what_is_harmless_is_unpacked(tmp_path: Path, make: Make) -> None:
    members = [("set/a.txt", b"a" * 3_000_000), ("set/ü/b b.txt", b"b"), ("./c", b"")]
    (tmp_path / "out").mkdir()
    assert unpack(make(tmp_path / "archive", members), tmp_path / "out") == []
    found = {
        path.relative_to(tmp_path / "out").as_posix(): path.read_bytes()
        for path in (tmp_path / "out").rglob("*")
        if path.is_file()
    }
    assert found == {name.removeprefix("./"): data for name, data in members}


@ALL
@pytest.mark.filterwarnings("ignore:Duplicate name:UserWarning")
@pytest.mark.parametrize(
    ("names", "words"),
    [
        (["a/../../x"], "leads out of the target folder"),
        (["/x"], "leads out of the target folder"),
        (["C:\\x"], "leads out of the target folder"),
        (["a/x", "a/x"], "'a/x' occurs twice; refused"),
        (["a/x", "./a//x"], "occurs twice; refused"),
        (["a/X", "a/x"], "'a/x' is the same name as 'a/X' on some file systems; refused"),
        (["A/x", "a/y"], "'a/y' is the same name as 'A' on some file systems; refused"),
        (["caf\u00e9", "cafe\u0301"], "on some file systems; refused"),
        (["a", "a/x"], "'a' is a file and a folder; refused"),
        (["a/x", "a"], "'a' is a file and a folder; refused"),
        (["line\nbreak"], "'line\\nbreak' has control characters; refused"),
        (["x" * 300], "has a part longer than 255 bytes; refused"),
    ],
)
def test_a_name_that_does_harm_is_refused(tmp_path: Path, make: Make, names: list[str], words: str) -> None:
    archive = make(tmp_path / "archive", [("good", b"x"), *((name, b"x") for name in names)])
    text = refused(archive, tmp_path)
    assert text.startswith(f"archive {archive}: ")
    assert words in text


def test_a_name_that_is_not_utf_8_is_refused(tmp_path: Path) -> None:
    in_tar = tar(tmp_path / "a.tar", [("Stra\udcdfe.png", b"x")])
    assert refused(in_tar, tmp_path) == f"archive {in_tar}: 'Stra\\udcdfe.png' is not UTF-8; refused"
    raw = zipped(tmp_path / "a.zip", [("StraSSe", b"x")]).read_bytes()
    without_flag = tmp_path / "b.zip"
    without_flag.write_bytes(raw.replace(b"StraSSe", b"Stra\xdf\xdfe"))
    assert refused(without_flag, tmp_path).endswith("is not UTF-8; refused")
    with_flag = zipped(tmp_path / "c.zip", [("Stra\u00dfe", b"x")])
    with_flag.write_bytes(with_flag.read_bytes().replace("\u00df".encode(), b"\xdf\xdf"))
    assert refused(with_flag, tmp_path) == f"archive {with_flag}: 'Stra\\\\xdf\\\\xdfe' is not UTF-8; refused"


def test_a_zip_of_a_mac_has_utf_8_without_saying_so(tmp_path: Path) -> None:
    raw = zipped(tmp_path / "a.zip", [("StraSSe", b"x")]).read_bytes()
    (tmp_path / "a.zip").write_bytes(raw.replace(b"StraSSe", "Stra\u00dfe".encode()))
    (tmp_path / "out").mkdir()
    unpack(tmp_path / "a.zip", tmp_path / "out")
    assert [path.name for path in (tmp_path / "out").iterdir()] == ["Stra\u00dfe"]


@pytest.mark.parametrize("make", [tar_gz, tar_zst, zipped])
def test_a_bomb_is_refused_before_anything_is_written(tmp_path: Path, make: Make) -> None:
    archive = make(tmp_path / "archive", [("zeros", bytes(120_000_000))])
    size = archive.stat().st_size
    assert size < 1_000_000
    assert refused(archive, tmp_path) == (
        f"archive {archive} unpacks to more than 100 times its {size} bytes, which is not allowed: raise "
        "CPS_UNPACK_MAX_RATIO if you trust it"
    )


@ALL
@pytest.mark.parametrize(
    ("variable", "words"),
    [("CPS_UNPACK_MAX_BYTES", "unpacks to more than 1e-07 GB"), ("CPS_UNPACK_MAX_FILES", "more than 100 files")],
)
def test_limits_come_from_the_environment(
    tmp_path: Path, make: Make, variable: str, words: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    archive = make(tmp_path / "archive", [(f"{number}", b"xx") for number in range(101)])
    monkeypatch.setenv(variable, "100")
    assert words in refused(archive, tmp_path)
    monkeypatch.setenv(variable, "202")
    (tmp_path / "out").mkdir()
    unpack(archive, tmp_path / "out")
    monkeypatch.setenv(variable, "many")
    assert refused(archive, tmp_path).startswith(f"{variable} is 'many': set it to a whole number above 0")


def test_more_than_the_disk_has_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CPS_UNPACK_MAX_BYTES", str(10**18))
    member = tarfile.TarInfo("huge")
    member.size = shutil.disk_usage(tmp_path).free // 512 * 512 + 10**9 // 512 * 512
    archive = tmp_path / "a.tar"
    with archive.open("wb") as file:
        file.write(member.tobuf(tarfile.GNU_FORMAT))
        file.truncate(512 + member.size + 1024)  # the data is a hole, and takes no room
    text = refused(archive, tmp_path)
    assert f", but {tmp_path}/inner/out has only " in text
    assert text.endswith("make room, or set CPS_WORK to a folder on a larger disk")


@pytest.mark.parametrize("size", [-512, 10**17])
@pytest.mark.parametrize("kind", [tarfile.REGTYPE, tarfile.XHDTYPE, tarfile.GNUTYPE_LONGNAME])
def test_a_size_that_cannot_be_is_refused(tmp_path: Path, kind: bytes, size: int) -> None:
    member = tarfile.TarInfo("odd")
    member.type, member.size = kind, size
    header = member.tobuf(tarfile.GNU_FORMAT) + bytes(10_240)
    for archive, data in ((tmp_path / "a.tar", header), (tmp_path / "a.tar.gz", gzip.compress(header))):
        archive.write_bytes(data)
        refused(archive, tmp_path)


def test_a_header_that_fills_the_memory_is_refused(tmp_path: Path) -> None:
    header = tarfile.TarInfo("././@PaxHeader")
    header.type, header.size = tarfile.XHDTYPE, 8_000_000_000
    archive = tmp_path / "a.tar.gz"
    archive.write_bytes(gzip.compress(header.tobuf(tarfile.GNU_FORMAT) + bytes(10_000)))
    assert refused(archive, tmp_path) == f"archive {archive} has a header of 8000000000 bytes; refused"


def test_a_zip_that_lies_about_a_size_is_damaged(tmp_path: Path) -> None:
    archive = zipped(tmp_path / "a.zip", [("zeros", bytes(50_000_000))])
    raw = archive.read_bytes().replace(struct.pack("<I", 50_000_000), struct.pack("<I", 1000))
    archive.write_bytes(raw)
    folder = tmp_path / "out"
    folder.mkdir()
    with pytest.raises(UserError, match="is damaged"):
        unpack(archive, folder)
    assert sum(path.stat().st_size for path in folder.rglob("*")) <= 1000


@pytest.mark.parametrize("make", [tar, tar_gz, tar_zst, zipped])
@pytest.mark.parametrize("part", [0.3, 0.6, 0.95])
def test_an_archive_that_was_cut_off_is_never_taken_for_whole(tmp_path: Path, make: Make, part: float) -> None:
    noise = random.Random(0)
    archive = make(tmp_path / "archive", [(f"{number}", noise.randbytes(1000)) for number in range(200)])
    data = archive.read_bytes()
    for size in (int(len(data) * part), int(len(data) * part) // 512 * 512):
        archive.write_bytes(data[:size])
        assert f"archive {archive} is damaged" in refused(archive, tmp_path) or "is not an archive" in refused(
            archive, tmp_path
        )


def test_a_tar_that_ends_between_two_files_is_damaged(tmp_path: Path) -> None:
    archive = tar(tmp_path / "a.tar", [("a", b"x"), ("b", b"x")])
    archive.write_bytes(archive.read_bytes()[: 2 * 512])
    assert refused(archive, tmp_path) == f"archive {archive} is damaged: it is incomplete; fetch it again"


def test_a_full_disk_is_named(tmp_path: Path) -> None:
    archive = tar(tmp_path / "a.tar", [("a", bytes(200_000))])
    (tmp_path / "out").mkdir()
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (100_000, hard))  # a file cannot grow, as on a full disk
    try:
        said = f"archive {archive} cannot be unpacked: {tmp_path}/out cannot be written: File too large; make room"
        with pytest.raises(UserError, match=said):
            unpack(archive, tmp_path / "out")
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))


def test_a_tar_that_holds_a_zip_is_a_tar(tmp_path: Path) -> None:
    inner = zipped(tmp_path / "inner.zip", [("x", b"x")]).read_bytes()
    (tmp_path / "out").mkdir()
    unpack(tar(tmp_path / "a.tar", [("inner.zip", inner)]), tmp_path / "out")
    assert [path.name for path in (tmp_path / "out").iterdir()] == ["inner.zip"]


def test_a_link_that_lies_in_the_folder_is_replaced_and_not_written_through(tmp_path: Path) -> None:
    (tmp_path / "out").mkdir()
    (tmp_path / "precious").write_text("mine")
    (tmp_path / "out" / "a").symlink_to(tmp_path / "precious")
    assert unpack(tar(tmp_path / "a.tar", [("a", b"theirs")]), tmp_path / "out") == ["a"]
    assert (tmp_path / "precious").read_text() == "mine"
    assert (tmp_path / "out" / "a").read_bytes() == b"theirs"
