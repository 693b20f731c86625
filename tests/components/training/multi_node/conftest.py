"""A Kubernetes API on this machine, the account of a pod in it, and what its controllers do meanwhile."""

import datetime
import ipaddress
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from kubernetes_api import NAMESPACE, Api

from components.training.multi_node import follow, kubernetes_api, pods, run
from components.training.multi_node import kubernetes_api as client

TOKEN = "a-token"


@pytest.fixture(scope="session")
def certificate(tmp_path_factory) -> tuple[Path, Path]:
    """A certificate of 127.0.0.1, signed by itself, and its key."""
    folder = tmp_path_factory.mktemp("certificate")
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, "kubernetes")])
    now = datetime.datetime.now(datetime.UTC)
    signed = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - datetime.timedelta(days=1))
        .not_valid_after(now + datetime.timedelta(days=1))
        .add_extension(x509.SubjectAlternativeName([x509.IPAddress(ipaddress.ip_address("127.0.0.1"))]), critical=False)
        .sign(key, hashes.SHA256())
    )
    encoding = serialization.Encoding.PEM
    (folder / "ca.crt").write_bytes(signed.public_bytes(encoding))
    plain = serialization.NoEncryption()
    (folder / "key").write_bytes(key.private_bytes(encoding, serialization.PrivateFormat.PKCS8, plain))
    return folder / "ca.crt", folder / "key"


@pytest.fixture
def account(certificate, tmp_path) -> Path:
    """The folder that Kubernetes mounts into a pod."""
    (tmp_path / "token").write_text(f"{TOKEN}\n")
    (tmp_path / "namespace").write_text(NAMESPACE)
    (tmp_path / "ca.crt").write_bytes(certificate[0].read_bytes())
    return tmp_path


@pytest.fixture
def api(certificate, account, monkeypatch) -> Iterator[Api]:
    """The server that this process finds as a pod would; nothing is waited for longer than a test needs."""
    server = Api(*certificate, TOKEN)
    monkeypatch.setenv("KUBERNETES_SERVICE_HOST", "127.0.0.1")
    monkeypatch.setenv("KUBERNETES_SERVICE_PORT_HTTPS", str(server.port))
    monkeypatch.setattr(run, "this_cluster", lambda: client.this_cluster(account))
    for module, name, value in (
        (client, "RETRY_SECONDS", (0.01,)),
        (follow, "POLL_SECONDS", 0.05),
        (pods, "RETRY_SECONDS", 0.02),
        (run, "POLL_SECONDS", 0.02),
        (kubernetes_api, "PAUSE_SECONDS", 0.02),
        (kubernetes_api, "SILENCE_SECONDS", 5),
        (kubernetes_api, "POLL_SECONDS", 0.05),
    ):
        monkeypatch.setattr(module, name, value)
    before = set(threading.enumerate())
    yield server
    server.end_streams()
    # Who follows a job or a log must not lose its server on the way. A thread that a signal met at its start cannot be
    # joined yet.
    while any(thread.name.startswith(("/", "cps-")) for thread in set(threading.enumerate()) - before):
        time.sleep(0.01)
    server.close()


@pytest.fixture
def meanwhile() -> Callable:
    """Within, a function runs in a thread; what it raises is raised at the end."""

    @contextmanager
    def running(work: Callable[[], None]) -> Iterator[None]:
        failed: list[BaseException] = []

        def guarded() -> None:
            try:
                work()
            except BaseException as error:
                failed.append(error)

        thread = threading.Thread(target=guarded)
        thread.start()
        try:
            yield
        finally:
            thread.join()
            if failed:
                raise failed[0]

    return running
