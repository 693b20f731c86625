"""The node's cache of shards: shared, bounded, and never taken at its word when its bytes have changed."""

import hashlib
import os
import re
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from components.dataset.layouts import read_layout
from components.dataset.manifest import Manifest
from components.dataset.stored import store as dataset_store
from components.dataset.stored.cache import cache_limit
from components.dataset.stored.reader import DatasetReader
from components.dataset.stored.store import store_dataset
from components.errors import UserError, WorkFailed
from components.storage import keys
from components.storage.client import DigestMismatch, Store
from tests.object_stores import files_of_at_most

MakeDataset = Callable[..., Path]


@pytest.fixture(autouse=True)
def _small_shards(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(dataset_store, "SHARD_BYTES", 8_000)


def shards_in(cache: Path) -> set[str]:
    return {f"{path.parent.name[:6]}/{path.name}" for path in cache.glob("datasets/*/shard-*.tar")}


def size_of(manifest: Manifest) -> int:
    return sum(shard.size for shard in manifest.shards)


def read_all(reader: DatasetReader) -> None:
    for name, entry in reader.manifest.files.items():
        assert hashlib.sha256(reader.read(name)).hexdigest() == entry.sha256


def flip(path: Path, at: int, *, keep_times: bool) -> None:
    times = path.stat()
    with path.open("r+b") as file:
        file.seek(at)
        [byte] = file.read(1)
        file.seek(at)
        file.write(bytes([byte ^ 0x40]))
    if keep_times:
        os.utime(path, ns=(times.st_atime_ns, times.st_mtime_ns))


def test_a_shard_that_was_written_to_is_found_on_opening_and_fetched_again(
    make_dataset: MakeDataset, store: Store, tmp_path: Path
) -> None:
    manifest = store_dataset(read_layout(make_dataset()), store)
    name = manifest.train[0].image
    with DatasetReader(store, manifest.digest, tmp_path / "cache") as reader:
        path = reader.folder / f"shard-{manifest.files[name].shard:05d}.tar"
    flip(path, manifest.files[name].offset + 40, keep_times=False)
    with DatasetReader(store, manifest.digest, tmp_path / "cache") as reader:
        read_all(reader)
    assert hashlib.sha256(path.read_bytes()).hexdigest() == manifest.shards[manifest.files[name].shard].sha256


@pytest.mark.parametrize("what", ["image", "label"])
def test_a_bit_that_flips_on_the_disk_is_found_on_decoding_and_fetched_again(
    what: str, make_dataset: MakeDataset, store: Store, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    folder = make_dataset()
    manifest = store_dataset(read_layout(folder), store)
    name = manifest.train[0].image if what == "image" else str(manifest.train[0].label)
    entry = manifest.files[name]
    with (
        DatasetReader(store, manifest.digest, tmp_path / "cache") as reader,
        DatasetReader(store, manifest.digest, tmp_path / "cache") as other,
    ):
        path = reader.folder / f"shard-{entry.shard:05d}.tar"
        flip(path, entry.offset + entry.size - 20, keep_times=True)
        expected = np.array(Image.open(folder / name))
        for one in (reader, other, reader):
            np.testing.assert_array_equal(getattr(one, what)(name), expected)
        read_all(reader)
    assert capfd.readouterr().err.count("is damaged: downloading it again") == 2  # each reader has its own handle
    with DatasetReader(store, manifest.digest, tmp_path / "cache") as reader:
        read_all(reader)


def test_a_shard_that_is_damaged_in_the_store_is_named_and_refused(
    make_dataset: MakeDataset, store: Store, tmp_path: Path
) -> None:
    manifest = store_dataset(read_layout(make_dataset()), store)
    shard = manifest.shards[1]
    data = bytearray(store.get_bytes(shard.key))
    data[600] ^= 1
    damage = {"x-amz-meta-sha256": shard.sha256}
    store._client._put_object(store.settings.bucket, shard.key, bytes(data), damage)
    with pytest.raises(DigestMismatch, match=f"{store.uri(shard.key)} is damaged"):
        DatasetReader(store, manifest.digest, tmp_path / "cache")
    kept = shards_in(tmp_path / "cache")
    assert not any(name.endswith("shard-00001.tar") for name in kept)
    assert list((tmp_path / "cache").rglob("*.part")) == []
    # Read in place, for there is no room to cache it: the file that is damaged is refused, the others are not.
    with DatasetReader(store, manifest.digest, tmp_path / "other", limit=0) as reader:
        names = [name for name, entry in manifest.files.items() if entry.shard == 1]
        with pytest.raises(WorkFailed, match=f"{store.uri(shard.key)} is damaged: '{names[0]}'"):
            reader.read(names[0])
        for name in names[1:]:
            reader.read(name)


def test_a_manifest_that_is_damaged_is_refused_in_the_store_and_mended_in_the_cache(
    make_dataset: MakeDataset, store: Store, tmp_path: Path
) -> None:
    manifest = store_dataset(read_layout(make_dataset()), store)
    key = keys.dataset_manifest(manifest.digest)
    text = store.get_bytes(key).decode()
    other = text.replace('"name": "road"', '"name": "lane"')
    with DatasetReader(store, manifest.digest, tmp_path / "cache") as reader:
        cached = reader.folder / "manifest.json"
    cached.write_text(other)
    with DatasetReader(store, manifest.digest, tmp_path / "cache") as reader:
        assert reader.manifest == manifest
    store.put_bytes(key, other.encode())
    with pytest.raises(WorkFailed, match=f"{store.uri(key)} is damaged"):
        DatasetReader(store, manifest.digest, tmp_path / "other")


def test_the_cache_keeps_to_its_limit_and_drops_what_was_used_longest_ago(
    make_dataset: MakeDataset, store: Store, tmp_path: Path
) -> None:
    cache = tmp_path / "cache"
    made = [store_dataset(read_layout(make_dataset(name=f"n{seed}", seed=seed)), store) for seed in range(3)]
    limit = size_of(made[0]) + size_of(made[1]) + 100
    for manifest in (made[0], made[1], made[0], made[2]):
        with DatasetReader(store, manifest.digest, cache, limit) as reader:
            read_all(reader)
        held = sum(path.stat().st_size for path in cache.glob("datasets/*/shard-*"))
        assert held <= limit
    # The second was used longest ago.
    assert {name[:6] for name in shards_in(cache)} == {made[0].digest[:6], made[2].digest[:6]}


def test_what_is_in_use_is_not_dropped_and_the_rest_is_read_from_the_store(
    make_dataset: MakeDataset, store: Store, tmp_path: Path
) -> None:
    cache = tmp_path / "cache"
    one, two = (store_dataset(read_layout(make_dataset(name=f"n{seed}", seed=seed)), store) for seed in range(2))
    limit = size_of(one) + two.shards[0].size
    with DatasetReader(store, one.digest, cache, limit) as first:
        with DatasetReader(store, two.digest, cache, limit) as second:
            read_all(first)
            read_all(second)
            image = second.image(two.train[0].image)
            assert image.shape == (8, 12, 3)
        assert sum(path.stat().st_size for path in cache.glob("datasets/*/shard-*")) <= limit
    with DatasetReader(store, two.digest, cache, limit) as second:
        read_all(second)
        assert len([name for name in shards_in(cache) if name.startswith(two.digest[:6])]) == len(two.shards)


def test_what_a_killed_process_left_is_cleared_away(make_dataset: MakeDataset, store: Store, tmp_path: Path) -> None:
    manifest = store_dataset(read_layout(make_dataset()), store)
    folder = tmp_path / "cache" / "datasets" / manifest.digest
    folder.mkdir(parents=True)
    (folder / ".shard-00000.tar.00ff00ff.part").write_bytes(b"half")
    (folder / "shard-00000.tar").write_bytes(bytes(manifest.shards[0].size))  # as after a power cut
    with DatasetReader(store, manifest.digest, tmp_path / "cache") as reader:
        read_all(reader)
    names = {path.name for path in folder.iterdir()}
    assert names == {"manifest.json", *(f"shard-{number:05d}.tar" for number in range(len(manifest.shards)))}


def test_a_full_disk_says_where_and_what_to_do_and_files_come_from_the_store(
    make_dataset: MakeDataset, store: Store, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    manifest = store_dataset(read_layout(make_dataset()), store)
    size = manifest.shards[0].size
    with files_of_at_most(size - 1000), DatasetReader(store, manifest.digest, tmp_path / "cache") as reader:
        read_all(reader)
    said = capfd.readouterr().err.splitlines()[-1]
    assert re.search(r"/cache/datasets/.*/shard-\d+\.tar cannot be written: File too large \(\d.* kB needed\)", said)
    assert said.endswith(
        "make room, or set CPS_CACHE to a folder on a larger disk. tiny is read from the object store, more slowly"
    )
    assert list((tmp_path / "cache").rglob("*.part")) == []
    with DatasetReader(store, manifest.digest, tmp_path / "cache") as reader:
        read_all(reader)


@pytest.mark.parametrize(
    ("text", "size"), [("", None), ("1000", 1000), ("50GB", 50 * 10**9), ("1.5 g", 1_500_000_000), ("0", 0)]
)
def test_the_limit_is_a_size(text: str, size: int | None) -> None:
    assert cache_limit({"CPS_CACHE_BYTES": text}) == size


def test_a_limit_that_is_no_size_is_quoted() -> None:
    with pytest.raises(UserError, match="CPS_CACHE_BYTES='much' is not a size"):
        cache_limit({"CPS_CACHE_BYTES": "much"})


def test_two_runs_that_prepare_one_dataset_at_once_give_one_copy(
    make_dataset: MakeDataset, store: Store, capfd: pytest.CaptureFixture[str]
) -> None:
    layouts = [read_layout(make_dataset(name=name, train=20)) for name in ("one", "two", "three")]
    start, stored = threading.Barrier(3), list[Manifest]()

    def prepare(number: int) -> None:
        start.wait()
        stored.append(store_dataset(layouts[number], store))

    threads = [threading.Thread(target=prepare, args=(number,)) for number in range(3)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(stored) == 3
    assert stored[0].files == stored[1].files == stored[2].files
    digest = stored[0].digest
    expected = {
        keys.dataset_manifest(digest),
        keys.dataset_label_classes(digest),
        *(shard.key for shard in stored[0].shards),
    }
    assert {ref.key for ref in store.list("")} == expected
    said = capfd.readouterr().err
    assert said.count("shards stored") == 1
    assert said.count("already stored as") == 2


PREPARE = """
import sys
from pathlib import Path
from components.dataset.stored import store as dataset_store
from components.dataset.prepare import prepare
from components.step_guard import step_guard
from components.storage.client import open_store
dataset_store.SHARD_BYTES = 8_000
with step_guard("prepare-dataset") as step:
    manifest = prepare(sys.argv[1], "", open_store(), Path(sys.argv[2]))
    print(manifest.digest)
"""


@pytest.mark.slow
@pytest.mark.parametrize(
    ("objects", "told", "code"), [(1, signal.SIGINT, 130), (4, signal.SIGTERM, 143), (12, signal.SIGINT, 130)]
)
def test_a_preparation_that_is_interrupted_is_completed_by_the_next(
    objects: int,
    told: int,
    code: int,
    make_dataset: MakeDataset,
    store: Store,
    store_environment: dict[str, str],
    tmp_path: Path,
) -> None:
    folder = make_dataset(train=120)
    (tmp_path / "work").mkdir()
    command = [sys.executable, "-c", PREPARE, str(folder), str(tmp_path / "work")]
    environment = {**os.environ, **store_environment}
    running = subprocess.Popen(command, env=environment, stdout=subprocess.PIPE, text=True)
    deadline = time.monotonic() + 60
    while len(store.list("datasets/")) < objects and running.poll() is None:
        assert time.monotonic() < deadline
    running.send_signal(told)
    running.communicate(timeout=60)
    assert running.returncode == code
    assert [ref.key for ref in store.list("datasets/") if ref.key.endswith("manifest.json")] == []
    assert store.unfinished_uploads() == ()
    before = {ref.key: ref.modified for ref in store.list("datasets/") if ref.key.endswith(".tar")}
    done = subprocess.run(command, env=environment, stdout=subprocess.PIPE, text=True, timeout=60)
    assert done.returncode == 0
    with DatasetReader(store, done.stdout.strip(), tmp_path / "cache") as reader:
        read_all(reader)
        assert len(reader.manifest.train) == 120
    after = {ref.key: ref.modified for ref in store.list("datasets/")}
    assert before.items() <= after.items()  # what was there is not uploaded again
    # The manifest, which classes each label shows, and which dataset these files are.
    assert len(after) == len(reader.manifest.shards) + 3
    assert list((tmp_path / "work").iterdir()) == []
