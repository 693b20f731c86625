"""Ctrl-C and SIGTERM while `cps dataset check` downloads, unpacks and checks, and a full disk: real processes."""

import json
import os
import pty
import signal
import subprocess
import sys
import tarfile
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from tests.components.dataset.sources.web_server import serving
from tests.object_stores import small_disk

pytestmark = pytest.mark.slow

ROOT = Path(__file__).parents[3]
STOPPED = "cps: stopped; run the same command again to start over; interrupted downloads resume"


@dataclass(frozen=True)
class Shell:
    """Somebody's terminal: where the command works, and where it writes its page."""

    folder: Path

    @property
    def work(self) -> Path:
        return self.folder / "work"

    @property
    def page(self) -> Path:
        return self.folder / "page.html"

    def start(self, source: str | Path, **streams: int) -> "subprocess.Popen[str]":
        command = [sys.executable, "-m", "pipeline.cli", "dataset", "check", str(source), "-o", str(self.page)]
        places = {"PYTHONPATH": str(ROOT), "CPS_CACHE": str(self.folder / "cache"), "CPS_WORK": str(self.work)}
        streams = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE} | streams
        return subprocess.Popen(command, env={**os.environ, **places}, text=True, **streams)  # type: ignore[call-overload]

    def stop(
        self, running: "subprocess.Popen[str]", when: Callable[[], bool], number: signal.Signals = signal.SIGINT
    ) -> None:
        """Send the signal as soon as it is `when`, and check how the command ends."""
        deadline = time.monotonic() + 60
        while not when():
            assert running.poll() is None, running.communicate()
            assert time.monotonic() < deadline
            time.sleep(0.001)
        running.send_signal(number)
        out, err = running.communicate(timeout=60)
        self.check_stopped(running.returncode, out, err, number)

    def check_stopped(self, code: int, out: str, err: str, number: signal.Signals = signal.SIGINT) -> None:
        assert (code, out) == (128 + number, ""), err
        assert err.splitlines()[-1] == STOPPED
        assert "Traceback" not in err
        assert not self.page.exists()
        assert list(self.work.iterdir()) == []

    def check_completes(self, source: str | Path) -> None:
        again = self.start(source)
        out, err = again.communicate(timeout=120)
        assert again.returncode == 0, err
        assert "(36 labelled, 0 unlabelled, 4 val" in out
        assert self.page.exists()
        assert list(self.work.iterdir()) == []


@pytest.fixture
def shell(tmp_path: Path) -> Shell:
    (tmp_path / "work").mkdir()
    return Shell(tmp_path)


@pytest.fixture(scope="module")
def photos(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """40 images of half a MB: long enough to be caught while they are unpacked and checked."""
    folder, rng = tmp_path_factory.mktemp("large") / "photos", np.random.default_rng(0)
    folder.mkdir()
    for part, numbers in (("train", range(36)), ("val", range(36, 40))):
        for number in numbers:
            picture = rng.integers(0, 256, (320, 480, 3), dtype=np.uint8)
            Image.fromarray(picture).save(folder / f"{number}.png", compress_level=1)
            Image.fromarray(picture[..., 0] // 128).save(folder / f"{number}-ids.png", compress_level=1)
        (folder / f"{part}.txt").write_text("".join(f"{number}.png {number}-ids.png\n" for number in numbers))
    names = [{"id": number, "name": name} for number, name in enumerate(("road", "car"))]
    (folder / "classes.json").write_text(json.dumps({"classes": names}))
    return folder


@pytest.fixture(scope="module")
def archive(photos: Path) -> Path:
    path = photos.with_name("photos.tar")
    with tarfile.open(path, "w") as tar:
        tar.add(photos, "photos")
    return path


def test_a_download_goes_on(shell: Shell, archive: Path) -> None:
    with serving(archive.parent) as web:
        web.hold = threading.Event()
        url = f"{web.url}/photos.tar"

        def begun() -> bool:
            return any(part.stat().st_size > 100_000 for part in (shell.folder / "cache").rglob("*.part"))

        shell.stop(shell.start(url), begun)
        web.hold.set()
        web.hold = None
        [part] = (shell.folder / "cache").rglob("photos.tar*.part")
        assert not part.with_name("photos.tar").exists()
        have = part.stat().st_size
        shell.check_completes(url)
        assert web.headers("Range") == ["", f"bytes={have}-"]


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_unpacking_begins_again(shell: Shell, archive: Path, number: signal.Signals) -> None:
    shell.stop(shell.start(archive), lambda: len(list(shell.work.glob("*/unpacked/photos/*"))) > 2, number)
    shell.check_completes(archive)


def test_a_check_begins_again_and_leaves_the_terminal_in_order(shell: Shell, photos: Path) -> None:
    ours, theirs = pty.openpty()
    running = shell.start(photos, stderr=theirs)
    os.close(theirs)
    said, told = b"", False
    try:
        while data := os.read(ours, 1 << 16):
            said += data
            if b"images checked" in said and not told:
                told = True
                running.send_signal(signal.SIGINT)
    except OSError:
        pass  # how a terminal ends whose program has gone
    finally:
        os.close(ours)
    out, _ = running.communicate(timeout=60)
    err = said.decode()
    shell.check_stopped(running.returncode, out, err)
    assert err.rfind("\x1b[?25h") > err.rfind("\x1b[?25l"), "the cursor is shown again"
    shell.check_completes(photos)


def test_a_page_that_finds_no_room_leaves_the_old_one(shell: Shell, photos: Path) -> None:
    with small_disk(shell.folder / "disk", "8k") as disk:
        page = disk / "page.html"
        page.write_text("the old one")
        command = [sys.executable, "-m", "pipeline.cli", "dataset", "check", str(photos), "-o", str(page)]
        ended = subprocess.run(command, env={**os.environ, "PYTHONPATH": str(ROOT)}, capture_output=True, text=True)
        assert (ended.returncode, ended.stdout) == (2, "")
        assert ended.stderr.startswith(f"cps: error: {page} cannot be written: No space left on device (")
        assert ended.stderr.endswith(" needed); make room, or set --output to a path on a larger disk\n")
        assert [(path.name, path.read_text()) for path in disk.iterdir()] == [("page.html", "the old one")]
