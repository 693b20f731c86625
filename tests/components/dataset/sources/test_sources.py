import fcntl
import io
import os
import shlex
import tarfile
import threading
import time
import zipfile
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
import zstandard
from PIL import Image

from components.dataset.prepare import prepare
from components.dataset.sources.address import Source, check_source, parse_sources
from components.errors import UserError, WorkFailed
from components.storage.client import Store
from tests.components.dataset.sources.web_server import Web, serving

MakeDataset = Callable[..., Path]
HEX = "0123456789abcdef" * 4


@pytest.fixture
def web(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Web]:
    monkeypatch.setattr("components.dataset.sources.download._BACKOFF", 0.001)
    with serving(tmp_path) as server:
        yield server


@pytest.fixture
def parts(make_dataset: MakeDataset) -> tuple[Path, Path, Path]:
    """Return a dataset's folder, its images as a .zip, and its labels and lists as a .tar.zst, each with a README."""
    folder = make_dataset()
    images, others = folder.with_name("images.zip"), folder.with_name("labels.tar.zst")
    with zipfile.ZipFile(images, "w") as zipped:
        for path in sorted((folder / "images").rglob("*.png")):
            zipped.write(path, path.relative_to(folder))
        zipped.writestr("README", "images")
    plain = folder.with_name("labels.tar")
    with tarfile.open(plain, "w") as tar:
        for name in ("labels", "train.txt", "val.txt", "classes.json"):
            tar.add(folder / name, name)
        (folder.parent / "README").write_text("labels")
        tar.add(folder.parent / "README", "README")
    others.write_bytes(zstandard.compress(plain.read_bytes()))
    return folder, images, others


def refusal(call: Callable[[], object]) -> str:
    with pytest.raises(UserError) as error:
        call()
    assert "\n" not in str(error.value)
    return str(error.value)


def test_several_parts_are_one_dataset(
    parts: tuple[Path, Path, Path],
    store: Store,
    tmp_path: Path,
    web: Web,
    capsys: pytest.CaptureFixture[str],
) -> None:
    folder, _, others = parts
    whole = prepare(str(folder), "", store, tmp_path / "work")
    joined = prepare(f"{web.url}/images.zip {shlex.quote(str(others))}", "", store, tmp_path / "work")
    assert joined.digest == whole.digest
    said = capsys.readouterr().err
    assert "tiny: layout lists, 3 classes, 8 train, 2 val, 0 test images" in said
    assert "labels.tar.zst: overwrote README from an earlier source" in said
    assert list((tmp_path / "work").iterdir()) == []
    # A folder may be a part, too; its files are not copied, and not written to.
    (folder / "images").rename(tmp_path / "only images")
    (tmp_path / "pictures").mkdir()
    (tmp_path / "only images").rename(tmp_path / "pictures" / "images")
    (tmp_path / "pictures" / "README").write_text("mine")
    assert prepare(f"'{tmp_path / 'pictures'}' {others}", "", store, tmp_path / "work").digest == whole.digest
    assert (tmp_path / "pictures" / "README").read_text() == "mine"


def test_cityscapes_in_two_archives_is_called_so(store: Store, tmp_path: Path) -> None:
    for folder, ending in (("leftImg8bit", "leftImg8bit"), ("gtFine", "gtFine_labelTrainIds")):
        with zipfile.ZipFile(tmp_path / f"{folder}_trainvaltest.zip", "w") as zipped:
            for number, part in enumerate(("train", "train", "val")):
                buffer = io.BytesIO()
                mode, color = ("RGB", (number, 0, 0)) if folder == "leftImg8bit" else ("L", 0)
                Image.new(mode, (8, 4), color).save(buffer, "PNG")
                zipped.writestr(f"{folder}/{part}/ulm/ulm_{number}_{ending}.png", buffer.getvalue())
            zipped.writestr("README", folder)
    archives = f"{tmp_path}/leftImg8bit_trainvaltest.zip {tmp_path}/gtFine_trainvaltest.zip"
    manifest = prepare(archives, "", store, tmp_path / "work")
    assert (manifest.layout, manifest.name, len(manifest.train)) == ("cityscapes", "cityscapes", 2)


def test_parts_of_known_digests_are_not_fetched_again(
    parts: tuple[Path, Path, Path], store: Store, tmp_path: Path, web: Web
) -> None:
    from components.files import file_sha256

    _, images, others = parts
    dataset = f"{web.url}/images.zip {web.url}/labels.tar.zst"
    sha256 = f"{file_sha256(images)}:{images.stat().st_size}, {file_sha256(others).upper()}"
    manifest = prepare(dataset, sha256, store, tmp_path / "work")
    web.asked.clear()
    assert prepare(dataset, sha256, store, tmp_path / "work") == manifest
    assert web.asked == []


