import hashlib
import http.server
import tarfile
import threading
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path

import pytest

from components.dataset.prepare import find_dataset, prepare
from components.dataset.sources.fetch import source_name
from components.errors import UserError, WorkFailed
from components.storage.client import Store
from tests.components.dataset.scenes_on_disk import write_dataset

MakeDataset = Callable[..., Path]


class _Quiet(http.server.SimpleHTTPRequestHandler):
    def log_message(self, *_: object) -> None:
        return

    def do_GET(self) -> None:
        if self.path.startswith("/cut/"):
            self.send_response(200)
            self.send_header("Content-Length", "1000000")
            self.end_headers()
            self.wfile.write(b"x" * 1000)
        else:
            super().do_GET()


@pytest.fixture
def web(tmp_path: Path) -> Iterator[str]:
    """Return the address of a web server for the files in tmp_path."""
    handler = partial(_Quiet, directory=str(tmp_path))
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        thread = threading.Thread(target=server.serve_forever, args=(0.01,))
        thread.start()
        yield f"http://127.0.0.1:{server.server_port}"
        server.shutdown()
        thread.join()


def archive_of(folder: Path) -> tuple[Path, str]:
    path = folder.with_suffix(".tar.gz")
    with tarfile.open(path, "w:gz") as tar:
        tar.add(folder, folder.name)
    return path, hashlib.sha256(path.read_bytes()).hexdigest()


def sources(store: Store) -> list[str]:
    return [ref.key for ref in store.list("datasets/by-source/")]


def test_folder_archive_url_and_object_are_one_dataset(
    make_dataset: MakeDataset, store: Store, tmp_path: Path, web: str
) -> None:
    folder = make_dataset()
    archive, sha256 = archive_of(folder)
    store.put_file("uploads/tiny.tar.gz", archive)
    work = tmp_path / "work"
    digests = {
        prepare(source, digest, store, work).digest
        for source, digest in (
            (str(folder), ""),
            (str(archive), sha256.upper()),
            (f"{web}/tiny.tar.gz?download=1", ""),
            (store.uri("uploads/tiny.tar.gz"), sha256),
        )
    }
    assert len(digests) == 1
    assert len(sources(store)) == 2  # the folder's files, and the archive
    assert list(work.iterdir()) == []


def test_an_archive_known_by_its_sha256_is_not_fetched_again(
    make_dataset: MakeDataset, store: Store, tmp_path: Path, web: str
) -> None:
    archive, sha256 = archive_of(make_dataset())
    manifest = prepare(f"{web}/{archive.name}", sha256, store, tmp_path / "work")
    assert manifest.name == "tiny"
    archive.unlink()
    assert prepare(f"{web}/{archive.name}", sha256, store, tmp_path / "work") == manifest
    # What it became was removed: the pointer alone is not taken for the dataset.
    store.remove(manifest.shards[0].key)
    with pytest.raises(UserError, match="404"):
        prepare(f"{web}/{archive.name}", sha256, store, tmp_path / "work")


@pytest.mark.parametrize("place", ["path", "url"])
def test_another_sha256_is_refused(
    make_dataset: MakeDataset, store: Store, tmp_path: Path, web: str, place: str
) -> None:
    archive, sha256 = archive_of(make_dataset())
    source = str(archive) if place == "path" else f"{web}/{archive.name}"
    with pytest.raises(UserError) as error:
        prepare(source, "0" * 64, store, tmp_path / "work")
    assert str(error.value) == (
        f"{source} has sha256 {sha256}, not {'0' * 64}: correct the digest, or fetch the file again"
    )
    assert list((tmp_path / "work").iterdir()) == []
    assert store.list("") == []


