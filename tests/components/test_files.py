"""Files are replaced whole or not at all, and a lock counts only while its file is in place."""

import errno
import os
import stat
import threading
from pathlib import Path

import pytest

from components.errors import UserError, find_one, is_disk_full
from components.files import holding, is_stream, locked, replacing, write_together, write_whole
from tests.object_stores import files_of_at_most


def names(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


def test_the_new_file_appears_at_the_end(tmp_path: Path) -> None:
    path = tmp_path / "page.html"
    path.write_text("old")
    with replacing(path) as partial:
        partial.write_text("new")
        assert path.read_text() == "old"
        [name] = [name for name in names(tmp_path) if name != "page.html"]
        assert name.startswith(".page.html.")
        assert name.endswith(".part")
    assert path.read_text() == "new"
    assert names(tmp_path) == ["page.html"]


@pytest.mark.parametrize("error", [OSError("full"), UserError("wrong"), KeyboardInterrupt()], ids=repr)
def test_an_error_leaves_the_old_file_and_no_partial(tmp_path: Path, error: BaseException) -> None:
    path = tmp_path / "page.html"
    path.write_text("old")

    def fail() -> None:
        with replacing(path) as partial:
            partial.write_text("half")
            raise error

    with pytest.raises(type(error)):
        fail()
    assert path.read_text() == "old"
    assert names(tmp_path) == ["page.html"]


def test_an_error_before_anything_is_written_keeps_its_own_text(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError) as failed, replacing(tmp_path / "none" / "page.html") as partial:
        partial.write_text("new")
    assert failed.value.errno == errno.ENOENT


def test_a_private_file_is_never_readable_by_others(tmp_path: Path) -> None:
    before = os.umask(0)
    try:
        with replacing(tmp_path / "keys.json", private=True) as partial:
            assert stat.S_IMODE(partial.stat().st_mode) == 0o600
            partial.write_text("secret")
        with replacing(tmp_path / "page.html") as partial:
            partial.write_text("public")
    finally:
        os.umask(before)
    assert stat.S_IMODE((tmp_path / "keys.json").stat().st_mode) == 0o600
    assert stat.S_IMODE((tmp_path / "page.html").stat().st_mode) == 0o666


def test_a_durable_file_is_flushed_before_it_is_renamed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path, flushed = tmp_path / "weights", list[tuple[str, bool]]()

    def fsync(handle: int) -> None:
        flushed.append((os.readlink(f"/proc/self/fd/{handle}"), path.exists()))

    monkeypatch.setattr(os, "fsync", fsync)
    with replacing(path, durable=True) as partial:
        partial.write_bytes(b"weights")
    assert flushed == [(str(partial), False)]
    assert path.read_bytes() == b"weights"


@pytest.mark.parametrize("name", ["pipeline.yaml", "ü" * 120 + ".yaml"])
def test_the_suffix_can_be_kept_and_a_long_name_fits(tmp_path: Path, name: str) -> None:
    with replacing(tmp_path / name, keep_suffix=True) as partial:
        assert partial.suffix == ".yaml"
        partial.write_text("a: 1")
    assert names(tmp_path) == [name]


def test_two_writers_do_not_share_a_partial(tmp_path: Path) -> None:
    path = tmp_path / "page.html"
    with replacing(path) as one:
        one.write_text("one")
        with replacing(path) as other:
            other.write_text("other")
    assert path.read_text() == "one"


def test_a_folder_a_device_or_a_pipe_is_not_replaced_and_the_error_names_it(tmp_path: Path) -> None:
    (tmp_path / "folder").mkdir()
    os.mkfifo(tmp_path / "pipe")
    (tmp_path / "null").symlink_to("/dev/null")
    (tmp_path / "stdout").symlink_to("/proc/self/fd/1")
    before = names(tmp_path)
    for name in before:
        with pytest.raises(OSError, match=rf"(it is a device or a pipe|Is a directory).*/{name}'"):
            write_whole(tmp_path / name, "new")
    assert names(tmp_path) == before
    assert [is_stream(tmp_path / name) for name in before] == [False, True, True, True]
    (tmp_path / "file").touch()
    (tmp_path / "link").symlink_to("file")
    assert not any(is_stream(tmp_path / name) for name in ("file", "link", "none"))


def test_a_write_that_fails_names_the_file_and_not_its_partial(tmp_path: Path) -> None:
    with files_of_at_most(10), pytest.raises(OSError, match="File too large") as error:
        write_whole(tmp_path / "new" / "page.html", "x" * 100)
    assert error.value.filename == str(tmp_path / "new" / "page.html")
    assert names(tmp_path / "new") == []


def test_a_lock_is_exclusive_or_shared(tmp_path: Path) -> None:
    path = tmp_path / "lock"
    with holding(path):
        for shared in (False, True):
            with pytest.raises(BlockingIOError):
                locked(path, os.O_RDONLY, shared=shared, wait=False)
    handles = [locked(path, os.O_RDONLY, shared=True, wait=False) for _ in range(2)]
    with pytest.raises(BlockingIOError), holding(path, wait=False):
        pass
    for handle in handles:
        os.close(handle)
    with holding(path, wait=False):
        pass
    with pytest.raises(FileNotFoundError):
        locked(tmp_path / "none", os.O_RDWR)


def test_a_lock_on_a_removed_file_does_not_count(tmp_path: Path) -> None:
    path, held = tmp_path / "lock", list[bool]()

    def wait_for_it() -> None:
        with holding(path) as handle:
            held.append(os.path.samestat(os.fstat(handle), path.stat()))

    with holding(path):
        waiting = threading.Thread(target=wait_for_it)
        waiting.start()
        waiting.join(0.2)
        assert waiting.is_alive()
        path.unlink()
    waiting.join(10)
    assert held == [True]


def test_a_name_is_found_by_its_beginning() -> None:
    known = ["demo-1", "demo-12", "other"]
    assert [find_one(given, known, "run") for given in ("demo-1", "demo-12", "o")] == ["demo-1", "demo-12", "other"]
    with pytest.raises(UserError, match=r"^'demo' is ambiguous, it matches <demo-1>, <demo-12>: type more of it$"):
        find_one("demo", known, "run", lambda name: f"<{name}>")
    expected = r"^'demo-2' is not a run; did you mean 'demo-12'\?; available: demo-1, demo-12, other$"
    with pytest.raises(UserError, match=expected):
        find_one("demo-2", known, "run")
    with pytest.raises(UserError, match=r"^'x' is not a run; available: none$"):
        find_one("x", [], "run")


def test_what_counts_as_a_full_disk() -> None:
    assert all(is_disk_full(OSError(number, "")) for number in (errno.ENOSPC, errno.EDQUOT, errno.EFBIG))
    assert not any(is_disk_full(error) for error in (OSError(errno.EACCES, ""), ValueError(errno.ENOSPC), None))


def test_files_are_written_together(tmp_path: Path) -> None:
    (tmp_path / "b").write_text("old")
    write_together({tmp_path / "a": "1", tmp_path / "b": "2"})
    assert {name: (tmp_path / name).read_text() for name in names(tmp_path)} == {"a": "1", "b": "2"}


@pytest.mark.parametrize("blocked", ["a", "b", "c"])
def test_if_one_file_cannot_be_written_none_is(tmp_path: Path, blocked: str) -> None:
    for name in {"b", "c"} - {blocked}:
        (tmp_path / name).write_text(f"old {name}")
    (tmp_path / blocked).mkdir()
    (tmp_path / blocked / "inside").touch()
    with pytest.raises(OSError, match="directory"):
        write_together({tmp_path / name: "new" for name in "abc"})
    assert names(tmp_path) == sorted({"b", "c", blocked})
    for name in {"b", "c"} - {blocked}:
        assert (tmp_path / name).read_text() == f"old {name}"


@pytest.mark.parametrize("error", [OSError("gone"), KeyboardInterrupt()], ids=repr)
def test_files_that_were_replaced_get_their_old_content(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, error: BaseException
) -> None:
    (tmp_path / "a").write_text("old")
    rename, targets = Path.replace, list[str]()

    def fail_at_the_third(self: Path, target: Path) -> Path:
        targets.append(target.name)
        if len(targets) == 3:
            raise error
        return rename(self, target)

    monkeypatch.setattr(Path, "replace", fail_at_the_third)
    with pytest.raises(type(error)):
        write_together({tmp_path / name: "new" for name in "abc"})
    assert targets[:3] == ["a", "b", "c"]
    assert names(tmp_path) == ["a"]
    assert (tmp_path / "a").read_text() == "old"
