"""The first contact with a store: whether it can be used, found out within seconds, and its bucket."""

import urllib3
from minio import Minio
from minio.error import S3Error

from components.errors import UserError
from components.storage.connection import connect, impatient_pool
from components.storage.failures import REFUSED, STORE_ERRORS, reason
from components.storage.settings import StoreSettings


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


def _ensure_bucket(client: Minio, bucket: str, region: str) -> None:
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
