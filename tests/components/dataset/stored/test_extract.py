"""A stored dataset in a folder: the files and lists that were stored, for as long as they are looked at."""

from collections.abc import Callable
from pathlib import Path

import pytest

from components.dataset.check.inspect import inspect_dataset
from components.dataset.layouts import read_layout
from components.dataset.stored.extract import _inside, extracted
from components.dataset.stored.store import store_dataset
from components.errors import WorkFailed
from components.storage.client import Store

MakeDataset = Callable[..., Path]


@pytest.fixture(autouse=True)
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CPS_CACHE", str(tmp_path / "cache"))


def test_a_check_finds_the_files_and_lists_that_were_stored(
    make_dataset: MakeDataset, store: Store, tmp_path: Path
) -> None:
    folder, work = make_dataset(), tmp_path / "work"
    work.mkdir()
    manifest = store_dataset(read_layout(folder), store)
    with extracted(store, manifest.digest, work) as layout:
        assert layout.lists.file_names() == manifest.file_names()
        for name in manifest.file_names():
            assert (layout.folder / name).read_bytes() == (folder / name).read_bytes()
        given, found = inspect_dataset(read_layout(folder)), inspect_dataset(layout)
    assert (found.images, found.balance, found.ratios) == (given.images, given.balance, given.ratios)
    assert list(work.iterdir()) == []


def test_a_name_outside_the_folder_is_refused(make_dataset: MakeDataset, store: Store) -> None:
    manifest = store_dataset(read_layout(make_dataset()), store)
    for name in ("../escaped.png", "/tmp/escaped.png", "images/../../escaped.png"):
        with pytest.raises(WorkFailed, match="has a file outside its folder"):
            _inside(name, manifest)
