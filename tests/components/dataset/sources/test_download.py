import base64
import hashlib
import os
import re
import resource
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from components.dataset.sources.address import Source
from components.dataset.sources.credentials import credentials_for
from components.dataset.sources.fetch import fetch_source
from components.errors import UserError, WorkFailed
from components.storage.client import Store
from components.storage.failures import MissingObject
from components.storage.settings import StoreSettings
from tests.components.dataset.sources.web_server import Web, serving

DATA = os.urandom(300_000)
SHA256 = hashlib.sha256(DATA).hexdigest()
STORE = Store(StoreSettings(endpoint="http://127.0.0.1:9", access_key="a", secret_key="b"))


@pytest.fixture
def web(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Web]:
    monkeypatch.setattr("components.dataset.sources.download._BACKOFF", 0.001)
    for name in ("TOKEN", "USER", "PASSWORD", "HOST"):
        monkeypatch.delenv(f"CPS_DOWNLOAD_{name}", raising=False)
    for name in ("http_proxy", "https_proxy", "no_proxy"):
        monkeypatch.delenv(name, raising=False)
        monkeypatch.delenv(name.upper(), raising=False)
    (tmp_path / "served").mkdir()
    (tmp_path / "served" / "a.tar").write_bytes(DATA)
    with serving(tmp_path / "served") as server:
        yield server


@pytest.fixture
def here(tmp_path: Path) -> Path:
    return tmp_path / "downloads"


def get(url: str, here: Path, sha256: str = "", size: int = 0) -> bytes:
    source = Source(url, sha256, size)
    path, found = fetch_source(source, here, STORE, "test", credentials_for([url]))
    data = path.read_bytes()
    assert hashlib.sha256(data).hexdigest() == found
    return data


def names(here: Path) -> list[str]:
    return sorted(path.name for path in here.iterdir())


def test_a_cut_is_gone_on_with_where_it_was(web: Web, here: Path, capsys: pytest.CaptureFixture[str]) -> None:
    web.cuts = [100_000, 50_000]
    assert get(f"{web.url}/a.tar", here) == DATA
    assert web.headers("Range") == ["", "bytes=100000-", "bytes=150000-"]
    assert web.headers("If-Range") == ["", '"one"', '"one"']
    assert "the connection ended after 100000 of 300000 bytes; retrying" in capsys.readouterr().err


@pytest.mark.parametrize(("etag", "modified"), [('W/"weak"', "Sun, 01 Jun 2025 00:00:00 GMT"), (None, None)])
def test_what_cannot_be_told_from_another_version_is_begun_anew(
    web: Web, here: Path, etag: str | None, modified: str | None
) -> None:
    web.etag, web.modified, web.cuts = etag, modified, [1000]
    assert get(f"{web.url}/a.tar", here) == DATA
    assert web.headers("Range") == ["", "bytes=1000-" if modified else ""]


def test_with_a_digest_it_is_gone_on_with_all_the_same(web: Web, here: Path) -> None:
    web.etag, web.cuts = None, [1000]
    assert get(f"{web.url}/a.tar", here, SHA256) == DATA
    assert web.headers("Range") == ["", "bytes=1000-"]


def test_a_file_that_changed_in_between_is_fetched_whole(web: Web, here: Path) -> None:
    with pytest.raises(WorkFailed):
        _cut_for_good(web, here)
    (web.folder / "a.tar").write_bytes(DATA[::-1])
    web.etag = '"two"'
    assert get(f"{web.url}/a.tar", here) == DATA[::-1]


def _cut_for_good(web: Web, here: Path) -> None:
    """Only the first answer brings something; the others end at once."""
    web.cuts = [100_000, *[0] * 10]
    try:
        get(f"{web.url}/a.tar", here)
    finally:
        web.cuts = []


def test_the_next_process_goes_on_with_what_this_one_left(web: Web, here: Path) -> None:
    with pytest.raises(WorkFailed) as error:
        _cut_for_good(web, here)
    assert str(error.value) == (
        f"{web.url}/a.tar could not be downloaded in 5 attempts: the connection ended after 100000 of 300000 bytes"
    )
    assert names(here) == ["a.tar.part", "a.tar.state"]
    web.asked.clear()
    assert get(f"{web.url}/a.tar", here) == DATA
    assert web.headers("Range") == ["bytes=100000-"]
    assert names(here) == ["a.tar", "a.tar.state"]


