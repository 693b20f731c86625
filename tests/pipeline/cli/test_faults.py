"""What each command says of a disk that is full or read-only, and of a path that is no file: one line, exit code 2."""

import os
import stat
from collections.abc import Mapping
from pathlib import Path

import pytest

from components.scenes.generate import SceneSettings, draw_photographs
from components.storage import keys
from components.storage.client import Store
from pipeline.local.outcome import _copied
from tests.components.prediction.conftest import weights  # noqa: F401 - a fixture
from tests.disks import read_only, small_disk
from tests.pipeline.in_process import cps
from tests.run_objects import make_best, make_record, make_result

RUN = "photos-demo-1-8-s0-0123456789ab"


@pytest.fixture
def photos(tmp_path: Path) -> Path:
    draw_photographs(tmp_path / "photos", SceneSettings(train=4, val=2, width=64, height=32), 1)
    return tmp_path / "photos"


def one_line(*arguments: str, environment: Mapping[str, str] | None = None) -> str:
    """Return the single line of a command that ends with exit code 2."""
    ended = cps(*arguments, folder=None, **environment or {})
    assert (ended.returncode, ended.stdout) == (2, ""), ended.stderr
    [said] = ended.stderr.splitlines()
    return said.removeprefix("cps: error: ")


def test_gpus_that_this_machine_lacks_are_refused_before_anything_starts(tmp_path: Path) -> None:
    ended = cps("run", "--gpus", "2", folder=tmp_path)
    assert (ended.returncode, ended.stdout) == (2, "")
    assert ended.stderr.startswith("cps: error: gpus is 2, but ")
    assert len(ended.stderr.splitlines()) == 1
    assert list(tmp_path.iterdir()) == []


@pytest.fixture
def trained(store: Store, store_environment: dict[str, str], weights: Path) -> dict[str, str]:  # noqa: F811
    """The environment of a store with the weights of a run."""
    record, result = make_record(RUN), make_result(RUN, best=make_best())
    store.put_json(keys.run(RUN, "run.json"), record.model_dump(mode="json"))
    store.put_json(keys.run(RUN, "result.json"), result.model_dump(mode="json"))
    store.put_file(keys.best_weights(RUN, pair=True), weights)
    return store_environment


def test_weights_pulled_to_a_disk_without_room(trained: dict[str, str], weights: Path, tmp_path: Path) -> None:  # noqa: F811
    with small_disk(tmp_path / "disk", "64k") as disk:
        for form, name in (("safetensors", "w.safetensors"), ("npz", "w.npz")):
            said = one_line("weights", "pull", RUN, "--format", form, "-o", str(disk / name), environment=trained)
            assert said.startswith(f"{disk}/{name} cannot be written: No space left on device (")
            assert said.endswith(" needed); make room, or set --output to a path on a larger disk")
            assert list(disk.iterdir()) == []
        assert f"{weights.stat().st_size / 1e6:.1f} MB needed" in one_line(
            "weights", "pull", RUN, "-o", str(disk / "w"), environment=trained
        )