def test_a_download_that_is_cut_off_is_tried_again_and_leaves_nothing(
    store: Store, tmp_path: Path, web: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("components.dataset.sources.download._BACKOFF", 0.01)
    with pytest.raises(WorkFailed) as error:
        prepare(f"{web}/cut/a.tar", "", store, tmp_path / "work")
    assert str(error.value) == (
        f"{web}/cut/a.tar could not be downloaded in 5 attempts: the connection ended after 1000 of 1000000 bytes"
    )
    assert list((tmp_path / "work").iterdir()) == []


def test_what_is_not_there_is_named(store: Store, tmp_path: Path, web: str) -> None:
    for source, words in (
        (f"{web}/none.tar", f"{web}/none.tar answered 404 File not found: correct the address"),
        ("/none/none.tar", "/none/none.tar cannot be opened: No such file or directory"),
    ):
        with pytest.raises(UserError) as error:
            prepare(source, "", store, tmp_path / "work")
        assert str(error.value) == words


def test_scenes_are_drawn_once(store: Store, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    source = "scenes:train=8,val=2,width=64,height=32"
    manifest = prepare(source, "", store, tmp_path)
    assert (manifest.name, manifest.layout) == ("scenes", "cityscapes-cps")
    assert {ratio: len(own.labeled) for ratio, own in manifest.ratio_lists.items()} == {
        "1/2": 4, "1/4": 2, "1/8": 1, "1/16": 1,
    }  # fmt: skip
    capsys.readouterr()
    assert prepare("scenes:val=2,train=8,height=32,width=64", "", store, tmp_path) == manifest
    assert "drawn" not in capsys.readouterr().err
    assert prepare("scenes:train=8,val=2,width=64,height=32,seed=1", "", store, tmp_path).digest != manifest.digest


def test_the_name_of_a_source() -> None:
    assert [source_name(source) for source in ("a/b.tar", "https://h/x%20y.zip?z=1#f", "s3://b/k/c.tgz", "/a/b/")] == [
        "b.tar", "x y.zip", "c.tgz", "b",
    ]  # fmt: skip


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("", "declares no classes: add classes.json or classes.yaml to it; or run `cps init {}`, which proposes what"),
        ("cat\ndog\n", 'or to void with "ignore_values"; `cps init {}` proposes classes that fit the labels'),
    ],
)
def test_a_run_on_a_folder_without_fitting_classes_is_sent_to_init(
    store: Store, tmp_path: Path, text: str, said: str
) -> None:
    write_dataset(tmp_path / "photos", classes=3)
    if text:
        (tmp_path / "photos" / "labels.txt").write_text(text)
    with pytest.raises(UserError) as error:
        prepare(str(tmp_path / "photos"), "", store, tmp_path / "work")
    assert said.format(tmp_path / "photos") in str(error.value)
    assert sources(store) == []


def test_a_prepared_dataset_is_found_without_storing_or_fetching(
    make_dataset: MakeDataset, store: Store, tmp_path: Path, web: str
) -> None:
    folder = make_dataset()
    archive, sha256 = archive_of(folder)
    given = ((str(folder), ""), (str(archive), ""), (f"{web}/{archive.name}", sha256))
    assert [find_dataset(*sources_of, store) for sources_of in given] == [None, None, None]
    assert list(store.list("")) == []
    manifest = prepare(str(folder), "", store, tmp_path / "work")
    prepare(str(archive), "", store, tmp_path / "work")
    before = [(ref.key, ref.modified) for ref in store.list("")]
    archive.rename(tmp_path / "elsewhere")  # its address is not asked
    assert [find_dataset(*sources_of, store) for sources_of in (given[0], given[2])] == [manifest, manifest]
    assert find_dataset(f"stored:{manifest.digest}", "", store) == manifest
    assert find_dataset(str(tmp_path / "elsewhere"), "", store) == manifest
    assert find_dataset(str(tmp_path / "elsewhere"), "0" * 64, store) is None
    assert find_dataset(f"{web}/{archive.name}", "", store) is None
    assert [(ref.key, ref.modified) for ref in store.list("")] == before