def test_a_process_that_is_killed_leaves_nothing_under_the_final_name(web: Web, here: Path) -> None:
    web.hold = threading.Event()
    program = (
        "import sys; from pathlib import Path; from components.dataset.sources.fetch import fetch\n"
        "fetch(sys.argv[1], '', Path(sys.argv[2]), None, 'test')"
    )
    child = subprocess.Popen([sys.executable, "-c", program, f"{web.url}/a.tar", str(here)])
    part = here / "a.tar.part"
    deadline = time.monotonic() + 60
    while not (part.exists() and part.stat().st_size) and time.monotonic() < deadline:
        time.sleep(0.005)
    child.send_signal(signal.SIGKILL)
    child.wait()
    web.hold.set()
    web.hold = None
    assert names(here) == ["a.tar.part", "a.tar.state"]
    have = part.stat().st_size
    assert get(f"{web.url}/a.tar", here) == DATA
    assert web.headers("Range")[-1] == f"bytes={have}-"


def test_all_of_it_had_come_when_the_last_process_ended(web: Web, here: Path) -> None:
    here.mkdir()
    (here / "a.tar.part").write_bytes(DATA)
    (here / "a.tar.state").write_text('{"etag": "\\"one\\""}')
    assert get(f"{web.url}/a.tar", here) == DATA
    (here / "a.tar").rename(here / "a.tar.part")
    with (here / "a.tar.part").open("ab") as file:
        file.write(b"more than there is")
    assert get(f"{web.url}/a.tar", here) == DATA


def test_a_whole_file_is_asked_for_again_and_not_fetched(web: Web, here: Path) -> None:
    get(f"{web.url}/a.tar", here)
    assert get(f"{web.url}/a.tar", here) == DATA
    assert web.headers("If-None-Match") == ["", '"one"']
    (web.folder / "a.tar").write_bytes(b"new")
    web.etag = '"two"'
    assert get(f"{web.url}/a.tar", here) == b"new"
    web.asked.clear()
    assert get(f"{web.url}/a.tar", here, hashlib.sha256(b"new").hexdigest()) == b"new"
    assert web.asked == []


def test_a_busy_server_is_asked_again_and_a_refusal_is_not(web: Web, here: Path) -> None:
    web.failures = [503, 429, 500]
    assert get(f"{web.url}/a.tar", here) == DATA
    web.asked.clear()
    with pytest.raises(UserError, match=r"/none\.tar answered 404 Not Found: correct the address$"):
        get(f"{web.url}/none.tar?download=1", here)
    assert len(web.asked) == 1


@pytest.mark.parametrize(("asked", "waited"), [("1", 1.0), ("3600", 1.5), ("soon", 0.0)])
def test_the_server_says_how_long_to_wait_within_limits(
    web: Web, here: Path, monkeypatch: pytest.MonkeyPatch, asked: str, waited: float
) -> None:
    monkeypatch.setattr("components.dataset.sources.download._LONGEST_WAIT", 1.5)
    web.failures, web.retry_after = [503], asked
    began = time.monotonic()
    assert get(f"{web.url}/a.tar", here) == DATA
    assert waited <= time.monotonic() - began < 30
    assert len(web.asked) == 2


def test_a_redirect_without_end_or_to_no_url_is_refused(web: Web, here: Path) -> None:
    web.redirects = {"/loop.tar": "/loop.tar", "/bad.tar": "ftp://host/a.tar?signature=sign3d"}
    with pytest.raises(UserError, match=r"/loop\.tar answered 302 Found: correct the address$"):
        get(f"{web.url}/loop.tar", here)
    with pytest.raises(UserError, match=r"/bad\.tar leads to an address that is not http:// or https://: correct it$"):
        get(f"{web.url}/bad.tar", here)


@pytest.mark.usefixtures("web")
def test_a_server_that_is_away_is_a_failure_of_the_work(here: Path) -> None:
    expected = r"^http://127\.0\.0\.1:9/a\.tar could not be downloaded in 5 attempts: connection refused$"
    with pytest.raises(WorkFailed, match=expected):
        get("http://127.0.0.1:9/a.tar?signature=sign3d", here)


def test_a_full_disk_is_named_and_the_rest_comes_when_there_is_room(web: Web, here: Path) -> None:
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (100_000, hard))  # a file cannot grow, as on a full disk
    try:
        with pytest.raises(UserError, match=rf"^{here} cannot be written: File too large; make room, or"):
            get(f"{web.url}/a.tar", here)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    assert names(here) == ["a.tar.part", "a.tar.state"]
    assert get(f"{web.url}/a.tar", here) == DATA
    assert web.headers("Range") == ["", "bytes=100000-"]


