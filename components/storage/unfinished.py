"""Multipart uploads that were begun and neither completed nor given up, as a killed process leaves them."""

from dataclasses import dataclass
from datetime import datetime
from typing import Any

from minio import Minio
from minio.error import S3Error


@dataclass(frozen=True)
class Unfinished:
    """A multipart upload that was begun and is not complete."""

    key: str
    upload_id: str
    begun: datetime


def unfinished_uploads(client: Minio, bucket: str) -> tuple[Unfinished, ...]:
    found: tuple[Unfinished, ...] = ()
    marker: dict[str, Any] = {}
    while True:
        page = client._list_multipart_uploads(bucket, **marker)
        found += tuple(Unfinished(item.object_name, item.upload_id, item.initiated_time) for item in page.uploads)
        if not page.is_truncated:
            return found
        marker = {"key_marker": page.next_key_marker, "upload_id_marker": page.next_upload_id_marker}


def abort_upload(client: Minio, bucket: str, unfinished: Unfinished) -> None:
    """Free its parts; one that is gone is freed already."""
    try:
        client._abort_multipart_upload(bucket, unfinished.key, unfinished.upload_id)
    except S3Error as error:
        if error.code != "NoSuchUpload":
            raise
