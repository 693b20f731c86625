"""The object store. Every object is verified when it is read: a damaged one raises an error.

store = open_store()
store.put_file("weights/a/best.safetensors", Path("best.safetensors"))
store.get_file("weights/a/best.safetensors", Path("copy.safetensors"))
"""

import io
import json
import logging
import os
import random
import secrets
import time
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, BinaryIO, TypeVar

import urllib3
from minio.error import S3Error

from components import progress
from components.disk import writing
from components.errors import UserError, WorkFailed
from components.files import replacing
from components.storage.connection import check_store, check_writes, connect, patient_pool
from components.storage.failures import (
    STORE_ERRORS,
    DigestMismatch,
    MissingObject,
    NoAnswer,
    SourceFailed,
    StoreUnreachable,
    explain,
    is_transient,
)
from components.storage.minio_api import SHA256_HEADER, Client, Unfinished
from components.storage.settings import StoreSettings, settings_from_environment
from components.storage.transfer import BytesSource, Digests, FileSource, Source, digests, receive, upload

__all__ = [
    "DigestMismatch",
    "MissingObject",
    "ObjectRef",
    "Store",
    "StoreUnreachable",
    "connect",
    "open_store",
    "parse_uri",
    "reopen_store",
]

T = TypeVar("T")

ATTEMPTS = 5
RESTART_SECONDS = 120.0
"""Seconds that a step waits for a store that is unreachable when the step begins."""

# urllib3 warns about each retry, but retries succeed or end in an error with our own message.
logging.getLogger("urllib3.connectionpool").setLevel(logging.ERROR)


@dataclass(frozen=True)
class ObjectRef:
    """An object in the store. `size` in bytes; `sha256` in hex, or "" if it is unknown."""

    key: str
    uri: str
    size: int
    sha256: str
    modified: datetime


