"""What a transfer survives: a store that is killed and comes back, a line that is cut, a disk that is full."""

import hashlib
import http.client
import os
import subprocess
import threading
import time
from dataclasses import replace
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest

from components.errors import UserError, WorkFailed
from components.storage.client import Store
from tests.object_stores import Server, files_of_at_most, line_to, small_disk

MB = 1 << 20


def sha256(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()


@pytest.mark.slow
def test_a_store_that_is_killed_during_uploads_and_comes_back(tmp_path: Path) -> None:
    server = Server(tmp_path)
    server.start()
    try:
        server.wait()
        store, large = Store(server.settings), os.urandom(96 * MB)
        (tmp_path / "large").write_bytes(large)
        acknowledged: dict[str, str] = {}
        failed: list[BaseException] = []

        def upload() -> None:
            try:
                for number in range(400):
                    ref = store.put_bytes(f"small/{number:03d}", os.urandom(20_000))
                    acknowledged[ref.key] = ref.sha256
            except BaseException as error:
                failed.append(error)

        def upload_large() -> None:
            try:
                ref = store.put_file("large", tmp_path / "large")
                acknowledged[ref.key] = ref.sha256
            except BaseException as error:
                failed.append(error)

        threads = [threading.Thread(target=upload), threading.Thread(target=upload_large)]
        for thread in threads:
            thread.start()
        while len(acknowledged) < 20:
            time.sleep(0.005)
        server.kill()
        time.sleep(1)
        server.start()
        for thread in threads:
            thread.join()
        assert failed == []
        assert len(acknowledged) == 401
        for key, digest in acknowledged.items():
            assert sha256(store.get_bytes(key)) == digest
        assert sorted(ref.key for ref in store.list("")) == sorted(acknowledged)
    finally:
        server.close()


@pytest.mark.slow
def test_a_download_goes_on_where_the_line_was_cut(store: Store, tmp_path: Path) -> None:
    data = os.urandom(40 * MB)
    written = store.put_bytes("large", data)
    with line_to(store.settings, [15 * MB, 10 * MB, 5 * MB], upstream=False) as line:
        cut = Store(replace(store.settings, endpoint=line.address))
        assert cut.get_file("large", tmp_path / "copy", written.sha256).read_bytes() == data
        assert line.cuts == []
        # Three times from the beginning would have been 70 MB: each cut costs what was on its way, and no more. A store
        # without etags cannot say that the object is still the same, so each cut costs the whole beginning.
        assert line.carried < 60 * MB or not store.get_with_etag("large")[1]
    assert os.listdir(tmp_path) == ["copy"]


@pytest.mark.slow
@pytest.mark.parametrize("single", [256 * MB, MB], ids=["one request", "parts"])
def test_an_upload_whose_line_is_cut_is_whole(
    store: Store, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, single: int
) -> None:
    monkeypatch.setattr("components.storage.transfer.SINGLE", single)
    data = os.urandom(80 * MB)
    (tmp_path / "large").write_bytes(data)
    with line_to(store.settings, [10 * MB, 6 * MB, 3 * MB], upstream=True) as line:
        cut = Store(replace(store.settings, endpoint=line.address))
        cut.put_file("large", tmp_path / "large")
        cut.put_bytes("small", data[:100_000])
        assert line.cuts == []
    assert store.get_bytes("large") == data
    assert [ref.key for ref in store.list("")] == ["large", "small"]


def test_half_a_body_is_no_object(store: Store) -> None:
    """The client dies in the middle of a request, and of an upload in parts."""
    client, bucket = store._client, store.settings.bucket
    link = client.get_presigned_url("PUT", bucket, "half", expires=timedelta(minutes=1))
    connection = http.client.HTTPConnection(store.settings.host)
    connection.putrequest("PUT", link.removeprefix(store.settings.endpoint))
    connection.putheader("Content-Length", str(4 * MB))
    connection.endheaders(os.urandom(MB))
    connection.close()
    upload_id = client._create_multipart_upload(bucket, "parts", {})
    client._upload_part(bucket, "parts", os.urandom(5 * MB), None, upload_id, 1)
    time.sleep(0.2)
    assert store.list("") == []
    assert [upload.key for upload in store.unfinished_uploads()] == ["parts"]


@pytest.mark.parametrize("single", [64 * MB, MB], ids=["one request", "parts"])
def test_a_bit_that_flips_on_the_way_is_refused_and_sent_again(
    store: Store, monkeypatch: pytest.MonkeyPatch, single: int
) -> None:
    monkeypatch.setattr("components.storage.transfer.SINGLE", single)
    data = os.urandom(20 * MB)
    send, damaged = store._client._http.urlopen, list[str]()

    def flip_once(method: str, url: str, **arguments: Any) -> Any:
        body = arguments.get("body")
        if method == "PUT" and not damaged:
            damaged.append(url)
            assert body is not None
            data = body.read(len(body))
            arguments["body"] = data[:100] + bytes([data[100] ^ 1]) + data[101:]
        return send(method, url, **arguments)

    store._client._http.urlopen = flip_once
    store.put_bytes("a", data)
    assert len(damaged) == 1
    assert store.get_bytes("a") == data
    assert store.unfinished_uploads() == ()


@pytest.mark.slow
@pytest.mark.parametrize("single", [64 * MB, MB], ids=["one request", "parts"])
def test_a_slow_line_carries_what_takes_longer_than_a_timeout(
    store: Store, monkeypatch: pytest.MonkeyPatch, single: int
) -> None:
    monkeypatch.setattr("components.storage.transfer.SINGLE", single)
    data = os.urandom(20 * MB)
    with line_to(store.settings, [], upstream=True, rate=2 * MB) as line:
        Store(replace(store.settings, endpoint=line.address)).put_bytes("a", data)
        assert line.carried < 21 * MB, "sent once"
    assert store.get_bytes("a") == data


def test_a_full_disk_is_said_and_leaves_nothing(store: Store, tmp_path: Path) -> None:
    written = store.put_bytes("large", os.urandom(8 * MB))
    with files_of_at_most(3 * MB), pytest.raises(UserError, match=r"/copy cannot be written: File too large; make"):
        store.get_file("large", tmp_path / "copy")
    assert os.listdir(tmp_path) == []
    assert sha256(store.get_file("large", tmp_path / "copy").read_bytes()) == written.sha256


@pytest.mark.slow
def test_a_full_disk_of_the_store_is_said_and_loses_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with small_disk(tmp_path / "disk", "120m") as disk:
        server = Server(disk)
        server.start()
        try:
            server.wait()
            store, acknowledged = Store(server.settings), dict[str, str]()

            def fill() -> None:
                for number in range(15):
                    key = f"{number:02d}"
                    acknowledged[key] = store.put_bytes(key, os.urandom(8 * MB)).sha256

            said = r"^writing s3://tests/\d\d .*; its disk may be full: check its log$"
            with monkeypatch.context() as patch:
                patch.setattr("components.storage.client.ATTEMPTS", 1)
                with pytest.raises(WorkFailed, match=said):
                    fill()
            assert [ref.key for ref in store.list("")] == sorted(acknowledged)
            assert {key: sha256(store.get_bytes(key)) for key in acknowledged} == acknowledged
            subprocess.run(["mount", "-o", "remount,size=1g", str(disk)], check=True)
            # The store looks at its disk every few seconds; a client that tries again gets through.
            store.put_bytes("again", b"there is room")
            assert store.get_bytes("again") == b"there is room"
        finally:
            server.close()


@pytest.mark.parametrize("single", [256 * MB, MB], ids=["one request", "parts"])
def test_a_file_that_shrinks_while_it_is_stored_is_no_object(
    store: Store, monkeypatch: pytest.MonkeyPatch, single: int
) -> None:
    monkeypatch.setattr("components.storage.transfer.SINGLE", single)

    class Shrunk:
        def read_at(self, offset: int, size: int) -> bytes:
            return bytes(size if offset == 0 else size - 1)

    with pytest.raises(WorkFailed, match="the source ended after"):
        store.put_source("large", Shrunk(), 80 * MB, "0" * 64)
    assert store.list("") == []
    assert store.unfinished_uploads() == ()
