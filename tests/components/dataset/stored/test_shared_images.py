import os
import subprocess
import sys
import threading
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from components.dataset.layouts import read_layout
from components.dataset.stored.reader import DatasetReader
from components.dataset.stored.shared_images import LIMIT_VARIABLE, SharedImages, limit_shared_images
from components.dataset.stored.store import store_dataset
from components.networks.image_size import reduced, reduced_label
from components.storage.client import Store
from tests.components.conftest import MakeDataset

IMAGES = [f"images/train/{number:02d}.png" for number in range(4)]


class Counting(DatasetReader):
    """A reader that counts what it decodes."""

    counts: Counter[str]

    def image(self, name: str) -> NDArray[np.uint8]:
        self.counts[name] += 1
        return super().image(name)


@pytest.fixture
def reader(make_dataset: MakeDataset, store: Store, tmp_path: Path) -> Iterator[Counting]:
    manifest = store_dataset(read_layout(make_dataset()), store)
    with Counting(store, manifest.digest, tmp_path / "cache") as reader:
        assert isinstance(reader, Counting)
        reader.counts = Counter()
        yield reader


@pytest.fixture
def memory(tmp_path: Path) -> Path:
    folder = tmp_path / "memory"
    folder.mkdir()
    return folder


def files(memory: Path) -> list[str]:
    return sorted(path.name for path in memory.rglob("*") if path.is_file() and not path.name.startswith("."))


def test_what_one_has_decoded_the_other_has_too(reader: Counting, memory: Path) -> None:
    first, second = (SharedImages(reader, memory=memory, private=0) for _ in range(2))
    for images in (first, second, first):
        for name in IMAGES:
            assert np.array_equal(images.image(name), DatasetReader.image(reader, name))
            label = name.replace("images", "labels")
            assert np.array_equal(images.label(label), reader.label(label))
    assert reader.counts == dict.fromkeys(IMAGES, 1)
    with pytest.raises(ValueError, match="read-only"):
        second.image(IMAGES[0])[0, 0] = 1


def test_reduced_images_are_shared_apart_from_whole_ones(reader: Counting, memory: Path) -> None:
    whole, small, again = (SharedImages(reader, side, memory=memory, private=0) for side in (0, 6, 6))
    name, label = IMAGES[0], IMAGES[0].replace("images", "labels")
    expected = DatasetReader.image(reader, name)
    assert np.array_equal(whole.image(name), expected)
    assert np.array_equal(small.image(name), reduced(expected, 6))
    assert np.array_equal(small.label(label), reduced_label(reader.label(label), 6))
    assert max(small.image(name).shape) == max(small.label(label).shape) == 6
    assert np.array_equal(again.image(name), small.image(name))
    assert reader.counts == {name: 2}  # once for each size


def test_the_last_to_leave_removes_everything(reader: Counting, memory: Path) -> None:
    first, second = SharedImages(reader, memory=memory), SharedImages(reader, memory=memory)
    kept = first.image(IMAGES[0])
    expected = kept.copy()
    del first
    assert len(files(memory)) == 1
    del second
    assert files(memory) == []
    assert np.array_equal(kept, expected)


def test_what_has_no_room_stays_private(
    reader: Counting, memory: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    size = reader.image(IMAGES[0]).nbytes
    reader.counts.clear()
    monkeypatch.setenv(LIMIT_VARIABLE, str(2 * size + 100))
    images = SharedImages(reader, memory=memory, private=size)
    for name in [*IMAGES, IMAGES[0], IMAGES[1], IMAGES[3]]:
        images.image(name)
    assert len(files(memory)) == 2
    assert reader.counts == dict.fromkeys(IMAGES, 1)
    images.image(IMAGES[2])
    assert reader.counts[IMAGES[2]] == 2, "the private one was used longer ago, and there is room for one"
    assert capfd.readouterr() == ("", ""), "what is decoded again is not worth a warning each"


def test_a_pods_shared_memory_limits_what_is_shared(
    reader: Counting, memory: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    size = reader.image(IMAGES[0]).nbytes
    monkeypatch.setenv(LIMIT_VARIABLE, "")
    monkeypatch.delenv(LIMIT_VARIABLE)
    limit_shared_images(f"{2 * (2 * size + 100) / 1000}k")
    images = SharedImages(reader, memory=memory)
    for name in IMAGES:
        images.image(name)
    assert len(files(memory)) == 2, "half of it"
    limit_shared_images("16Gi")
    assert int(os.environ[LIMIT_VARIABLE]) < 1 << 20, "what the user sets takes precedence"


def test_a_limit_of_zero_shares_nothing_either_way(
    reader: Counting, memory: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    others = SharedImages(reader, memory=memory)
    others.image(IMAGES[0])
    assert len(files(memory)) == 1
    monkeypatch.setenv(LIMIT_VARIABLE, "0")
    alone = SharedImages(reader, memory=memory)
    for name in [*IMAGES, *IMAGES]:
        alone.image(name)
    assert reader.counts == {**dict.fromkeys(IMAGES, 1), IMAGES[0]: 2}
    assert len(files(memory)) == 1


def test_what_a_killed_process_left_is_cleared_and_never_half_read(reader: Counting, memory: Path) -> None:
    program = (
        "import os, sys; from pathlib import Path; from components.dataset.stored.shared_images import _open_shared\n"
        "import numpy as np; shared = _open_shared(Path(sys.argv[1]), 'another')\n"
        "assert shared.put('a-i', np.zeros((5, 4, 3), np.uint8)); (shared._folder / '.b.part').write_bytes(b'half')\n"
        "print('ready', flush=True); sys.stdin.read()"
    )
    command = [sys.executable, "-c", program, str(memory)]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == b"ready\n"
        images = SharedImages(reader, memory=memory)
        assert files(memory) == ["a-i"], "it is in use"
        process.kill()
        process.wait()
    del images
    again = SharedImages(reader, memory=memory)
    assert [path.name for path in (memory / f"cps-{os.getuid()}").iterdir()] == [reader.manifest.digest]
    assert np.array_equal(again.image(IMAGES[0]), DatasetReader.image(reader, IMAGES[0]))


def test_many_threads_and_caches_count_what_they_share(
    reader: Counting, memory: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    limit = 3 * (reader.image(IMAGES[0]).nbytes + 12)
    monkeypatch.setenv(LIMIT_VARIABLE, str(limit))
    caches = [SharedImages(reader, memory=memory, private=0) for _ in range(4)]
    wrong: list[Any] = []

    def read(images: SharedImages) -> None:
        for name in IMAGES:
            if not np.array_equal(images.image(name), DatasetReader.image(reader, name)):
                wrong.append(name)

    threads = [threading.Thread(target=read, args=(images,)) for images in caches for _ in range(2)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert wrong == []
    kept = list(memory.rglob("*-i"))
    assert sum(path.stat().st_size for path in kept) <= limit


def test_memory_that_cannot_be_used_is_done_without(reader: Counting, memory: Path, tmp_path: Path) -> None:
    (memory / f"cps-{os.getuid()}").symlink_to(tmp_path)
    for place in (tmp_path / "nowhere", memory):
        images = SharedImages(reader, memory=place)
        reader.counts.clear()
        for _ in range(2):
            images.image(IMAGES[0])
        assert reader.counts == {IMAGES[0]: 1}