class Store:
    """One bucket of an S3-compatible store. Safe to share between threads, and to use after a fork."""

    def __init__(self, settings: StoreSettings) -> None:
        self.settings = settings
        self._minio: Client | None = None
        self._owner = 0

    def __repr__(self) -> str:
        return f"Store({self.settings.endpoint!r}, bucket={self.settings.bucket!r})"

    def uri(self, key: str) -> str:
        return f"s3://{self.settings.bucket}/{key}"

    def check(self, *, writes: bool = False) -> None:
        """Check within seconds that the store works, and create the bucket if it does not exist.

        With `writes`, also check that the key may write, and that the store honours conditional writes.
        Raises UserError, which names the endpoint, the reason and the remedy.
        """
        check_store(self.settings)
        if writes:
            check_writes(self.settings)

    def put_file(self, key: str, path: Path, content_type: str = "application/octet-stream") -> ObjectRef:
        """Upload a file, in parallel parts if it is large. It replaces the object at the key atomically."""
        size = path.stat().st_size
        with path.open("rb") as file:
            return self._put(key, FileSource(file), size, None, content_type)

    def put_bytes(self, key: str, data: bytes, content_type: str = "application/octet-stream") -> ObjectRef:
        return self._put(key, BytesSource(data), len(data), None, content_type)

    def put_source(
        self, key: str, source: Source, size: int, sha256: str = "", content_type: str = "application/octet-stream"
    ) -> ObjectRef:
        """Store `size` bytes of a source, which need not be in memory or in one file; `sha256` is theirs, if known."""
        return self._put(key, source, size, Digests(sha256) if sha256 else None, content_type)

    def put_json(self, key: str, value: Any) -> ObjectRef:
        """Store a value as JSON. Raises ValueError for NaN and infinities, which are not JSON."""
        text = json.dumps(value, indent=1, sort_keys=True, allow_nan=False)
        return self.put_bytes(key, text.encode(), "application/json")

    def put_if_absent(self, key: str, data: bytes) -> bool:
        """Write an object only if the key is free. Of several concurrent writers, exactly one gets True."""
        return self._put_conditionally(key, data, {"If-None-Match": "*"}) is not None

    def put_if_match(self, key: str, data: bytes, etag: str) -> str | None:
        """Replace an object only if its etag is still `etag`. Returns the new etag, or None."""
        try:
            return self._put_conditionally(key, data, {"If-Match": f'"{etag}"'})
        except MissingObject:
            return None

    def get_with_etag(self, key: str) -> tuple[bytes, str]:
        """Return an object and its etag, for `put_if_match`. Raises MissingObject, DigestMismatch."""
        buffer = io.BytesIO()
        etag = self._retry("reading", self.uri(key), lambda: self._download(self.settings.bucket, key, buffer, None))
        return buffer.getvalue(), etag

    def get_bytes(self, key: str) -> bytes:
        """Return an object. Raises MissingObject, DigestMismatch."""
        return self.get_with_etag(key)[0]

    def get_json(self, key: str) -> Any:
        data = self.get_bytes(key)
        try:
            return json.loads(data)
        except ValueError as error:
            raise WorkFailed(f"{self.uri(key)} is not JSON: {error}") from error

    def find_json(self, key: str) -> Any:
        """Return the value of a JSON object, or None if the object does not exist."""
        try:
            return self.get_json(key)
        except MissingObject:
            return None

    def get_range(self, key: str, offset: int, size: int) -> bytes:
        """Return some bytes of an object. The caller must verify them, since the store has no digest of a range."""

        def get() -> bytes:
            response = self._client.get_object(self.settings.bucket, key, offset=offset, length=size)
            try:
                return bytes(response.read())
            finally:
                response.close()
                response.release_conn()

        return self._retry("reading", self.uri(key), get)

    def get_file(self, key: str, path: Path, sha256: str | None = None, *, durable: bool = False) -> Path:
        """Download to `path`, which is replaced only by a complete and verified file.

        The expected digest is `sha256`, or else the one recorded at upload. With `durable`, a power cut cannot leave
        half a file either. It is not needed for copies that are discarded after use or downloaded again when in doubt,
        such as those in the dataset cache. Raises MissingObject, DigestMismatch, Unwritable.
        """
        return self._get_file(self.settings.bucket, key, path, sha256, durable=durable)

    def get_uri(self, uri: str, path: Path, sha256: str | None = None) -> Path:
        """Download like `get_file`, from any bucket of the same endpoint."""
        bucket, key = parse_uri(uri)
        return self._get_file(bucket, key, path, sha256)

    def stat(self, key: str) -> ObjectRef | None:
        """Return the metadata of an object, or None if it does not exist."""
        try:
            head = self._retry("reading", self.uri(key), lambda: self._client.stat_object(self.settings.bucket, key))
        except MissingObject:
            return None
        return ObjectRef(key, self.uri(key), head.size, head.metadata.get(SHA256_HEADER, ""), head.last_modified)

    def folders(self, prefix: str) -> list[str]:
        """Return the names of the folders directly below a prefix that ends in a slash, sorted.

        This takes one request per thousand names, however many objects the folders hold. Some stores also list a folder
        whose last object has been removed.
        """

        def fetch() -> list[str]:
            found = self._client.list_objects(self.settings.bucket, prefix=prefix, recursive=False)
            return [item.object_name.removeprefix(prefix).rstrip("/") for item in found if item.is_dir]

        return sorted(self._retry("listing", self.uri(prefix), fetch))

    def list(self, prefix: str) -> list[ObjectRef]:
        """Return every object below a prefix, sorted by key. A listing has no digests, so `sha256` is ""."""

        def fetch() -> list[ObjectRef]:
            found = self._client.list_all(self.settings.bucket, prefix)
            return [
                ObjectRef(item.key, self.uri(item.key), item.size, "", item.modified)
                for item in found
                if not item.key.endswith("/")
            ]

        return sorted(self._retry("listing", self.uri(prefix), fetch), key=lambda ref: ref.key)

    def remove(self, key: str) -> None:
        """Remove an object, if it exists."""
        try:
            self._retry("removing", self.uri(key), lambda: self._client.remove_object(self.settings.bucket, key))
        except MissingObject:
            return

    def unfinished_uploads(self) -> tuple[Unfinished, ...]:
        """Return the uploads that were neither completed nor aborted, such as those of killed processes."""
        return self._retry("listing", self.uri(""), lambda: self._client.list_unfinished(self.settings.bucket))

    def abort_upload(self, unfinished: Unfinished) -> None:
        """Free the parts of an unfinished upload, if it still exists."""
        bucket, key = self.settings.bucket, unfinished.key
        self._retry("removing", self.uri(key), lambda: self._client.abort_multipart(bucket, key, unfinished.upload_id))

    def remove_if_match(self, key: str, etag: str) -> None:
        """Remove an object only if its etag is still `etag`."""
        bucket = self.settings.bucket
        self._retry("removing", self.uri(key), lambda: self._client.remove_if(bucket, key, etag))

    @property
    def _client(self) -> Client:
        # Two processes that share a pooled connection would mix up their responses, so each process has its own.
        if self._minio is None or self._owner != os.getpid():
            self._minio, self._owner = connect(self.settings, patient_pool(self.settings)), os.getpid()
        return self._minio

    def _put(self, key: str, source: Source, size: int, known: Digests | None, content_type: str) -> ObjectRef:
        try:
            found = known or digests(source, size)
        except SourceFailed as error:
            raise explain(error, "writing", self.uri(key), self.settings.endpoint) from error
        headers = {"Content-Type": content_type, SHA256_HEADER: found.whole}
        self._retry(
            "writing",
            self.uri(key),
            lambda: upload(self._client, self.settings.bucket, key, source, size, found, headers),
        )
        return ObjectRef(key, self.uri(key), size, found.whole, datetime.now(UTC))

    def _put_conditionally(self, key: str, data: bytes, condition: dict[str, str]) -> str | None:
        bucket, writer = self.settings.bucket, secrets.token_hex(16)
        return self._retry("writing", self.uri(key), lambda: self._client.put_if(bucket, key, data, condition, writer))

    def _get_file(self, bucket: str, key: str, path: Path, sha256: str | None, *, durable: bool = False) -> Path:
        with writing(path):
            path.parent.mkdir(parents=True, exist_ok=True)

        def get() -> None:
            # The client wraps errors of the connection: an OSError comes from the file.
            with writing(path), replacing(path, durable=durable) as partial, partial.open("wb") as file:
                self._download(bucket, key, file, sha256)

        self._retry("reading", f"s3://{bucket}/{key}", get)
        return path

    def _download(self, bucket: str, key: str, sink: BinaryIO, sha256: str | None) -> str:
        """Overwrite `sink` with the object, and return the object's etag."""
        sink.seek(0)
        sink.truncate()

        def open_at(offset: int, etag: str) -> Any:
            condition = {"If-Match": f'"{etag}"'} if offset else {}
            try:
                return self._client.get_object(bucket, key, offset=offset, request_headers=condition)
            except S3Error as error:
                if error.code != "PreconditionFailed":
                    raise
                raise urllib3.exceptions.ProtocolError("the object was replaced while it was read") from error

        found, etag, headers = receive(open_at, sink, ATTEMPTS, is_transient)
        expected = sha256 or headers.get(SHA256_HEADER, "")
        if expected and found != expected.lower():
            raise DigestMismatch(f"s3://{bucket}/{key}", expected, found)
        return etag

    def _retry(self, doing: str, uri: str, call: Callable[[], T]) -> T:
        """Call `call`, and retry transient errors. The pool retries single requests; this retries whole transfers."""
        for attempt in range(1, ATTEMPTS + 1):
            try:
                return call()
            except STORE_ERRORS as error:
                if attempt == ATTEMPTS or not is_transient(error):
                    raise explain(error, doing, uri, self.settings.endpoint) from error
                time.sleep(random.uniform(0.5, 1.0) * 2 ** (attempt - 1))
        raise AssertionError("the last attempt returns or raises")


def open_store() -> Store:
    """Return the store that the environment configures, after checking that it can be written. Raises UserError."""
    store = Store(settings_from_environment())
    store.check(writes=True)
    return store


def reopen_store() -> Store:
    """Return the store as `open_store` does, for the later steps of a pipeline.

    The first step has used the store, so its address is right: if it does not answer, it gets RESTART_SECONDS to come
    back. Raises UserError, StoreUnreachable.
    """
    deadline, reported = time.monotonic() + RESTART_SECONDS, False
    while True:
        try:
            return open_store()
        except (NoAnswer, StoreUnreachable) as error:
            if time.monotonic() >= deadline:
                raise
            if not reported:
                progress.say("store", f"{error}; waiting up to {RESTART_SECONDS:.0f} s for it to come back")
                reported = True
        time.sleep(1)


def parse_uri(uri: str) -> tuple[str, str]:
    """Return the bucket and the key of "s3://bucket/key". Raises UserError."""
    scheme, separator, rest = uri.partition("://")
    bucket, _, key = rest.partition("/")
    if scheme != "s3" or not separator or not bucket or not key:
        raise UserError(f"{uri!r} is not the address of an object: write it as s3://bucket/key")
    return bucket, key
