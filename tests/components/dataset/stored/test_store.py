import io
import os
import tarfile
import threading
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from components.dataset.layouts import read_layout
from components.dataset.stored import store as dataset_store
from components.dataset.stored.reader import DatasetReader
from components.dataset.stored.store import store_dataset, stored_manifest
from components.errors import UserError, WorkFailed
from components.storage import keys
from components.storage.client import MissingObject, Store

MakeDataset = Callable[..., Path]


def test_what_is_stored_is_read_back(make_dataset: MakeDataset, store: Store, tmp_path: Path) -> None:
    folder = make_dataset()
    manifest = store_dataset(read_layout(folder), store)
    reader = DatasetReader(store, manifest.digest, tmp_path / "cache")
    assert reader.manifest == manifest == stored_manifest(store, manifest.digest)
    for name in manifest.file_names():
        assert reader.read(name) == (folder / name).read_bytes()
    sample = manifest.train[3]
    assert sample.label is not None
    image, label = reader.image(sample.image), reader.label(sample.label)
    assert (image.shape, label.shape) == ((8, 12, 3), (8, 12))
    assert image.dtype == label.dtype == np.uint8
    np.testing.assert_array_equal(image, np.array(Image.open(folder / sample.image)))
    np.testing.assert_array_equal(label, np.array(Image.open(folder / sample.label)))


def test_shards_are_ordinary_tars_of_bounded_size(
    make_dataset: MakeDataset, store: Store, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(dataset_store, "SHARD_BYTES", 8_000)
    manifest = store_dataset(read_layout(make_dataset()), store)
    assert len(manifest.shards) > 2
    found: dict[str, bytes] = {}
    for shard in manifest.shards:
        data = store.get_bytes(shard.key)
        assert len(data) == shard.size <= 8_000 + 1024
        with tarfile.open(fileobj=io.BytesIO(data)) as tar:
            for member in tar.getmembers():
                assert (member.mtime, member.uid, member.gid) == (0, 0, 0)
                file = tar.extractfile(member)
                assert file is not None
                found[member.name] = file.read()
    with DatasetReader(store, manifest.digest, tmp_path / "cache") as reader:
        assert found == {name: reader.read(name) for name in manifest.files}


def test_the_digest_is_of_files_and_lists_and_not_of_the_place(make_dataset: MakeDataset, store: Store) -> None:
    first = store_dataset(read_layout(make_dataset(name="one")), store)
    again = store_dataset(read_layout(make_dataset(name="two")), store)
    assert again == first
    other = make_dataset(name="three")
    lines = (other / "train.txt").read_text().splitlines(keepends=True)
    (other / "train.txt").write_text("".join(reversed(lines)))
    assert store_dataset(read_layout(other), store).digest != first.digest


def test_nothing_is_uploaded_twice(make_dataset: MakeDataset, store: Store) -> None:
    folder = make_dataset()
    manifest = store_dataset(read_layout(folder), store)
    before = store.list("datasets/")
    assert store_dataset(read_layout(folder), store) == manifest
    # Cut off before the manifest: what is there already is kept.
    store.remove(keys.dataset_manifest(manifest.digest))
    assert stored_manifest(store, manifest.digest) is None
    assert store_dataset(read_layout(folder), store) == manifest
    shards = [ref for ref in store.list("datasets/") if ref.key.endswith(".tar")]
    assert shards == [ref for ref in before if ref.key.endswith(".tar")]


def test_a_lost_shard_is_stored_again(make_dataset: MakeDataset, store: Store) -> None:
    folder = make_dataset()
    manifest = store_dataset(read_layout(folder), store)
    store.remove(manifest.shards[0].key)
    assert stored_manifest(store, manifest.digest) is None
    store_dataset(read_layout(folder), store)
    assert stored_manifest(store, manifest.digest) == manifest


def test_wrong_data_is_found_before_anything_is_stored(make_dataset: MakeDataset, store: Store) -> None:
    folder = make_dataset()
    Image.fromarray(np.full((8, 12), 9, np.uint8)).save(folder / "labels/val/01.png")
    with pytest.raises(UserError, match="ids outside the 3 classes: 9"):
        store_dataset(read_layout(folder), store)
    assert store.list("") == []


def test_a_reader_of_a_dataset_that_is_not_there_names_the_object(store: Store, tmp_path: Path) -> None:
    with pytest.raises(MissingObject) as error:
        DatasetReader(store, "0" * 64, tmp_path)
    assert store.uri(keys.dataset_manifest("0" * 64)) in str(error.value)


def test_a_name_that_is_not_in_the_dataset_is_named(make_dataset: MakeDataset, store: Store, tmp_path: Path) -> None:
    manifest = store_dataset(read_layout(make_dataset()), store)
    reader = DatasetReader(store, manifest.digest, tmp_path)
    with pytest.raises(WorkFailed) as error:
        reader.read("images/none.png")
    assert str(error.value) == f"dataset tiny ({manifest.digest[:12]}) has no file 'images/none.png'"


def test_a_full_cache_needs_no_store_and_a_torn_one_is_mended(
    make_dataset: MakeDataset, store: Store, tmp_path: Path
) -> None:
    manifest = store_dataset(read_layout(make_dataset()), store)
    cache = tmp_path / "cache"
    first = DatasetReader(store, manifest.digest, cache)
    name = manifest.train[0].image
    expected = first.read(name)
    shard = first.folder / "shard-00000.tar"
    shard.write_bytes(shard.read_bytes()[:100])
    assert DatasetReader(store, manifest.digest, cache).read(name) == expected
    for ref in store.list(""):
        store.remove(ref.key)
    assert DatasetReader(store, manifest.digest, cache).read(name) == expected


def test_threads_and_forked_processes_share_a_reader(make_dataset: MakeDataset, store: Store, tmp_path: Path) -> None:
    manifest = store_dataset(read_layout(make_dataset(train=40)), store)
    reader = DatasetReader(store, manifest.digest, tmp_path / "cache")
    expected = {name: reader.read(name) for name in manifest.files}
    wrong: list[str] = []

    def read_all() -> None:
        wrong.extend(name for _ in range(20) for name, data in expected.items() if reader.read(name) != data)

    threads = [threading.Thread(target=read_all) for _ in range(4)]
    child = os.fork()
    if child == 0:
        read_all()
        os._exit(1 if wrong else 0)
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert os.waitpid(child, 0)[1] == 0
    assert wrong == []


def test_many_readers_fill_one_cache_at_once(make_dataset: MakeDataset, store: Store, tmp_path: Path) -> None:
    manifest = store_dataset(read_layout(make_dataset()), store)
    name, read = manifest.train[0].image, list[bytes]()

    def open_and_read() -> None:
        read.append(DatasetReader(store, manifest.digest, tmp_path / "cache").read(name))

    threads = [threading.Thread(target=open_and_read) for _ in range(6)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(read) == 6
    assert len(set(read)) == 1
    folder = tmp_path / "cache/datasets" / manifest.digest
    assert sorted(path.name for path in folder.iterdir()) == ["manifest.json", "shard-00000.tar"]
