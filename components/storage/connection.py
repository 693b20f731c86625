"""The SDK's client for one store: how it addresses buckets, whom it trusts, and how patient it is."""

import base64
from typing import Any

import certifi
import urllib3
from minio import Minio

from components.storage.settings import StoreSettings

CHECKSUM_HEADER = "x-amz-checksum-sha256"
SHA256_HEADER = "x-amz-meta-sha256"
BLOCK = 256 << 10
"""Bytes of a body that are sent at once. The connect timeout applies to each such piece, so it bounds how slow a
connection may be: about 50 kB/s."""


class Client(Minio):
    """The SDK's client; a body whose digest is in its headers already is not hashed once more to be signed.

    With TLS the SDK would leave the body unsigned and send an MD5: what is known is signed there, too.
    """

    def _build_headers(self, host: str, headers: Any = None, body: Any = None, creds: Any = None) -> Any:
        checksum = (headers or {}).get(CHECKSUM_HEADER)
        if not checksum or not body or creds is None:
            return super()._build_headers(host, headers, body, creds)
        headers["Content-Length"] = str(len(body))
        headers, date = super()._build_headers(host, headers, None, creds)
        headers["x-amz-content-sha256"] = base64.b64decode(checksum).hex()
        return headers, date


def connect(settings: StoreSettings, pool: urllib3.PoolManager) -> Minio:
    client = Client(
        settings.host,
        access_key=settings.access_key,
        secret_key=settings.secret_key,
        session_token=settings.session_token or None,
        secure=settings.secure,
        region=settings.region,
        http_client=pool,
    )
    if settings.addressing == "virtual":
        client.enable_virtual_style_endpoint()
    elif settings.addressing == "path":
        client.disable_virtual_style_endpoint()
    return client


def patient_pool(settings: StoreSettings) -> urllib3.PoolManager:
    """For the work itself: rides out a store that restarts."""
    retries = urllib3.Retry(
        total=4,
        read=2,  # a store that takes a minute over its answer is stuck; a few of those are enough
        backoff_factor=0.2,
        backoff_jitter=0.2,
        status_forcelist=[500, 502, 503, 504],
        raise_on_status=False,  # the store's own words on the last refusal are better than "too many 503"
    )
    return _pool(settings, urllib3.Timeout(connect=5, read=60), retries)


def impatient_pool(settings: StoreSettings) -> urllib3.PoolManager:
    """For the first contact: a wrong address is said in seconds."""
    return _pool(settings, urllib3.Timeout(connect=2, read=5), urllib3.Retry(total=1, read=0))


def _pool(settings: StoreSettings, timeout: urllib3.Timeout, retries: urllib3.Retry) -> urllib3.PoolManager:
    authorities = settings.authorities or certifi.where()
    return urllib3.PoolManager(timeout=timeout, retries=retries, maxsize=16, ca_certs=authorities, blocksize=BLOCK)
