"""Files that are something else are named as what they are, and nothing waits for a pipe."""

import os
from pathlib import Path

import pytest

from components.reading import expanded, is_file, mistaken, open_file, placeholder_of, read_bytes, shown
from tests.disks import permissions_count
from tests.odd_files import ODD, spoil

UNREADABLE = ("annex link", "broken link", "link to itself", "pipe", "socket", "device")


@pytest.mark.parametrize("kind", UNREADABLE)
def test_what_is_no_file_cannot_be_opened_and_says_why(kind: str, tmp_path: Path) -> None:
    said = spoil(tmp_path / "a", kind)
    with pytest.raises(OSError, match=r"it is|its content") as error:
        open_file(tmp_path / "a")
    assert said in str(error.value.strerror)
    assert error.value.filename == str(tmp_path / "a")
    with pytest.raises(OSError, match=r"it is|its content"):
        is_file(tmp_path / "a")


@pytest.mark.parametrize("kind", sorted(ODD.keys() - {*UNREADABLE}))
def test_what_is_no_image_says_why(kind: str, tmp_path: Path) -> None:
    said = spoil(tmp_path / "a", kind)
    assert is_file(tmp_path / "a")
    assert said in mistaken(read_bytes(tmp_path / "a"))


def test_a_file_a_folder_and_nothing(tmp_path: Path) -> None:
    (tmp_path / "a").write_bytes(b"content")
    assert read_bytes(tmp_path / "a") == b"content"
    assert mistaken(b"content") == mistaken(b"\xff\xd8\xff\xe0") == ""
    with pytest.raises(OSError, match="it is a folder, not a file"):
        open_file(tmp_path)
    with pytest.raises(FileNotFoundError):
        open_file(tmp_path / "none")
    assert not is_file(tmp_path)
    assert not is_file(tmp_path / "none")
    (tmp_path / "a").chmod(0)
    with permissions_count(), pytest.raises(PermissionError):
        open_file(tmp_path / "a")


def test_names(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert [placeholder_of(name) for name in (".x.jpg.icloud", "x.jpg", ".x.jpg", "x.icloud")] == ["x.jpg", "", "", ""]
    assert shown(os.fsdecode(b"caf\xe9.jpg")) == "caf\ufffd.jpg"
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.chdir(tmp_path)
    assert expanded("~/a") == f"{tmp_path}/a"
    assert expanded("a~") == "a~"
    (tmp_path / "~").mkdir()
    (tmp_path / "~" / "a").touch()
    assert expanded("~/a") == "~/a"
