"""The SDK's client with what S3 can do and its public methods cannot: conditions, checksums, parts in any order.

All of it rests on private methods of minio 7.2.20, the one release that pyproject.toml allows.
"""

import base64
import hashlib
from collections.abc import Iterable
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from minio import Minio
from minio.error import S3Error

CHECKSUM_HEADER = "x-amz-checksum-sha256"
SHA256_HEADER = "x-amz-meta-sha256"
WRITER_HEADER = "x-amz-meta-writer"


@dataclass(frozen=True)
class Part:
    """An uploaded part of an object; `checksum` is the sha256 of its bytes in base64."""

    number: int
    etag: str
    checksum: str


@dataclass(frozen=True)
class Unfinished:
    """A multipart upload that was neither completed nor aborted, as a killed process leaves them."""

    key: str
    upload_id: str
    begun: datetime


class Client(Minio):
    """The SDK's client; a body whose digest is in its headers already is not hashed once more to be signed.

    With TLS the SDK would leave the body unsigned and send an MD5: what is known is signed there, too.
    """

    def put(self, bucket: str, key: str, body: Any, headers: dict[str, str]) -> str:
        """Put an object in one request with these headers; return its etag. put_object makes metadata of them."""
        return str(self._put_object(bucket, key, body, headers).etag)

    def put_if(self, bucket: str, key: str, data: bytes, condition: dict[str, str], writer: str) -> str | None:
        """Return the object's etag, or None where the condition does not hold.

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
            return self.put(bucket, key, data, headers)
        except S3Error as error:
            if error.code != "PreconditionFailed":
                raise
            # A request that was sent again because its answer got lost finds its own object.
            head = self.stat_object(bucket, key)
            return str(head.etag) if head.metadata.get(WRITER_HEADER) == writer else None

    def remove_if(self, bucket: str, key: str, etag: str) -> None:
        """Remove an object unless it has been replaced since it was read with `etag`."""
        try:
            # The public remove_object takes no condition.
            self._execute("DELETE", bucket, key, headers={"If-Match": f'"{etag}"'})
        except S3Error as error:
            if error.code not in ("PreconditionFailed", "NoSuchKey"):
                raise

    def begin_multipart(self, bucket: str, key: str, headers: dict[str, str]) -> str:
        """Return the id of a new multipart upload whose parts carry their sha256."""
        return str(self._create_multipart_upload(bucket, key, {**headers, "x-amz-checksum-algorithm": "SHA256"}))

    def put_part(self, bucket: str, key: str, upload_id: str, number: int, body: Any, checksum: str) -> Part:
        """Upload one part; the store refuses it if its sha256 is not `checksum`."""
        etag = self._upload_part(bucket, key, body, {CHECKSUM_HEADER: checksum}, upload_id, number)
        return Part(number, etag, checksum)

    def complete_multipart(self, bucket: str, key: str, upload_id: str, parts: Iterable[Part]) -> None:
        """Make one object of the parts. The SDK's own call has no place for checksums."""
        listed = "".join(
            f"<Part><PartNumber>{part.number}</PartNumber><ETag>&quot;{part.etag}&quot;</ETag>"
            f"<ChecksumSHA256>{part.checksum}</ChecksumSHA256></Part>"
            for part in sorted(parts, key=lambda part: part.number)
        )
        namespace = "http://s3.amazonaws.com/doc/2006-03-01/"
        response = self._execute(
            "POST",
            bucket,
            key,
            body=f'<CompleteMultipartUpload xmlns="{namespace}">{listed}</CompleteMultipartUpload>'.encode(),
            headers={"Content-Type": "application/xml"},
            query_params={"uploadId": upload_id},
        )
        # S3 may say 200 before it has finished, and then that it has failed.
        if b"CompleteMultipartUploadResult" not in response.data:
            raise S3Error.fromxml(response)

    def abort_multipart(self, bucket: str, key: str, upload_id: str) -> None:
        """Free the parts of an upload; one that is gone is freed already."""
        try:
            self._abort_multipart_upload(bucket, key, upload_id)
        except S3Error as error:
            if error.code != "NoSuchUpload":
                raise

    def list_unfinished(self, bucket: str) -> tuple[Unfinished, ...]:
        """Return every multipart upload of the bucket that is not complete."""
        found: tuple[Unfinished, ...] = ()
        marker: dict[str, Any] = {}
        while True:
            page = self._list_multipart_uploads(bucket, **marker)
            found += tuple(Unfinished(item.object_name, item.upload_id, item.initiated_time) for item in page.uploads)
            if not page.is_truncated:
                return found
            marker = {"key_marker": page.next_key_marker, "upload_id_marker": page.next_upload_id_marker}

    def _build_headers(self, host: str, headers: Any = None, body: Any = None, creds: Any = None) -> Any:
        checksum = (headers or {}).get(CHECKSUM_HEADER)
        if not checksum or not body or creds is None:
            return super()._build_headers(host, headers, body, creds)
        headers["Content-Length"] = str(len(body))
        headers, date = super()._build_headers(host, headers, None, creds)
        headers["x-amz-content-sha256"] = base64.b64decode(checksum).hex()
        return headers, date