def test_digest_and_size_are_verified(web: Web, here: Path) -> None:
    with pytest.raises(UserError, match=f"has sha256 {SHA256}, not {'0' * 64}"):
        get(f"{web.url}/a.tar", here, "0" * 64)
    with pytest.raises(UserError, match="has 300000 bytes, not 5: correct the size"):
        get(f"{web.url}/a.tar", here, SHA256, size=5)
    assert not (here / "a.tar").exists()
    assert get(f"{web.url}/a.tar", here, SHA256, size=300_000) == DATA


def test_a_resumed_file_with_another_digest_is_fetched_once_more(web: Web, here: Path) -> None:
    here.mkdir()
    (here / "a.tar.part").write_bytes(b"\0" * 1000)
    (here / "a.tar.state").write_text('{"etag": "\\"one\\""}')
    assert get(f"{web.url}/a.tar", here, SHA256) == DATA
    assert web.headers("Range") == ["bytes=1000-", ""]


@pytest.mark.parametrize("end", ["%2e%2e", "%2E", "a%00b", "x" * 300, "..%2f..%2fetc"])
def test_an_odd_end_of_an_address_stays_in_the_folder(web: Web, here: Path, end: str) -> None:
    sent = re.sub("%..", lambda escape: escape[0].upper(), end)  # the same address, as HTTP clients spell it
    web.redirects = {f"/deep/{sent}": "/a.tar"}
    assert get(f"{web.url}/deep/{end}", here) == DATA
    assert len(names(here)) == 2


def test_a_login_page_is_no_dataset(web: Web, here: Path) -> None:
    web.content_type = "text/html; charset=utf-8"
    with pytest.raises(
        UserError, match="returned a web page instead of a file: if it needs a login, set CPS_DOWNLOAD_"
    ):
        get(f"{web.url}/a.tar", here)
    assert names(here) == []


@pytest.mark.parametrize("kind", ["bearer", "basic"])
def test_a_login_is_sent(web: Web, here: Path, monkeypatch: pytest.MonkeyPatch, kind: str) -> None:
    if kind == "bearer":
        monkeypatch.setenv("CPS_DOWNLOAD_TOKEN", "s3cr3t\n")
        web.login = "Bearer s3cr3t"
    else:
        monkeypatch.setenv("CPS_DOWNLOAD_USER", "anna")
        monkeypatch.setenv("CPS_DOWNLOAD_PASSWORD", "s3cr3t")
        web.login = "Basic " + base64.b64encode(b"anna:s3cr3t").decode()
    assert get(f"{web.url}/a.tar", here) == DATA


