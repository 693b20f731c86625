"""The SDK's client for one store: how it addresses buckets, whom it trusts, and how patient it is."""

import certifi
import urllib3
from minio.error import S3Error

from components.errors import UserError
from components.storage.failures import REFUSED, STORE_ERRORS, reason
from components.storage.minio_api import Client
from components.storage.settings import StoreSettings

BLOCK = 256 << 10
"""Bytes of a body that are sent at once. The connect timeout applies to each such piece, so it bounds how slow a
connection may be: about 50 kB/s."""


def connect(settings: StoreSettings, pool: urllib3.PoolManager) -> Client:
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


def check_store(settings: StoreSettings) -> None:
    """Make the bucket if there is none. Raises UserError that names the endpoint, the reason and the remedy."""
    client = connect(settings, impatient_pool(settings))
    endpoint, bucket = settings.endpoint, settings.bucket
    try:
        _ensure_bucket(client, bucket, settings.region)
    except S3Error as error:
        remedy = "check AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY" if error.code in REFUSED else "check CPS_BUCKET"
        raise UserError(f"the object store at {endpoint} refused bucket {bucket!r} ({error.code}): {remedy}") from error
    except urllib3.exceptions.HTTPError as error:
        raise UserError(
            f"the object store at {endpoint} does not answer ({reason(error)}): start it or correct AWS_ENDPOINT_URL"
        ) from error
    except STORE_ERRORS as error:
        raise UserError(f"what answers at {endpoint} is not an S3 object store: correct AWS_ENDPOINT_URL") from error


def _ensure_bucket(client: Client, bucket: str, region: str) -> None:
    try:
        # A listing, not a HEAD: only an S3 store answers with the right XML, and says why it refuses.
        next(iter(client.list_objects(bucket, prefix="weights/")), None)
    except S3Error as error:
        if error.code != "NoSuchBucket":
            raise
        try:
            client.make_bucket(bucket, location=region)
        except S3Error as raced:
            if raced.code not in ("BucketAlreadyOwnedByYou", "BucketAlreadyExists"):
                raise