def test_weights_are_not_put_in_the_place_of_a_pipe_or_a_device(trained: dict[str, str], tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe")
    (tmp_path / "stdout").symlink_to("/proc/self/fd/1")
    for name in ("pipe", "stdout"):
        for form in ("safetensors", "npz"):
            said = one_line("weights", "pull", RUN, "--format", form, "-o", str(tmp_path / name), environment=trained)
            assert said.startswith(f"{tmp_path}/{name} cannot be written: it is a device or a pipe, not a file; set")
    assert stat.S_ISFIFO((tmp_path / "pipe").lstat().st_mode)
    assert os.readlink(tmp_path / "stdout") == "/proc/self/fd/1"
    (tmp_path / "file").write_text("mine")
    said = one_line("weights", "pull", RUN, "-o", str(tmp_path / "file" / "w"), environment=trained)
    assert said.startswith(f"{tmp_path}/file/w cannot be written: ")


def test_weights_of_a_run_for_a_prediction_without_room(trained: dict[str, str], photos: Path, tmp_path: Path) -> None:
    with small_disk(tmp_path / "disk", "64k") as disk:
        arguments = ("predict", "-q", str(photos / "images" / "val"), "--weights", RUN, "-o", str(tmp_path / "out"))
        said = one_line(*arguments, environment={**trained, "CPS_HOME": str(disk / "home")})
    assert said.startswith(f"{disk}/home/runs/{RUN}/best.safetensors cannot be written: No space left on device (")
    assert said.endswith(" needed); make room, or set CPS_HOME to a folder on a larger disk")
    assert not (tmp_path / "out").exists()


def test_an_output_that_cannot_be_written_is_said_before_any_work(photos: Path, tmp_path: Path) -> None:
    # The store's address is wrong: whoever asked it first would say that.
    away = {"AWS_ENDPOINT_URL": "http://127.0.0.1:9", "AWS_ACCESS_KEY_ID": "a", "AWS_SECRET_ACCESS_KEY": "b"}
    (tmp_path / "ro").mkdir()
    with read_only(tmp_path / "ro") as place:
        expected = f"{place}/out cannot be written: Read-only file system; set --output to a path that you may write to"
        images, out = str(photos / "images" / "val"), ("-o", str(place / "out"))
        for arguments in (
            ("label-next", RUN, *out),
            ("predict", images, "--weights", RUN, *out),
            ("matrix", "--dataset", str(photos), *out),
        ):
            assert one_line(*arguments, environment=away) == expected
        said = one_line("dataset", "check", "-q", str(photos), "-o", str(place / "out"))
        assert said == expected
        assert one_line("compile", "-o", f"{place}/out.yaml") == expected.replace("/out ", "/out.yaml ")
        said = one_line("dataset", "scenes", f"{place}/out")
        assert said == expected.replace("--output to a path", "FOLDER to a folder")


def test_scenes_without_room_leave_nothing(tmp_path: Path) -> None:
    with small_disk(tmp_path / "disk", "64k") as disk:
        ended = cps("dataset", "scenes", str(disk / "scenes"))
        assert ended.returncode == 2
        said = ended.stderr.splitlines()[-1]
        assert said.startswith(f"cps: error: {disk}/scenes")
        assert "cannot be written: No space left on device (0 B free); make room, or set FOLDER to a folder on" in said
        assert list(disk.iterdir()) == []


def test_a_page_goes_to_a_device_and_does_not_replace_it(photos: Path, tmp_path: Path) -> None:
    (tmp_path / "null").symlink_to("/proc/self/fd/2")
    ended = cps("dataset", "check", "-q", str(photos), "-o", str(tmp_path / "null"))
    assert ended.returncode == 0
    assert os.readlink(tmp_path / "null") == "/proc/self/fd/2"


@pytest.mark.parametrize("arguments", [("status",), ("up",), ("weights", "list"), ("compare",), ("run",)])
def test_a_state_folder_that_is_a_file(arguments: tuple[str, ...], tmp_path: Path) -> None:
    (tmp_path / "file").write_text("mine")
    said = one_line(*arguments, environment={"CPS_HOME": str(tmp_path / "file")})
    assert said.startswith(str(tmp_path / "file"))
    assert said.endswith("; set CPS_HOME to a folder that you may write to")
    assert (tmp_path / "file").read_text() == "mine"


def test_a_state_folder_without_room(tmp_path: Path) -> None:
    with small_disk(tmp_path / "disk", "8m") as disk:
        assert one_line("up", environment={"CPS_HOME": str(disk / "home")}) == (
            f"{disk}/home has only 8.4 MB free, but the object store needs 268.4 MB: "
            "make room, or set CPS_HOME to a folder on a larger disk"
        )


def test_an_unusable_cache_is_no_hindrance_to_commands_without_it(
    store_environment: dict[str, str], photos: Path, tmp_path: Path
) -> None:
    (tmp_path / "file").touch()
    environment = {**store_environment, "CPS_CACHE": str(tmp_path / "file")}
    assert cps("dataset", "check", "-q", str(photos), folder=None, **environment).returncode == 0
    assert cps("weights", "list", folder=None, **environment).returncode == 0
    said = one_line("dataset", "check", "-q", "http://127.0.0.1:9/a.tar", environment=environment)
    assert said.startswith(f"{tmp_path}/file/downloads: Not a directory; set CPS_CACHE to a folder that you may")


def test_a_run_on_a_folder_whose_name_is_not_utf_8(photos: Path, tmp_path: Path) -> None:
    odd = photos.rename(tmp_path / os.fsdecode(b"caf\xe9"))
    said = one_line("run", "-q", "--dataset", str(odd))
    assert said == f"dataset '{tmp_path}/caf\ufffd' is not UTF-8: rename it, or make a link to it with another name"
    # Commands that need no pipeline take it.
    ended = cps("dataset", "check", "-q", str(odd), "-o", str(tmp_path / "page.html"))
    assert ended.returncode == 0
    assert (tmp_path / "page.html").read_text(encoding="utf-8")


def test_no_room_for_temporary_files(photos: Path, tmp_path: Path) -> None:
    with small_disk(tmp_path / "disk", "8k") as disk:
        said = one_line("dataset", "check", "-q", "scenes:train=4,val=2", environment={"CPS_WORK": str(disk)})
        assert said.startswith(f"{disk}/dataset-")
        assert said.endswith("; make room, or set CPS_WORK to a folder on a larger disk")
        assert list(disk.iterdir()) == []
    assert photos.exists()


def test_a_finished_run_is_shown_also_where_its_pages_find_no_room(
    store: Store, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    store.put_bytes("small", b"page")
    store.put_bytes("large", bytes(200_000))
    with small_disk(tmp_path / "disk", "64k") as disk:
        pages = {disk / "report.html": store.uri("large"), disk / "gallery.html": store.uri("small")}
        assert _copied(store, pages) == {"gallery": str(disk / "gallery.html")}
        assert (disk / "gallery.html").read_bytes() == b"page"
    said = capsys.readouterr().err
    assert f"{disk}/report.html cannot be written: No space left on device" in said
    assert said.endswith(f"The page is stored as {store.uri('large')}\n")
