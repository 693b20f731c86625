"""TLS with a private authority, and buckets in the host's name, against a real server that has both."""

import secrets
import socket
import subprocess
import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from components.errors import UserError
from components.storage.client import Store
from components.storage.settings import StoreSettings
from pipeline.local import object_store
from pipeline.local.ports import LOOPBACK, answers, free_internal_ports
from pipeline.local.state import write_identities

DOMAIN = "store.test"


@pytest.fixture(scope="module")
def secure(tmp_path_factory: pytest.TempPathFactory) -> Iterator[StoreSettings]:
    """An https store that knows buckets as hosts of store.test, and a certificate that no machine trusts."""
    folder = tmp_path_factory.mktemp("secure-store")
    authority = make_certificates(folder)
    keys = secrets.token_hex(8), secrets.token_hex(16)
    write_identities(folder / "identities.json", keys)
    port, https = free_internal_ports(2)
    command = [
        *object_store.command(folder, port, object_store.internal_ports(), folder / "identities.json"),
        *(f"-s3.cert.file={folder / 'server.pem'}", f"-s3.key.file={folder / 'server.key'}"),
        *(f"-s3.port.https={https}", f"-s3.domainName={DOMAIN}"),
    ]
    settings = StoreSettings(
        endpoint=f"https://{LOOPBACK}:{https}",
        access_key=keys[0],
        secret_key=keys[1],
        bucket="in-the-host",
        authorities=str(authority),
    )
    with (folder / "log").open("wb") as log, subprocess.Popen(command, stdout=log, stderr=log) as process:
        try:
            wait_for(settings, https, process)
            yield settings
        finally:
            process.kill()


def wait_for(settings: StoreSettings, port: int, process: "subprocess.Popen[bytes]") -> None:
    deadline = time.monotonic() + 60
    while True:
        assert process.poll() is None, "the server ended"
        assert time.monotonic() < deadline, "the server does not answer"
        if answers(port):
            try:
                Store(settings).check()
                return
            except UserError:
                pass
        time.sleep(0.1)


def make_certificates(folder: Path) -> Path:
    """An authority, and the server's key and certificate by it."""
    names = f"IP:127.0.0.1,DNS:{DOMAIN},DNS:*.{DOMAIN}"
    (folder / "names").write_text(f"subjectAltName={names}\n")
    ca, server = folder / "ca.pem", folder / "server"
    curve = ["-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes"]
    authority: list[str | Path] = ["-x509", "-days", "2", "-subj", "/CN=test", "-keyout", folder / "ca.key", "-out", ca]
    openssl("req", *curve, *authority, "-addext", "keyUsage=critical,keyCertSign")
    openssl("req", *curve, "-subj", f"/CN={DOMAIN}", "-keyout", f"{server}.key", "-out", f"{server}.csr")
    issuer: list[str | Path] = ["-CA", ca, "-CAkey", folder / "ca.key", "-CAcreateserial", "-days", "2"]
    openssl("x509", "-req", "-in", f"{server}.csr", *issuer, "-extfile", folder / "names", "-out", f"{server}.pem")
    return ca


def openssl(*arguments: str | Path) -> None:
    subprocess.run(["openssl", *map(str, arguments)], check=True, capture_output=True)


@pytest.mark.slow
def test_tls_with_an_authority_of_ones_own(
    secure: StoreSettings, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    store, data = Store(secure), secrets.token_bytes(12 << 20)
    for key, content in (("empty", b""), ("a", b"hello"), ("memory", data)):
        store.put_bytes(key, content)
        assert store.get_bytes(key) == content
    (tmp_path / "file").write_bytes(data)
    for single in (256 << 20, 1 << 20):
        monkeypatch.setattr("components.storage.transfer.SINGLE", single)
        written = store.put_file(f"file-{single}", tmp_path / "file")
        copy = store.get_file(written.key, tmp_path / "copy")
        assert copy.read_bytes() == data


@pytest.mark.slow
def test_an_unknown_authority_is_refused_in_one_line(secure: StoreSettings) -> None:
    with pytest.raises(UserError, match=r"does not answer .*certificate") as caught:
        Store(replace(secure, authorities="")).check()
    assert "\n" not in str(caught.value)


@pytest.mark.slow
def test_buckets_in_the_host_and_in_the_path(secure: StoreSettings, monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[str] = []
    ask = socket.getaddrinfo

    def name_server(host: str, *arguments: Any, **more: Any) -> Any:
        asked.append(host)
        return ask(LOOPBACK if host.endswith(DOMAIN) else host, *arguments, **more)

    monkeypatch.setattr(socket, "getaddrinfo", name_server)
    endpoint = secure.endpoint.replace(LOOPBACK, DOMAIN)
    hosts = {"virtual": f"{secure.bucket}.{DOMAIN}", "path": DOMAIN, "auto": DOMAIN}
    for addressing, host in hosts.items():
        asked.clear()
        store = Store(replace(secure, endpoint=endpoint, addressing=addressing))
        store.put_bytes(f"by/{addressing}", b"hello")
        assert store.get_bytes(f"by/{addressing}") == b"hello"
        assert set(asked) == {host}
    assert [ref.key for ref in Store(secure).list("by/")] == ["by/auto", "by/path", "by/virtual"]


def test_aws_is_addressed_by_host_as_it_wants() -> None:
    aws = StoreSettings(endpoint="https://s3.eu-central-1.amazonaws.com", access_key="a", secret_key="b")
    link = Store(replace(aws, region="eu-central-1", bucket="masks"))._client.presigned_get_object("masks", "a/b")
    assert link.startswith("https://masks.s3.")
    assert ".eu-central-1.amazonaws.com/a/b?" in link
