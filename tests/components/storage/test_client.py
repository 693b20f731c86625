"""The client against a real server, and against servers that are not there, not right, or not whole."""

import hashlib
import http.server
import os
import socket
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from datetime import timedelta
from pathlib import Path
from types import SimpleNamespace

import minio.time
import pytest
import urllib3
from minio.error import S3Error

from components.errors import UserError, WorkFailed
from components.storage import client, failures, minio_api
from components.storage.client import (
    DigestMismatch,
    MissingObject,
    Store,
    StoreUnreachable,
    open_store,
    parse_uri,
    reopen_store,
)
from components.storage.minio_api import Client
from components.storage.settings import StoreSettings

HELLO = hashlib.sha256(b"hello").hexdigest()


def test_bytes_come_back_with_their_digest(store: Store) -> None:
    written = store.put_bytes("a/b.bin", b"hello")
    assert (written.key, written.uri) == ("a/b.bin", f"s3://{store.settings.bucket}/a/b.bin")
    assert (written.size, written.sha256) == (5, HELLO)
    assert store.get_bytes("a/b.bin") == b"hello"
    found = store.stat("a/b.bin")
    assert found is not None
    assert (found.size, found.sha256, found.uri) == (5, HELLO, written.uri)
    assert abs((found.modified - written.modified).total_seconds()) < 60


def test_an_empty_object(store: Store) -> None:
    store.put_bytes("empty", b"")
    assert store.get_bytes("empty") == b""


def test_reads_share_a_connection(store: Store) -> None:
    store.put_bytes("empty", b"")
    store.put_bytes("a", b"hello")
    store.get_bytes("a")
    pool = store._client._http.connection_from_url(store.settings.endpoint)
    assert isinstance(pool, urllib3.HTTPConnectionPool)
    opened = pool.num_connections
    assert [store.get_bytes(key) for key in ("a", "empty", "a", "empty", "a")] == [
        b"hello",
        b"",
        b"hello",
        b"",
        b"hello",
    ]
    assert pool.num_connections == opened


