"""Transfer large bodies in bounded memory: upload in parallel parts, and hash while downloading."""

import base64
import hashlib
import http.client
import os
import queue
import threading
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, ThreadPoolExecutor, wait
from contextlib import suppress
from dataclasses import dataclass
from typing import Any, BinaryIO, Protocol

import urllib3

from components.storage.connection import BLOCK
from components.storage.failures import SourceFailed
from components.storage.minio_api import CHECKSUM_HEADER, Client, Part

SINGLE = 256 << 20  # bytes: up to this size an object, such as a checkpoint, is sent in one request
PART_SIZE = 16 << 20  # bytes per request for a larger object
PARALLEL = 4  # concurrent requests, and so the number of parts in memory
CHUNK = 512 << 10  # bytes
SMALL = 128 << 10  # bytes
_IN_FLIGHT = 8  # chunks that have been read but not hashed


class Source(Protocol):
    """Bytes that several threads can read at any offset."""

    def read_at(self, offset: int, size: int) -> bytes: ...


class FileSource:
    """An open file."""

    def __init__(self, file: BinaryIO) -> None:
        self._handle = file.fileno()

    def read_at(self, offset: int, size: int) -> bytes:
        pieces = []
        while size > 0 and (piece := os.pread(self._handle, size, offset)):
            pieces.append(piece)
            offset, size = offset + len(piece), size - len(piece)
        return pieces[0] if len(pieces) == 1 else b"".join(pieces)


class BytesSource:
    def __init__(self, data: bytes) -> None:
        self._data = data

    def read_at(self, offset: int, size: int) -> bytes:
        return self._data if not offset and size >= len(self._data) else self._data[offset : offset + size]


class Body:
    """`size` bytes of a source as the body of one request, sent in pieces. A retry starts again from the first."""

    def __init__(self, source: Source, offset: int, size: int) -> None:
        self._source, self._offset, self._size, self._at = source, offset, size, 0

    def __len__(self) -> int:
        return self._size

    def tell(self) -> int:
        return self._at

    def seek(self, offset: int) -> None:
        self._at = offset

    def read(self, size: int) -> bytes:
        """Return at most `size` bytes, and none at the end. Raises SourceFailed."""
        data = exactly(self._source, self._offset + self._at, min(size, self._size - self._at))
        self._at += len(data)
        return data


def exactly(source: Source, offset: int, size: int) -> bytes:
    """Return exactly `size` bytes. Raises SourceFailed if the source has fewer or cannot be read."""
    try:
        data = source.read_at(offset, size) if size else b""
    except OSError as error:
        raise SourceFailed(f"the source cannot be read: {error.strerror or error}") from error
    if len(data) != size:
        raise SourceFailed(f"the source ended after {offset + len(data)} bytes")
    return data


@dataclass(frozen=True)
class Digests:
    """sha256 of a whole source, in hex, and of each part of its upload. `parts` is empty if they are not known yet."""

    whole: str
    parts: Sequence[bytes] = ()


def digests(source: Source, size: int) -> Digests:
    """Hash the whole source and its parts in parallel; processors are idle before the upload."""
    if size <= SINGLE:
        return Digests(_hashed(source, size))
    each = _part_size(size)
    offsets = range(0, size, each)
    with ThreadPoolExecutor(PARALLEL, "sha256") as pool:
        parts = [pool.submit(_part_digest, source, offset, min(each, size - offset)) for offset in offsets]
        try:
            return Digests(_hashed(source, size), [part.result() for part in parts])
        finally:
            for part in parts:
                part.cancel()


def upload(
    client: Client, bucket: str, key: str, source: Source, size: int, digests: Digests, headers: dict[str, str]
) -> None:
    """Upload an object atomically, in one request or in parallel parts.

    Every request carries the sha256 of its body, so the store rejects data that was damaged in transit.
    """
    if size <= SINGLE:
        checksum = _header_value(bytes.fromhex(digests.whole))
        body = exactly(source, 0, size) if size <= BLOCK else Body(source, 0, size)
        client.put(bucket, key, body, {**headers, CHECKSUM_HEADER: checksum})
        return
    upload_id = client.begin_multipart(bucket, key, headers)
    try:
        parts = _upload_parts(client, bucket, key, source, size, digests.parts, upload_id)
        client.complete_multipart(bucket, key, upload_id, parts)
    except BaseException:
        _abort(client, bucket, key, upload_id)
        raise