def test_a_wrong_login_is_named_and_never_said(
    web: Web, here: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("CPS_DOWNLOAD_TOKEN", "s3cr3t")
    web.login = "Bearer another"
    with pytest.raises(UserError) as error:
        get(f"{web.url}/a.tar?signature=sign3d", here)
    assert str(error.value) == (
        f"{web.url}/a.tar answered 401 Unauthorized: set CPS_DOWNLOAD_TOKEN, or CPS_DOWNLOAD_USER and "
        "CPS_DOWNLOAD_PASSWORD, to a login that has access"
    )
    web.login, web.failures = "Bearer s3cr3t", [500]
    get(f"{web.url}/a.tar?signature=sign3d", here)
    said = capsys.readouterr().err
    assert "retrying" in said
    assert "s3cr3t" not in said + repr(credentials_for([web.url]))
    assert "sign3d" not in said
    assert "s3cr3t" not in (here / "a.tar.state").read_text()


def test_a_login_follows_a_redirect_on_its_host_and_to_no_other(
    web: Web, here: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("CPS_DOWNLOAD_TOKEN", "s3cr3t")
    with serving(web.folder) as elsewhere:  # another port is another host
        web.redirects = {"/moved.tar": f"{web.url}/a.tar", "/away.tar": f"{elsewhere.url}/back.tar"}
        elsewhere.redirects = {"/back.tar": f"{web.url}/a.tar"}
        web.login = "Bearer s3cr3t"
        assert get(f"{web.url}/moved.tar", here) == DATA
        web.login = ""
        web.asked.clear()
        assert get(f"{web.url}/away.tar", here) == DATA
        assert elsewhere.headers("Authorization") == [""]
        assert web.headers("Authorization") == ["Bearer s3cr3t", ""]
        web.asked.clear()
        web.redirects = {"/name.tar": f"http://localhost:{web.port}/a.tar"}
        assert get(f"{web.url}/name.tar", here) == DATA
        assert web.headers("Authorization") == ["Bearer s3cr3t", ""]


def test_a_proxy_of_the_environment_is_used(web: Web, here: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The proxy here is a server that answers every address from a folder of its own."""
    monkeypatch.setenv("http_proxy", f"anna:p%40ss@127.0.0.1:{web.port}")
    monkeypatch.setenv("CPS_DOWNLOAD_TOKEN", "s3cr3t")
    monkeypatch.setenv("CPS_DOWNLOAD_HOST", "files.invalid")
    assert get("http://files.invalid/a.tar", here) == DATA
    assert [path for path, _ in web.asked] == ["http://files.invalid/a.tar"]
    assert web.headers("Host") == ["files.invalid"]
    assert web.headers("Authorization") == ["Bearer s3cr3t"]
    assert web.headers("Proxy-Authorization") == ["Basic " + base64.b64encode(b"anna:p@ss").decode()]


def test_every_redirect_is_sent_by_its_own_way(web: Web, here: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with serving(web.folder) as inside:
        monkeypatch.setenv("http_proxy", f"http://anna:pass@127.0.0.1:{web.port}")
        monkeypatch.setenv("no_proxy", "127.0.0.1")
        web.redirects = {"/one.tar": "http://other.invalid/two.tar", "/two.tar": f"{inside.url}/three.tar"}
        inside.redirects = {"/three.tar": "http://files.invalid/a.tar"}
        assert get("http://files.invalid/one.tar", here) == DATA
        assert web.headers("Host") == ["files.invalid", "other.invalid", "files.invalid"]
        assert [path for path, _ in inside.asked] == ["/three.tar"]
        assert inside.headers("Host") == [f"127.0.0.1:{inside.port}"]
        assert inside.headers("Proxy-Authorization") == [""]


def test_https_goes_through_a_tunnel_of_the_proxy(web: Web, here: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("https_proxy", f"http://anna:pass@127.0.0.1:{web.port}")
    with pytest.raises(WorkFailed, match="in 5 attempts: proxy: Tunnel connection failed: 403") as failed:
        get("https://files.invalid/a.tar", here)
    assert "pass" not in str(failed.value)
    assert str(failed.value).endswith(f" through the proxy http://127.0.0.1:{web.port}")
    assert [path for path, _ in web.asked] == ["CONNECT files.invalid:443"] * 5
    assert web.headers("Proxy-Authorization") == ["Basic " + base64.b64encode(b"anna:pass").decode()] * 5


def test_which_host_a_login_is_for(monkeypatch: pytest.MonkeyPatch) -> None:
    one, other = "https://one.example/a.tar", "https://other.example:8443/b.tar"
    assert credentials_for([one]) is None
    monkeypatch.setenv("CPS_DOWNLOAD_TOKEN", "t")
    credentials = credentials_for([one, "s3://bucket/c.tar", "folder"])
    assert credentials is not None
    assert [credentials.header(url) for url in (one, other, "https://one.example.evil/a.tar")] == ["Bearer t", "", ""]
    with pytest.raises(
        UserError, match=r"^one\.example and other\.example:8443 are several hosts: set CPS_DOWNLOAD_HOST to the one"
    ):
        credentials_for([one, other])
    with pytest.raises(
        UserError, match="would receive the login without encryption: use https://, or set CPS_DOWNLOAD_HOST"
    ):
        credentials_for(["http://one.example/a.tar"])
    monkeypatch.setenv("CPS_DOWNLOAD_HOST", "other.example")
    named = credentials_for([one, other])
    assert named is not None
    assert [named.header(url) for url in (one, other)] == ["", "Bearer t"]
    monkeypatch.setenv("CPS_DOWNLOAD_USER", "u")
    with pytest.raises(UserError, match="are both set"):
        credentials_for([one])
    monkeypatch.delenv("CPS_DOWNLOAD_TOKEN")
    with pytest.raises(UserError, match="CPS_DOWNLOAD_PASSWORD is not set"):
        credentials_for([one])


def test_an_object_is_downloaded_in_pieces_too(store: Store, here: Path, tmp_path: Path) -> None:
    (tmp_path / "a.tar").write_bytes(DATA)
    store.put_file("up loads/a ü.tar", tmp_path / "a.tar")
    source = Source(store.uri("up loads/a ü.tar"))
    path, digest = fetch_source(source, here, store, "test")
    assert (path.read_bytes(), digest) == (DATA, SHA256)
    # What another process left of it is gone on with: its first bytes are not asked for again.
    path.rename(path.with_name(f"{path.name}.part"))
    with path.with_name(f"{path.name}.part").open("r+b") as file:
        file.truncate(200_000)
    assert fetch_source(source, here, store, "test") == (path, SHA256)
    with pytest.raises(MissingObject):
        fetch_source(Source(store.uri("none.tar")), here, store, "test")
