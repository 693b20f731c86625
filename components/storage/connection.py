"""Connections to one store: bucket addressing, certificate authorities, timeouts and retries."""

import certifi
import urllib3
from minio.error import S3Error

from components.errors import UserError
from components.storage import keys
from components.storage.failures import (
    REFUSED,
    SKEWED,
    STORE_ERRORS,
    NoAnswer,
    clock_skew,
    explain,
    reason,
    wrong_clock,
)
from components.storage.minio_api import Client
from components.storage.settings import StoreSettings

_CONDITIONAL_TEXT = b"Every start tries to write this object again, to check that the store refuses it.\n"
_REFUSALS = ("PreconditionFailed", "ConditionalRequestConflict", "NotImplemented")

MAX_SKEW_SECONDS = 30.0
"""Half the duration of a lease: with a clock that is further off, a machine takes over leases that are in use."""

BLOCK = 256 << 10
"""Bytes of a request body per send. The connect timeout applies to each send, so a connection must be faster than
about 50 kB/s."""


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
    """Return a pool for the work itself, whose retries outlast a restart of the store."""
    retries = urllib3.Retry(
        total=4,
        read=2,  # a store that takes a minute to respond is stuck
        backoff_factor=0.2,
        backoff_jitter=0.2,
        status_forcelist=[500, 502, 503, 504],
        raise_on_status=False,  # the store's own error message is better than "too many 503"
    )
    return _pool(settings, urllib3.Timeout(connect=5, read=60), retries)


def impatient_pool(settings: StoreSettings) -> urllib3.PoolManager:
    """Return a pool for the first request, which reports a wrong address within seconds."""
    return _pool(settings, urllib3.Timeout(connect=2, read=5), urllib3.Retry(total=1, read=0))


def _pool(settings: StoreSettings, timeout: urllib3.Timeout, retries: urllib3.Retry) -> urllib3.PoolManager:
    authorities = settings.authorities or certifi.where()
    return urllib3.PoolManager(timeout=timeout, retries=retries, maxsize=16, ca_certs=authorities, blocksize=BLOCK)


def check_store(settings: StoreSettings) -> None:
    """Create the bucket if it does not exist. Raises UserError, which names the endpoint, the reason and the remedy."""
    client = connect(settings, impatient_pool(settings))
    endpoint, bucket = settings.endpoint, settings.bucket
    try:
        _ensure_bucket(client, bucket, settings.region)
    except S3Error as error:
        if error.code == SKEWED:
            raise wrong_clock(error.response, endpoint) from error
        remedy = "check AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY" if error.code in REFUSED else "check CPS_BUCKET"
        raise UserError(f"the object store at {endpoint} refused bucket {bucket!r} ({error.code}): {remedy}") from error
    except urllib3.exceptions.HTTPError as error:
        raise NoAnswer(
            f"the object store at {endpoint} does not answer ({reason(error)}): start it or correct AWS_ENDPOINT_URL"
        ) from error
    except STORE_ERRORS as error:
        raise UserError(f"the server at {endpoint} is not an S3 object store: correct AWS_ENDPOINT_URL") from error


def check_writes(settings: StoreSettings) -> None:
    """Check that the key may write, and what leases rely on: that the store honours conditional writes, and the clock.

    Raises UserError, which names the endpoint, the reason and the remedy.
    """
    client = connect(settings, patient_pool(settings))
    endpoint, bucket = settings.endpoint, settings.bucket
    try:
        # The first write creates the object, if it does not exist yet.
        absent = {"If-None-Match": "*"}
        refusal = _refusal(client, bucket, absent) or _refusal(client, bucket, absent)
        honours = refusal and _refusal(client, bucket, {"If-Match": f'"{"0" * 32}"'})
    except S3Error as error:
        if error.code in REFUSED:
            raise UserError(
                f"the object store at {endpoint} does not allow this key to write to bucket {bucket!r} ({error.code}): "
                "set AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY to a key that may"
            ) from error
        raise explain(error, "writing", f"s3://{bucket}/{keys.CONDITIONAL}", endpoint) from error
    except STORE_ERRORS as error:
        raise explain(error, "writing", f"s3://{bucket}/{keys.CONDITIONAL}", endpoint) from error
    if refusal is None or honours is None:
        ignored = "If-Match" if refusal else "If-None-Match"
        raise UserError(
            f"the object store at {endpoint} ignores {ignored} when it writes, so two trainings of one run could "
            "overwrite each other: use a store with conditional writes, such as SeaweedFS or AWS S3"
        )
    if abs(clock_skew(refusal.response)) > MAX_SKEW_SECONDS:
        raise wrong_clock(refusal.response, endpoint)


def _refusal(client: Client, bucket: str, condition: dict[str, str]) -> S3Error | None:
    """Return how the store refuses to write under a condition that does not hold, or None if it writes."""
    try:
        client.put(bucket, keys.CONDITIONAL, _CONDITIONAL_TEXT, {**condition, "Content-Type": "text/plain"})
    except S3Error as error:
        if error.code not in _REFUSALS:
            raise
        return None if error.code == "NotImplemented" else error
    return None


def _ensure_bucket(client: Client, bucket: str, region: str) -> None:
    try:
        # A listing, not a HEAD: only an S3 store returns the right XML, with the reason for a refusal.
        next(iter(client.list_objects(bucket, prefix="weights/")), None)
    except S3Error as error:
        if error.code != "NoSuchBucket":
            raise
        try:
            client.make_bucket(bucket, location=region)
        except S3Error as raced:
            if raced.code not in ("BucketAlreadyOwnedByYou", "BucketAlreadyExists"):
                raise