def test_a_download_that_was_cut_is_gone_on_with_by_the_next_run(
    parts: tuple[Path, Path, Path], store: Store, tmp_path: Path, web: Web
) -> None:
    folder, _, _ = parts
    archive = tmp_path / "tiny.tar"
    with tarfile.open(archive, "w") as tar:
        tar.add(folder, folder.name)
    cache = tmp_path / "cache"
    web.cuts = [10_000, *[0] * 10]
    with pytest.raises(WorkFailed, match="could not be downloaded in 5 attempts"):
        prepare(f"{web.url}/tiny.tar", "", store, tmp_path / "work", cache_dir=cache)
    web.cuts = []
    web.asked.clear()
    manifest = prepare(f"{web.url}/tiny.tar", "", store, tmp_path / "work", cache_dir=cache)
    assert web.headers("Range") == ["bytes=10000-"]
    assert manifest.digest == prepare(str(folder), "", store, tmp_path / "work").digest
    assert list(cache.iterdir()) == []


def test_downloads_that_nobody_went_on_with_are_given_up(
    parts: tuple[Path, Path, Path], store: Store, tmp_path: Path, web: Web
) -> None:
    assert all(path.exists() for path in parts)
    downloads = tmp_path / "cache" / "downloads"
    long_ago = time.time() - 31 * 24 * 3600
    for name, age in (("abandoned", long_ago), ("in-use", long_ago), ("recent", time.time() - 24 * 3600)):
        (downloads / name).mkdir(parents=True)
        for path in (downloads / f"{name}.lock", downloads / name / "a.tar.part"):
            path.write_bytes(b"half")
            os.utime(path, (age, age))
    with (downloads / "in-use.lock").open() as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        dataset = f"{web.url}/images.zip {web.url}/labels.tar.zst"
        prepare(dataset, "", store, tmp_path / "work", cache_dir=downloads.parent)
    assert sorted(path.name for path in downloads.iterdir()) == ["in-use", "in-use.lock", "recent", "recent.lock"]


def test_two_at_once_download_it_once(parts: tuple[Path, Path, Path], store: Store, tmp_path: Path, web: Web) -> None:
    from components.files import file_sha256

    folder, _, _ = parts
    archive = tmp_path / "tiny.tar"
    with tarfile.open(archive, "w") as tar:
        tar.add(folder, folder.name)
    digests: list[str] = []

    def one() -> None:
        digests.append(prepare(f"{web.url}/tiny.tar", file_sha256(archive), store, tmp_path / "work").digest)

    threads = [threading.Thread(target=one) for _ in range(3)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(digests) == 3
    assert len(set(digests)) == 1
    assert len(web.asked) == 1
    assert list((tmp_path / "work").iterdir()) == []


def test_the_syntax(tmp_path: Path) -> None:
    spaced = tmp_path / "my data.tar"
    spaced.write_bytes(b"")
    assert parse_sources(str(spaced)) == (Source(str(spaced)),)
    assert parse_sources("  scenes:train=8, val=2 ") == (Source("scenes:train=8, val=2"),)
    assert parse_sources("a.zip\n'b c.tar'", f"{HEX.upper()}:12 -") == (Source("a.zip", HEX, 12), Source("b c.tar"))


@pytest.mark.parametrize(
    ("dataset", "sha256", "words"),
    [
        ("a.zip b.zip", HEX, "sha256 has 1 values for 2 sources: give one per source, and - for none"),
        (
            "a.zip",
            f"{HEX}:x",
            f"sha256 '{HEX}:x' is not 64 hexadecimal digits: copy all of it, or leave it empty",
        ),
        ("a.zip 'b.zip", "", "dataset: no closing quotation: quote a name with spaces, and close every quote"),
        ("a.zip scenes", "", "dataset 'a.zip scenes': generated scenes cannot be combined with other sources"),
    ],
)
def test_what_does_not_fit_is_named(dataset: str, sha256: str, words: str) -> None:
    assert refusal(lambda: parse_sources(dataset, sha256)) == words


@pytest.mark.parametrize(
    "source",
    [
        "https://anna:s3cr3t@host.example/a.tar",
        "https://s3cr3t@host.example/a.tar",
        "https://host.example/a.tar?download=1&access_token=s3cr3t",
        "https://host.example/a.tar?Token=s3cr3t",
    ],
)
def test_a_login_in_an_address_is_refused_and_not_repeated(source: str) -> None:
    text = refusal(lambda: check_source(source, is_here=False))
    assert "host.example/a.tar has " in text
    assert "remove it" in text
    assert "CPS_DOWNLOAD_TOKEN" in text
    assert "s3cr3t" not in text


def test_other_addresses_are_not_known() -> None:
    assert "s3cr3t" not in refusal(lambda: check_source("ftp://anna:s3cr3t@h/a.tar", is_here=False))
    assert "malformed" in refusal(lambda: check_source("https://host:port/a.tar", is_here=False))
    check_source("https://host:8443/a.tar?X-Amz-Signature=1", is_here=True)