def _upload_parts(
    client: Client, bucket: str, key: str, source: Source, size: int, known: Sequence[bytes], upload_id: str
) -> list[Part]:
    each = _part_size(size)

    def put(number: int) -> Part:
        offset = (number - 1) * each
        length = min(each, size - offset)
        if known:
            checksum, body = _header_value(known[number - 1]), Body(source, offset, length)
        else:
            data = exactly(source, offset, length)  # only once, since a source may have to compute its bytes
            checksum, body = _header_value(hashlib.sha256(data).digest()), Body(BytesSource(data), 0, length)
        return client.put_part(bucket, key, upload_id, number, body, checksum)

    with ThreadPoolExecutor(PARALLEL, "upload") as pool:
        futures: set[Future[Part]] = set()
        parts: list[Part] = []
        try:
            for number in range(1, -(-size // each) + 1):
                if len(futures) > PARALLEL:
                    done, futures = wait(futures, return_when=FIRST_COMPLETED)
                    parts += [future.result() for future in done]
                futures.add(pool.submit(put, number))
            parts += [future.result() for future in futures]
        finally:
            for future in futures:
                future.cancel()
    return parts


def _part_size(size: int) -> int:
    # S3 allows 10,000 parts.
    return max(PART_SIZE, -(-size // 10_000))


def _header_value(digest: bytes) -> str:
    return base64.b64encode(digest).decode()


def _hashed(source: Source, size: int) -> str:
    whole = hashlib.sha256()
    for offset in range(0, size, CHUNK):
        whole.update(exactly(source, offset, min(CHUNK, size - offset)))
    return whole.hexdigest()


def _part_digest(source: Source, offset: int, size: int) -> bytes:
    return hashlib.sha256(exactly(source, offset, size)).digest()


def _abort(client: Client, bucket: str, key: str, upload_id: str) -> None:
    """Free the uploaded parts of a failed object. `cps gc` finds any that cannot be freed now."""
    with suppress(Exception):
        client.abort_multipart(bucket, key, upload_id)


def _chunks(response: Any) -> Iterator[memoryview]:
    """Yield a response's body in chunks from a ring of buffers: each is reused after _IN_FLIGHT + 2 others.

    The SDK's own stream copies every byte twice more, which made downloads about 20 % slower.
    """
    left = int(response.headers.get("content-length") or 0)
    ring = [memoryview(bytearray(min(CHUNK, left))) for _ in range(min(_IN_FLIGHT + 3, -(-left // CHUNK)))]
    number = 0
    while left:
        buffer = ring[number % len(ring)]
        try:
            # urllib3's own read copies every block.
            size = response._fp.readinto(buffer[: min(left, CHUNK)])  # noqa: SLF001
        except (OSError, http.client.HTTPException) as error:
            raise urllib3.exceptions.ProtocolError(f"connection broken: {error!r}", error) from error
        if not size:
            raise urllib3.exceptions.ProtocolError(f"the connection ended {left} bytes early")
        yield buffer[:size]
        left, number = left - size, number + 1


class Hasher:
    """A SHA-256 digest, computed in a thread. Hashing releases the GIL, so it does not slow down the reader."""

    def __init__(self) -> None:
        self._digest = hashlib.sha256()
        self._chunks: queue.Queue[memoryview | None] = queue.Queue(_IN_FLIGHT)
        self._thread: threading.Thread | None = None

    def update(self, chunk: memoryview) -> None:
        if self._thread is None:
            if len(chunk) < SMALL:  # too small for a thread to pay off
                self._digest.update(chunk)
                return
            self._thread = threading.Thread(target=self._work, name="sha256", daemon=True)
            self._thread.start()
        self._chunks.put(chunk)

    def hexdigest(self) -> str:
        self.close()
        return self._digest.hexdigest()

    def close(self) -> None:
        if self._thread is not None:
            self._chunks.put(None)
            self._thread.join()
            self._thread = None

    def _work(self) -> None:
        while (chunk := self._chunks.get()) is not None:
            self._digest.update(chunk)


def receive(
    open_at: Callable[[int, str], Any], sink: BinaryIO, attempts: int, is_transient: Callable[[Exception], bool]
) -> tuple[str, str, Any]:
    """Read an object into `sink`, and resume after a broken connection.

    Args:
        open_at: returns the response with the bytes from an offset on, if the object still has the etag.

    Returns:
        sha256 in hex, etag, and the headers of the first response.
    """
    digest, done, etag, headers, progress_at = Hasher(), 0, "", None, 0
    left = attempts
    try:
        while True:
            response = open_at(done, etag)
            try:
                if headers is None:
                    headers, etag = response.headers, str(response.headers.get("etag", "")).strip('"')
                for chunk in _chunks(response):
                    digest.update(chunk)
                    sink.write(chunk)
                    done += len(chunk)
                response.drain_conn()  # of an empty body, too: the connection is free for another request
                response.release_conn()
                return digest.hexdigest(), etag, headers
            except urllib3.exceptions.HTTPError as error:
                # Any progress resets the attempts: an unreliable connection is slow, not hopeless.
                left = attempts if done > progress_at else left - 1
                progress_at = done
                if left <= 0 or not etag or not is_transient(error):
                    raise
            finally:
                response.close()  # with its connection, unless that was released
    finally:
        digest.close()
