"""`cps predict` on folders as they are: what cannot be read is refused, and nothing of the user's is overwritten."""

import os
import shutil
import subprocess
import sys
import threading
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from components.errors import UserError
from components.prediction.destinations import LEDGER, LocalFolder, is_earlier_output
from components.prediction.photographs import find_photographs
from components.prediction.predict import predict_files
from components.reading import PLACEHOLDER
from tests.disks import permissions_count, read_only, small_disk
from tests.odd_files import ODD, spoil
from tests.pipeline.in_process import cps
from tests.project_files import REPOSITORY


def photograph(path: Path, seed: int = 0) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(np.random.default_rng(seed).integers(0, 256, (24, 32, 3), dtype=np.uint8)).save(path)


@pytest.fixture
def photos(tmp_path: Path) -> Path:
    for number in range(2):
        photograph(tmp_path / "photos" / f"{number}.png", number)
    return tmp_path / "photos"


def masks(out: Path) -> set[str]:
    return {path.relative_to(out / "masks").as_posix() for path in (out / "masks").rglob("*.png")}


def parts(folder: Path) -> list[Path]:
    return list(folder.rglob("*.part*"))


def test_everything_that_cannot_be_read_is_refused_and_the_rest_is_done(
    weights: Path, photos: Path, tmp_path: Path
) -> None:
    said = {kind: spoil(photos / f"{kind}.jpg", kind) for kind in ODD}
    (photos / ".cloud.jpg.icloud").write_bytes(b"bplist00")
    (photos / "shut").mkdir(mode=0)
    photograph(photos / "forbidden.png")
    (photos / "forbidden.png").chmod(0)
    (photos / "loop").symlink_to(photos)
    with permissions_count():
        refused = predict_files(photos, weights, tmp_path / "out")
    reasons = dict(line.split(": ", 1) for line in refused)
    for kind, text in said.items():
        assert text in reasons.pop(f"{photos}/{kind}.jpg")
    assert reasons == {
        f"{photos}/cloud.jpg": PLACEHOLDER,
        f"{photos}/shut": "the folder cannot be read: Permission denied",
        f"{photos}/forbidden.png": "Permission denied",
    }
    assert masks(tmp_path / "out") == {"0.png", "1.png"}


@pytest.mark.parametrize("kind", ["pipe", "device", "broken link", "git-lfs"])
def test_a_file_that_is_named_or_listed_is_refused_alike(
    kind: str, weights: Path, photos: Path, tmp_path: Path
) -> None:
    said = spoil(photos / "a.jpg", kind)
    (photos / "list.txt").write_text("a.jpg\n0.png\n")
    for number, images in enumerate(([f"{photos}/a.jpg", f"{photos}/0.png"], [f"{photos}/list.txt"], [f"{photos}/*g"])):
        [refused] = predict_files(images, weights, tmp_path / f"out-{number}")
        assert refused.startswith(f"{photos}/a.jpg: it is {said}")
    os.mkfifo(tmp_path / "q.txt")
    (photos / "shut").mkdir(mode=0)
    with permissions_count(), pytest.raises(UserError, match=r"^folder .*/shut cannot be read: Permission denied"):
        predict_files(photos / "shut", weights, tmp_path / "none")
    with pytest.raises(UserError, match=r"q\.txt cannot be read: it is a named pipe"):
        predict_files(tmp_path / "q.txt", weights, tmp_path / "none")


