"""Writing and removing under a condition: of several who try at once, one succeeds."""

import hashlib

from minio import Minio
from minio.error import S3Error

from components.storage.connection import SHA256_HEADER

WRITER_HEADER = "x-amz-meta-writer"


def put(client: Minio, bucket: str, key: str, data: bytes, condition: dict[str, str], writer: str) -> str | None:
    """The object's etag, or None where the condition does not hold.

    Args:
        condition: headers, such as {"If-None-Match": "*"}.
        writer: a name for this write, the same at every attempt.
    """
    headers = {
        **condition,
        "Content-Type": "application/octet-stream",
        SHA256_HEADER: hashlib.sha256(data).hexdigest(),
        WRITER_HEADER: writer,
    }
    try:
        # The public put_object would turn the condition into metadata.
        return str(client._put_object(bucket, key, data, headers).etag)
    except S3Error as error:
        if error.code != "PreconditionFailed":
            raise
        # A request that was sent again because its answer got lost finds its own object.
        head = client.stat_object(bucket, key)
        return str(head.etag) if head.metadata.get(WRITER_HEADER) == writer else None


def remove(client: Minio, bucket: str, key: str, etag: str) -> None:
    """Remove an object unless it has been replaced since it was read with `etag`."""
    try:
        # The public remove_object takes no condition.
        client._execute("DELETE", bucket, key, headers={"If-Match": f'"{etag}"'})
    except S3Error as error:
        if error.code not in ("PreconditionFailed", "NoSuchKey"):
            raise
