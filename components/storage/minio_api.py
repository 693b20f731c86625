"""The SDK's client, plus S3 features that it has no public methods for: conditions, checksums, parts in any order.

These use private methods of minio 7.2.20, the only release that pyproject.toml allows.
"""

import base64
import hashlib
from collections.abc import Iterable
from dataclasses import dataclass
from datetime import datetime
from typing import Any
from urllib.parse import unquote_plus
from xml.etree import ElementTree

from minio import Minio
from minio.error import S3Error

CHECKSUM_HEADER = "x-amz-checksum-sha256"
SHA256_HEADER = "x-amz-meta-sha256"
WRITER_HEADER = "x-amz-meta-writer"
PAGE = 1000
"""Objects per page of a listing; S3 allows no more."""


@dataclass(frozen=True)
class Part:
    """An uploaded part of an object; `checksum` is the sha256 of its bytes in base64."""

    number: int
    etag: str
    checksum: str


@dataclass(frozen=True)
class Unfinished:
    """A multipart upload that was neither completed nor aborted, such as that of a killed process."""

    key: str
    upload_id: str
    begun: datetime


@dataclass(frozen=True)
class Listed:
    """An object in a listing; `size` is in bytes."""

    key: str
    size: int
    modified: datetime


def _name(element: ElementTree.Element) -> str:
    """Return the element's name without its namespace, which not every store uses."""
    return element.tag.rpartition("}")[2]


def _listed(fields: dict[str, str]) -> Listed:
    # As the SDK does, which has asked for encoded keys.
    key = unquote_plus(fields.get("Key", ""))
    return Listed(key, int(fields.get("Size") or 0), datetime.fromisoformat(fields.get("LastModified", "")))


class Client(Minio):
    """The SDK's client, which signs a body by the sha256 in its headers instead of hashing it again.

    With TLS, the SDK would send an unsigned body with an MD5; here, the sha256 is signed in that case too.
    """

    def put(self, bucket: str, key: str, body: Any, headers: dict[str, str]) -> str:
        """Put an object in one request with exactly these headers, and return its etag.

        The public put_object would turn the headers into metadata.
        """
        return str(self._put_object(bucket, key, body, headers).etag)

    def put_if(self, bucket: str, key: str, data: bytes, condition: dict[str, str], writer: str) -> str | None:
        """Put an object under a condition. Returns its etag, or None if the condition does not hold.

        Args:
            condition: headers, such as {"If-None-Match": "*"}.
            writer: an id of this write, the same for every attempt.
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
            # A request that was retried because its response got lost finds its own object.
            head = self.stat_object(bucket, key)
            return str(head.etag) if head.metadata.get(WRITER_HEADER) == writer else None

    def remove_if(self, bucket: str, key: str, etag: str) -> None:
        """Remove an object only if its etag is still `etag`."""
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
        """Upload one part. The store rejects it if its sha256 is not `checksum`."""
        etag = self._upload_part(bucket, key, body, {CHECKSUM_HEADER: checksum}, upload_id, number)
        return Part(number, etag, checksum)

    def complete_multipart(self, bucket: str, key: str, upload_id: str, parts: Iterable[Part]) -> None:
        """Combine the parts into one object. The SDK's own call does not send checksums."""
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
        # S3 may send status 200 before it has finished, and an error in the body.
        if b"CompleteMultipartUploadResult" not in response.data:
            raise S3Error.fromxml(response)

    def abort_multipart(self, bucket: str, key: str, upload_id: str) -> None:
        """Free the parts of an upload, if it still exists."""
        try:
            self._abort_multipart_upload(bucket, key, upload_id)
        except S3Error as error:
            if error.code != "NoSuchUpload":
                raise

    def list_all(self, bucket: str, prefix: str) -> list[Listed]:
        """Return every object below a prefix.

        The SDK's own listing searches each entry of the answer several times, which takes most of the time that a
        store with thousands of objects needs to be listed.
        """
        found, token = list[Listed](), ""
        while True:
            query = {"list-type": "2", "encoding-type": "url", "max-keys": str(PAGE), "prefix": prefix}
            answer = self._execute(
                "GET", bucket, query_params={**query, **({"continuation-token": token} if token else {})}
            )
            page = ElementTree.fromstring(answer.data)
            for element in page:
                if _name(element) == "Contents":
                    found.append(_listed({_name(child): child.text or "" for child in element}))
            token = next((element.text or "" for element in page if _name(element) == "NextContinuationToken"), "")
            if not token:
                return found

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