def test_hidden_files_are_skipped_unless_named(
    weights: Path, photos: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    for name in ("._0.jpg", "Thumbs.db", ".DS_Store", "__MACOSX/._1.jpg", "@eaDir/0.jpg"):
        (photos / name).parent.mkdir(exist_ok=True)
        (photos / name).write_bytes(b"\0\5\26\7")
    photograph(photos / ".kept.png")
    assert predict_files(photos, weights, tmp_path / "out") == []
    assert masks(tmp_path / "out") == {"0.png", "1.png"}
    assert f"{photos}: skipped 4 hidden files, such as ._0.jpg" in capsys.readouterr().err
    predict_files(photos / ".kept.png", weights, tmp_path / "named")
    assert masks(tmp_path / "named") == {".kept.png"}


@pytest.mark.parametrize("out", [".", "..", "out"])
def test_the_output_may_be_the_folder_itself_or_above_or_below(
    out: str, weights: Path, photos: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(photos)
    for _ in range(2):
        assert predict_files(".", weights, Path(out)) == []
        assert masks(Path(out)) == {"0.png", "1.png"}
    assert predict_files("**/*.png", weights, Path(out)) == []
    assert masks(Path(out)) == {"0.png", "1.png"}
    assert "2 of 2 images were already predicted" in capsys.readouterr().err


def test_an_image_is_not_overwritten_by_a_prediction(weights: Path, tmp_path: Path) -> None:
    for name in ("masks/a.png", "masks/b.png"):
        photograph(tmp_path / name)
    before = (tmp_path / "masks/a.png").read_bytes()
    said = r"masks/a\.png would be overwritten by the prediction of .*masks/a\.png: set --output to another folder"
    for images in (tmp_path / "masks", tmp_path / "masks/a.png"):
        with pytest.raises(UserError, match=said):
            predict_files(images, weights, tmp_path)
    assert (tmp_path / "masks/a.png").read_bytes() == before
    assert os.listdir(tmp_path) == ["masks"]
    # The same holds for what an earlier prediction has written.
    predict_files(tmp_path / "masks", weights, tmp_path / "out")
    with pytest.raises(UserError, match=r"/out/masks/a\.png would be overwritten by the prediction of "):
        predict_files(tmp_path / "out" / "masks" / "a.png", weights, tmp_path / "out")
    with pytest.raises(UserError, match="out/masks has only results of earlier predictions: choose other images"):
        predict_files(tmp_path / "out" / "masks", weights, tmp_path / "out")


@pytest.mark.parametrize("name", ["masks/0.png", "overlays/1.jpg", "gallery.html"])
def test_files_of_others_are_not_overwritten(name: str, weights: Path, photos: Path, tmp_path: Path) -> None:
    (tmp_path / name).parent.mkdir(exist_ok=True)
    (tmp_path / name).write_text("mine")
    with pytest.raises(UserError, match=f"{name} would be overwritten, but is not from an earlier prediction: "):
        predict_files(photos, weights, tmp_path)
    assert (tmp_path / name).read_text() == "mine"
    assert not (tmp_path / LEDGER).exists()


def test_files_of_others_among_predictions_are_neither_overwritten_nor_passed_over(
    weights: Path, photos: Path, tmp_path: Path
) -> None:
    predict_files(photos / "0.png", weights, tmp_path / "out")
    photograph(tmp_path / "out/masks/1.png")
    before = (tmp_path / "out/masks/1.png").read_bytes()
    with pytest.raises(UserError, match=r"out/masks/1\.png would be overwritten, but is not from an earlier"):
        predict_files(photos, weights, tmp_path / "out")
    assert (tmp_path / "out/masks/1.png").read_bytes() == before
    found = find_photographs([str(tmp_path / "out")], skip=is_earlier_output(tmp_path / "out"))
    assert [item.name for item in found] == ["masks/1"]


def test_what_a_killed_prediction_left_is_completed(weights: Path, photos: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    (out / "color").mkdir(parents=True)
    (out / "color" / "0.png").write_bytes(b"half")
    (out / LEDGER).write_bytes(b'{"name": "0"}\n{"name": "1", "ima')
    assert predict_files(photos, weights, out) == []
    assert masks(out) == {"0.png", "1.png"}
    with Image.open(out / "color" / "0.png") as picture:
        assert picture.size == (32, 24)


def test_names_that_are_not_utf_8_or_special_in_a_link(weights: Path, photos: Path, tmp_path: Path) -> None:
    names = [os.fsdecode(b"caf\xe9"), "a#b?c%20", "a\nb", "x" * 240]
    for name in names:
        photograph(photos / f"{name}.png")
    assert predict_files(photos, weights, tmp_path / "out") == []
    assert masks(tmp_path / "out") == {"0.png", "1.png", *(f"{name}.png" for name in names)}
    page = (tmp_path / "out" / "gallery.html").read_text()
    assert 'href="overlays/caf%E9.jpg"' in page
    assert 'href="overlays/a%23b%3Fc%2520.jpg"' in page
    assert "caf\ufffd.png" in page
    assert "were already predicted" not in page


def command(photos: Path, weights: Path, out: Path) -> tuple[int, str]:
    ended = cps("predict", "-q", str(photos), "--weights", str(weights), "-o", str(out))
    return ended.returncode, ended.stderr


def test_an_output_that_cannot_be_written(weights: Path, photos: Path, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("mine")
    code, said = command(photos, weights, tmp_path / "file" / "out")
    expected = f"{tmp_path}/file/out cannot be written: Not a directory; set --output to a path that you may write to"
    assert (code, said) == (2, f"cps: error: {expected}\n")
    (tmp_path / "half").mkdir()
    (tmp_path / "half" / "masks").write_text("mine")
    code, said = command(photos, weights, tmp_path / "half")
    assert code == 2
    assert said.startswith(f"cps: error: {tmp_path}/half/masks cannot be written: File exists; set --output to ")
    for ledger in (os.mkfifo, Path.mkdir):
        (tmp_path / "odd").mkdir()
        ledger(tmp_path / "odd" / LEDGER)
        code, said = command(photos, weights, tmp_path / "odd")
        assert code == 2
        assert said.startswith(f"cps: error: {tmp_path}/odd/{LEDGER} cannot be written: ")
        shutil.rmtree(tmp_path / "odd")
    (tmp_path / "link").symlink_to("nowhere/else")
    assert command(photos, weights, tmp_path / "link")[0] == 2
    (tmp_path / "ro").mkdir()
    with read_only(tmp_path / "ro"):
        code, said = command(photos, weights, tmp_path / "ro" / "out")
        assert code == 2
        assert "ro/out cannot be written: Read-only file system; set --output to a path that you may write to" in said


def test_a_full_disk_is_named_and_the_same_command_completes_the_rest(
    weights: Path, photos: Path, tmp_path: Path
) -> None:
    with small_disk(tmp_path / "disk", "24k") as disk:
        code, said = command(photos, weights, disk / "out")
        assert code == 2
        assert len(said.splitlines()) == 1
        assert " cannot be written: No space left on device (0 B free, " in said
        assert said.endswith(" needed); make room, or set --output to a path on a larger disk\n")
        assert parts(disk) == []
        shutil.copytree(disk / "out", tmp_path / "out")
    assert command(photos, weights, tmp_path / "out") == (0, "")
    assert masks(tmp_path / "out") == {"0.png", "1.png"}


def test_a_second_command_waits_for_the_folder(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    opened = threading.Event()

    def second() -> None:
        with LocalFolder(tmp_path / "out", "two"):
            opened.set()

    with LocalFolder(tmp_path / "out", "one"):
        waiting = threading.Thread(target=second)
        waiting.start()
        assert not opened.wait(0.2)
    waiting.join(10)
    assert opened.is_set()
    assert f"another command is writing to {tmp_path}/out; waiting until it ends" in capsys.readouterr().err


def test_paths_may_begin_with_a_tilde(
    weights: Path, photos: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    shutil.copy(weights, tmp_path / "w.safetensors")
    ended = cps("predict", "-q", "~/photos", "--weights=~/w.safetensors", "--output=~/out", folder=photos)
    assert (ended.returncode, ended.stdout) == (0, f"{tmp_path}/out/gallery.html\n")
    assert masks(tmp_path / "out") == {"0.png", "1.png"}


@pytest.mark.slow
def test_a_home_folder_that_cannot_be_written_is_not_needed(weights: Path, photos: Path, tmp_path: Path) -> None:
    (tmp_path / "home").touch()
    environment = {name: value for name, value in os.environ.items() if name != "CPS_CACHE"}
    ended = subprocess.run(
        [sys.executable, "-m", "pipeline.cli", "predict", "-q", photos, "--weights", weights, "-o", tmp_path / "out"],
        env={**environment, "HOME": str(tmp_path / "home"), "PYTHONPATH": str(REPOSITORY)},
        capture_output=True,
        text=True,
    )
    assert (ended.returncode, ended.stderr) == (0, "")
    assert "onnxruntime" in (tmp_path / "out" / "gallery.html").read_text(), "the network was exported"