def test_a_listing_has_the_objects_of_all_its_pages(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    names = [f"runs/{number}/run.json" for number in range(5)]
    for name in names:
        store.put_bytes(name, b"{}")
    monkeypatch.setattr(minio_api, "PAGE", 2)
    listed = store.list("runs/")
    assert [(ref.key, ref.size) for ref in listed] == [(name, 2) for name in names]
    stat = store.stat(names[0])
    assert stat is not None
    assert abs((listed[0].modified - stat.modified).total_seconds()) < 1
    assert store.folders("runs/") == [str(number) for number in range(5)]


@pytest.mark.parametrize("key", ["with space", "per%20cent", "plus+and&", "größe/ünï.txt", "a'b\"c"])
def test_unusual_keys(store: Store, key: str) -> None:
    store.put_bytes(key, b"hello")
    assert store.get_bytes(key) == b"hello"
    assert [ref.key for ref in store.list("")] == [key]


def test_json(store: Store) -> None:
    value = {"mIoU": 0.5, "classes": ["road", "sky"], "best": None}
    store.put_json("result.json", value)
    assert store.get_json("result.json") == value
    with pytest.raises(ValueError, match="not JSON compliant"):
        store.put_json("result.json", {"mIoU": float("nan")})


def test_what_is_not_json_is_named(store: Store) -> None:
    store.put_bytes("result.json", b"<html>")
    with pytest.raises(WorkFailed, match=r"s3://.*/result\.json is not JSON"):
        store.get_json("result.json")


def test_a_file_in_several_parts(store: Store, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("components.storage.transfer.PART_SIZE", 5 << 20)
    monkeypatch.setattr("components.storage.transfer.SINGLE", 5 << 20)
    source = tmp_path / "source"
    source.write_bytes(os.urandom(12 << 20))
    written = store.put_file("weights/best", source)
    assert written.size == 12 << 20
    copy = store.get_file("weights/best", tmp_path / "new" / "copy", written.sha256)
    assert copy.read_bytes() == source.read_bytes()
    stat = store.stat("weights/best")
    assert stat is not None
    assert stat.sha256 == written.sha256
    assert os.listdir(tmp_path / "new") == ["copy"]


def test_a_downloaded_file_has_ordinary_permissions(store: Store, tmp_path: Path) -> None:
    store.put_bytes("a", b"hello")
    (tmp_path / "ordinary").touch()
    copy = store.get_file("a", tmp_path / "copy")
    assert copy.stat().st_mode == (tmp_path / "ordinary").stat().st_mode


def test_a_damaged_object_is_refused_and_leaves_nothing(store: Store, tmp_path: Path) -> None:
    _damage(store, "a", recorded=HELLO, data=b"jello")
    (tmp_path / "copy").write_bytes(b"what was here before")
    with pytest.raises(DigestMismatch) as caught:
        store.get_file("a", tmp_path / "copy")
    assert store.uri("a") in str(caught.value)
    assert caught.value.expected == HELLO
    assert caught.value.found == hashlib.sha256(b"jello").hexdigest()
    assert (tmp_path / "copy").read_bytes() == b"what was here before"
    assert os.listdir(tmp_path) == ["copy"]
    with pytest.raises(DigestMismatch):
        store.get_bytes("a")


def test_the_callers_digest_is_what_counts(store: Store, tmp_path: Path) -> None:
    store.put_bytes("a", b"replaced by somebody")
    with pytest.raises(DigestMismatch, match=HELLO):
        store.get_file("a", tmp_path / "copy", sha256=HELLO)
    assert os.listdir(tmp_path) == []


def test_a_missing_object_is_named(store: Store, tmp_path: Path) -> None:
    assert store.stat("nothing/here") is None
    for read in (store.get_bytes, store.get_json, lambda key: store.get_file(key, tmp_path / "copy")):
        with pytest.raises(MissingObject, match=store.uri("nothing/here")):
            read("nothing/here")
    assert os.listdir(tmp_path) == []


def test_list_is_sorted_and_keeps_to_its_prefix(store: Store) -> None:
    for key in ("runs/b/2", "runs/b/10", "runs/a", "runs/bc", "weights/x"):
        store.put_bytes(key, b"hello")
    assert [ref.key for ref in store.list("runs/b/")] == ["runs/b/10", "runs/b/2"]
    assert [ref.size for ref in store.list("runs/")] == [5, 5, 5, 5]
    assert store.list("none/") == []


def test_remove(store: Store) -> None:
    store.put_bytes("a", b"hello")
    store.remove("a")
    store.remove("a")
    assert store.stat("a") is None


@pytest.mark.conditional_writes
def test_of_many_writers_one_is_first(store: Store) -> None:
    start = threading.Barrier(4)
    won: list[int] = []

    def write(number: int) -> None:
        start.wait()
        if store.put_if_absent("lease", str(number).encode()):
            won.append(number)

    threads = [threading.Thread(target=write, args=(number,)) for number in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(won) == 1
    assert store.get_bytes("lease") == str(won[0]).encode()


@pytest.mark.conditional_writes
def test_an_object_changes_only_under_the_eyes_of_its_reader(store: Store) -> None:
    store.put_bytes("lease", b"one")
    data, etag = store.get_with_etag("lease")
    assert data == b"one"
    newer = store.put_if_match("lease", b"two", etag)
    assert newer
    assert store.put_if_match("lease", b"three", etag) is None
    store.remove_if_match("lease", etag)
    assert store.get_bytes("lease") == b"two"
    store.remove_if_match("lease", newer)
    assert store.stat("lease") is None
    assert store.put_if_match("lease", b"four", newer) is None


def test_get_uri_reads_any_bucket_of_the_endpoint(store: Store, tmp_path: Path) -> None:
    store.put_bytes("a", b"hello")
    elsewhere = Store(replace(store.settings, bucket="another-bucket"))
    assert elsewhere.get_uri(store.uri("a"), tmp_path / "copy").read_bytes() == b"hello"


def test_parse_uri() -> None:
    assert parse_uri("s3://bucket/a/key") == ("bucket", "a/key")
    for wrong in ("bucket/key", "https://bucket/key", "s3://bucket", "s3://bucket/", "s3:///key"):
        with pytest.raises(UserError, match="s3://bucket/key"):
            parse_uri(wrong)


@pytest.mark.conditional_writes
def test_open_store(store: Store, store_environment: dict[str, str]) -> None:
    store.put_bytes("a", b"hello")
    assert store_environment["CPS_BUCKET"] == store.settings.bucket
    assert open_store().get_bytes("a") == b"hello"


@pytest.mark.conditional_writes
def test_a_later_step_waits_for_a_store_that_comes_back(
    store: Store,
    store_environment: dict[str, str],
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.setenv("AWS_ENDPOINT_URL", _nobody())
    back: list[Store] = []
    waiting = threading.Thread(target=lambda: back.append(reopen_store()))
    waiting.start()
    said, deadline = "", time.monotonic() + 60
    while "waiting up to 120 s for it to come back" not in said and time.monotonic() < deadline:
        said += capsys.readouterr().err
        time.sleep(0.05)
    assert back == []
    monkeypatch.setenv("AWS_ENDPOINT_URL", store_environment["AWS_ENDPOINT_URL"])  # it listens again
    waiting.join(60)
    assert [found.settings.bucket for found in back] == [store.settings.bucket]


@pytest.mark.usefixtures("store_environment")
def test_a_later_step_does_not_wait_for_ever(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AWS_ENDPOINT_URL", _nobody())
    monkeypatch.setattr(client, "RESTART_SECONDS", 0.1)
    with pytest.raises(UserError, match=r"does not answer \(connection refused\): start it"):
        reopen_store()


def _nobody() -> str:
    """Return an address that refuses connections."""
    with socket.socket() as unused:
        unused.bind(("127.0.0.1", 0))
        return f"http://127.0.0.1:{unused.getsockname()[1]}"


def test_a_store_can_be_inherited_by_fork(store: Store) -> None:
    store.put_bytes("a", b"hello")  # opens a connection, which parent and child must not share
    child = os.fork()
    if child == 0:
        os._exit(0 if all(store.get_bytes("a") == b"hello" for _ in range(20)) else 1)
    assert all(store.get_bytes("a") == b"hello" for _ in range(20))
    assert os.waitpid(child, 0)[1] == 0


def test_nobody_at_the_address_is_one_line_in_seconds() -> None:
    with socket.socket() as reserved:
        reserved.bind(("127.0.0.1", 0))  # bound, not listening: connections are refused
        _refused(f"http://127.0.0.1:{reserved.getsockname()[1]}", "does not answer (connection refused)")


@pytest.mark.slow
def test_a_silent_server_is_one_line_in_seconds() -> None:
    with socket.socket() as silent:
        silent.bind(("127.0.0.1", 0))
        silent.listen()
        _refused(f"http://127.0.0.1:{silent.getsockname()[1]}", "does not answer (timed out)")


def test_https_to_a_server_without_it(store: Store) -> None:
    _refused(store.settings.endpoint.replace("http://", "https://"), "does not answer")


def test_an_unknown_host() -> None:
    _refused("http://no-such-host.invalid:9000", "does not answer (unknown host)")


@pytest.mark.parametrize("status", [200, 404])
def test_a_server_that_is_not_a_store(status: int) -> None:
    with _web_server(status, b"<html>Welcome!</html>") as endpoint:
        _refused(endpoint, "is not an S3 object store")


@pytest.mark.parametrize("wrong", [{"access_key": "nobody"}, {"secret_key": "wrong"}])
def test_wrong_credentials(store: Store, wrong: dict[str, str]) -> None:
    with pytest.raises(UserError, match="check AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY"):
        Store(replace(store.settings, **wrong)).check()


@pytest.mark.parametrize("ignored", ["If-None-Match", pytest.param("If-Match", marks=pytest.mark.conditional_writes)])
def test_a_store_that_ignores_a_condition_is_refused(
    store: Store, store_environment: dict[str, str], monkeypatch: pytest.MonkeyPatch, ignored: str
) -> None:
    """As older gateways of MinIO do: two trainings of one run would both get its lease."""
    put = Client.put

    def without_it(self: Client, bucket: str, key: str, body: bytes, headers: dict[str, str]) -> str:
        return put(self, bucket, key, body, {name: value for name, value in headers.items() if name != ignored})

    monkeypatch.setattr(Client, "put", without_it)
    for _ in range(2):  # the first time its object is new
        with pytest.raises(UserError, match=f"ignores {ignored} when it writes") as caught:
            open_store()
        assert store_environment["AWS_ENDPOINT_URL"] in str(caught.value)
    store.check()  # who only reads needs no leases


@pytest.mark.conditional_writes
@pytest.mark.usefixtures("store_environment")
def test_a_store_that_can_be_written_gets_one_object_once(store: Store) -> None:
    open_store()
    [written] = store.list("")
    open_store()
    assert store.list("") == [written]


@pytest.mark.parametrize(("hours", "said"), [(1, "1 h 00 min ahead of"), (-1, "1 h 00 min behind")])
def test_a_wrong_clock_is_said_with_its_difference(
    store: Store, monkeypatch: pytest.MonkeyPatch, hours: int, said: str
) -> None:
    """A store refuses signatures from too long ago, or from the future."""
    now, utcnow = time.time, minio.time.utcnow
    monkeypatch.setattr(failures, "time", SimpleNamespace(time=lambda: now() + 3600 * hours))
    monkeypatch.setattr(minio.time, "utcnow", lambda: utcnow() + timedelta(hours=hours))
    for call in (store.check, lambda: store.get_bytes("a")):
        with pytest.raises(UserError) as caught:
            call()
        assert f"this machine's clock is {said} the object store's at {store.settings.endpoint}: set the clock" in str(
            caught.value
        )


@pytest.mark.conditional_writes
@pytest.mark.parametrize("minutes", [5, -5])
def test_a_clock_that_is_too_wrong_for_leases_is_found_too(
    store: Store, monkeypatch: pytest.MonkeyPatch, minutes: int
) -> None:
    """The store takes such signatures; another machine's lease would look as if it had expired."""
    store.check(writes=True)
    now = time.time
    monkeypatch.setattr(failures, "time", SimpleNamespace(time=lambda: now() + 60 * minutes))
    with pytest.raises(UserError, match=r"this machine's clock is 5 min 00 s (ahead of|behind) the object store's"):
        store.check(writes=True)


def test_losing_the_store_in_the_middle_of_the_work(monkeypatch: pytest.MonkeyPatch) -> None:
    waits: list[float] = []
    monkeypatch.setattr(time, "sleep", waits.append)
    with pytest.raises(StoreUnreachable, match=r"127\.0\.0\.1:1 .*connection refused.* while reading s3://cps/a$"):
        _at("http://127.0.0.1:1").get_bytes("a")
    assert len(waits) > 5


def test_a_store_that_falters_is_asked_again() -> None:
    answers = [503, 500, 200]
    with _web_server(answers, b"hello") as endpoint:
        assert _at(endpoint).get_bytes("a") == b"hello"
    assert answers == []


@pytest.mark.parametrize("code", ["BadDigest", "XAmzContentSHA256Mismatch"])
def test_a_body_that_arrived_damaged_is_sent_again(code: str) -> None:
    """As SeaweedFS and servers derived from MinIO report it."""
    answer = urllib3.HTTPResponse(status=400)
    assert failures.is_transient(S3Error(answer, code, "", "", "", ""))
    assert not failures.is_transient(S3Error(answer, "InvalidArgument", "", "", "", ""))


def test_a_transfer_that_breaks_off_is_repeated(tmp_path: Path) -> None:
    with _web_server(200, b"hello", lengths=[50, 5]) as endpoint:
        assert _at(endpoint).get_file("a", tmp_path / "copy").read_bytes() == b"hello"
    assert os.listdir(tmp_path) == ["copy"]


def _at(endpoint: str) -> Store:
    return Store(StoreSettings(endpoint=endpoint, access_key="user", secret_key="hidden"))


def _refused(endpoint: str, text: str) -> None:
    begun = time.monotonic()
    with pytest.raises(UserError) as caught:
        _at(endpoint).check()
    assert time.monotonic() - begun < 8
    assert text in str(caught.value)
    assert endpoint in str(caught.value)
    assert "\n" not in str(caught.value)
    assert "AWS_ENDPOINT_URL" in str(caught.value)


def _damage(store: Store, key: str, recorded: str, data: bytes) -> None:
    """Store bytes under another's digest: what a flipped bit on the server's disk looks like from here."""
    store._client._put_object(store.settings.bucket, key, data, {"x-amz-meta-sha256": recorded})


@contextmanager
def _web_server(status: int | list[int], body: bytes, lengths: list[int] | None = None) -> Iterator[str]:
    """A server that answers everything with `body`, announced as being of the next of `lengths`."""

    class Handler(http.server.BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self.send_response(status.pop(0) if isinstance(status, list) else status)
            self.send_header("Content-Type", "text/html")
            self.send_header("Content-Length", str(lengths.pop(0) if lengths else len(body)))
            self.end_headers()
            self.wfile.write(body)

        do_PUT = do_GET

        def log_message(self, *_: object) -> None:
            pass

    with http.server.HTTPServer(("127.0.0.1", 0), Handler) as server:
        threading.Thread(target=server.serve_forever, args=(0.05,)).start()
        yield f"http://127.0.0.1:{server.server_port}"
        server.shutdown()
