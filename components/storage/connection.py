"""The SDK's client for one store: how it addresses buckets, whom it trusts, and how patient it is."""

import certifi
import urllib3
from minio import Minio

from components.storage.settings import StoreSettings


def connect(settings: StoreSettings, pool: urllib3.PoolManager) -> Minio:
    client = Minio(
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
    return urllib3.PoolManager(timeout=timeout, retries=retries, maxsize=16, ca_certs=authorities)
