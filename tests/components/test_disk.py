"""What is said of a folder that cannot be written: which one, how much room it has, and which setting to change."""

import errno
import os
import shutil
import tempfile
from collections.abc import Callable
from pathlib import Path

import pytest

from components.disk import (
    Unwritable,
    check_writable,
    default_cache,
    machine_error,
    scratch_of,
    setting_of,
    state_home,
    work_folder,
    writing,
)
from components.errors import UserError
from tests.disks import permissions_count, read_only, small_disk


def failing(number: int, *names: str) -> Callable[[], None]:
    def fail() -> None:
        raise OSError(number, os.strerror(number), *names[:1], *((None, *names[1:]) if names[1:] else ()))

    return fail


def said_of(place: Path, fail: Callable[[], object], setting: str = "", needed: int = 0) -> str:
    with pytest.raises(Unwritable) as error, writing(place, setting, needed):
        fail()
    return str(error.value)


@pytest.fixture
def folders(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Every folder that this program writes to lies in `tmp_path`."""
    for variable in ("CPS_CACHE", "CPS_WORK", "CPS_HOME"):
        monkeypatch.setenv(variable, str(tmp_path / variable))
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path / "TMPDIR"))
    return tmp_path


def test_a_full_disk_is_named_with_its_room_and_the_need(tmp_path: Path) -> None:
    with small_disk(tmp_path / "disk", "64k") as disk:
        said = said_of(disk, lambda: (disk / "a").write_bytes(bytes(100_000)), "--output", 100_000)
    assert said == (
        f"{disk} cannot be written: No space left on device (0 B free, 100.0 kB needed); "
        "make room, or set --output to a path on a larger disk"
    )


def test_a_disk_without_inodes_says_so(tmp_path: Path) -> None:
    with small_disk(tmp_path / "disk", "64k,nr_inodes=2") as disk:
        (disk / "a").touch()
        said = said_of(disk, (disk / "b").touch, "CPS_CACHE")
    assert said.startswith(
        f"{disk}/b cannot be written: No space left on device (65.5 kB but no inodes free); make room"
    )


def test_a_quota_says_nothing_of_the_disk(tmp_path: Path) -> None:
    said = said_of(tmp_path, failing(errno.EDQUOT), "CPS_WORK", 5)
    assert said == (
        f"{tmp_path} cannot be written: Disk quota exceeded (5 B needed); "
        "make room, or set CPS_WORK to a folder on a larger disk"
    )


def test_a_read_only_disk_and_a_forbidden_folder(tmp_path: Path) -> None:
    (tmp_path / "ro").mkdir()
    with read_only(tmp_path / "ro") as place:
        expected = f"{place}/a/b cannot be written: Read-only file system; set --output to a path that you may write to"
        assert said_of(place / "a" / "b", lambda: (place / "a" / "b").mkdir(parents=True), "--output") == expected
        with pytest.raises(Unwritable) as error:
            check_writable(place / "a" / "b", "--output")
        assert str(error.value) == expected
    (tmp_path / "shut").mkdir(mode=0o555)
    with (
        permissions_count(),
        pytest.raises(Unwritable, match=r"/shut/a cannot be written: Permission denied; set X to"),
    ):
        check_writable(tmp_path / "shut" / "a", "X")
    (tmp_path / "file").touch()
    with pytest.raises(Unwritable, match=r"/file/a cannot be written: Not a directory"):
        check_writable(tmp_path / "file" / "a", "X")
    check_writable(tmp_path / "new" / "a", "X")
    check_writable(Path("/proc/a"), "X")  # a file system that does not count its blocks
    assert not (tmp_path / "new").exists()


def test_the_setting_is_that_of_the_innermost_folder(folders: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for variable in ("CPS_CACHE", "CPS_WORK", "CPS_HOME", "TMPDIR"):
        assert setting_of(folders / variable / "a") == variable
    assert setting_of(folders / "elsewhere") == ""
    monkeypatch.setenv("CPS_CACHE", str(folders / "TMPDIR" / "cache"))
    assert setting_of(folders / "TMPDIR" / "cache" / "a") == "CPS_CACHE"
    monkeypatch.delenv("CPS_CACHE")
    monkeypatch.setenv("HOME", str(folders / "home"))
    assert setting_of(folders / "home" / ".cache" / "cps" / "a") == "CPS_CACHE"
    assert setting_of(folders / "home" / ".cache" / "paddle") == "HOME"


def test_an_outer_block_knows_the_setting_better(folders: Path) -> None:
    inner = folders / "TMPDIR" / "out" / "a"

    def fail() -> None:
        with writing(inner, needed=7):
            failing(errno.ENOSPC, str(inner))()

    assert "set TMPDIR to a folder" in said_of(inner, fail)
    said = said_of(folders / "TMPDIR" / "out", fail, "--output")
    assert "7 B needed" in said
    assert "8 B needed); make room, or set TMPDIR to a folder" in said_of(inner, fail, needed=8)
    assert said.endswith("set --output to a path on a larger disk")
    assert "set TMPDIR to a folder" in said_of(folders / "other", fail, "--output")


@pytest.mark.parametrize(
    "error", [ConnectionRefusedError(errno.ECONNREFUSED, "refused"), OSError("cannot write mode F"), KeyError("a")]
)
def test_other_errors_pass(error: Exception, tmp_path: Path) -> None:
    with pytest.raises(type(error)), writing(tmp_path):
        raise error
    assert machine_error(error) is None


def test_an_error_of_another_path_passes(tmp_path: Path) -> None:
    with pytest.raises(PermissionError), writing(tmp_path / "out"):
        failing(errno.EACCES, str(tmp_path / "elsewhere"))()


def test_a_fault_of_the_machine_is_one_line(folders: Path) -> None:
    place = folders / "data"
    place.mkdir()

    def explained(number: int, *names: object) -> str:
        return str(machine_error(OSError(number, os.strerror(number), *names)))

    assert explained(errno.EACCES, str(place / "a")) == (
        f"{place}/a: Permission denied; check the path and its permissions"
    )
    # Whoever may not read a file in the temporary folder is not helped by another one.
    (folders / "TMPDIR").mkdir()
    assert explained(errno.EACCES, str(folders / "TMPDIR" / "a")).endswith("check the path and its permissions")
    (folders / "CPS_HOME").touch()
    assert explained(errno.ENOTDIR, str(folders / "CPS_HOME" / "logs")).endswith(
        "/CPS_HOME/logs: Not a directory; set CPS_HOME to a folder that you may write to"
    )
    assert "set CPS_CACHE to a folder on a larger disk" in explained(errno.ENOSPC, str(folders / "CPS_CACHE" / "a"))
    assert machine_error(FileNotFoundError(errno.ENOENT, "No such file", "x")) is None
    assert explained(errno.EIO, b"/x") == "/x: Input/output error; check the path and its permissions"


def test_a_write_that_does_not_say_where_names_the_full_disks(folders: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    error = OSError(errno.ENOSPC, "No space left on device")
    assert str(machine_error(error)) == "No space left on device: make room on the disk that the command writes to"
    with small_disk(folders / "disk", "64k") as disk:
        monkeypatch.setenv("CPS_CACHE", str(disk / "cache"))
        assert str(machine_error(error)) == (
            f"No space left on device: CPS_CACHE ({disk}/cache: 65.5 kB free); "
            "make room, or set the variable to a folder on a larger disk"
        )


def test_scratch_lies_beside_the_cache_or_where_there_is_room(folders: Path) -> None:
    assert scratch_of(folders / "CPS_CACHE") == folders / "CPS_CACHE" / "scratch"
    shutil.rmtree(folders / "CPS_CACHE")
    (folders / "CPS_CACHE").touch()
    assert scratch_of(folders / "CPS_CACHE") == folders / "CPS_WORK"


def test_variables_may_begin_with_a_tilde(folders: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", str(folders))
    for variable, found in (("CPS_CACHE", default_cache), ("CPS_WORK", work_folder), ("CPS_HOME", state_home)):
        monkeypatch.setenv(variable, "~/a")
        assert found() == folders / "a"


def test_no_temporary_folder_and_no_home(monkeypatch: pytest.MonkeyPatch) -> None:
    error = FileNotFoundError(errno.ENOENT, "No usable temporary directory found in ['/tmp']")
    assert str(machine_error(error)).endswith("['/tmp']: set TMPDIR to a folder that you may write to")
    monkeypatch.delenv("CPS_CACHE", raising=False)

    def unknown() -> Path:
        raise RuntimeError("Could not determine home directory.")

    monkeypatch.setattr(Path, "home", unknown)
    with pytest.raises(UserError, match="this user has no home folder: set CPS_CACHE to a folder"):
        default_cache()
