"""What can be uploaded: bytes that can be read anywhere, by several threads at once."""

import os
from typing import BinaryIO, Protocol


class SourceFailed(Exception):
    """What is to be sent cannot be read. No OSError: a client would take that for a broken connection and retry."""


class Source(Protocol):
    """Bytes that can be read anywhere, by several threads at once."""

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
    """`size` bytes of a source as the body of one request: sent piece by piece, and again from the first on a retry."""

    def __init__(self, source: Source, offset: int, size: int) -> None:
        self._source, self._offset, self._size, self._at = source, offset, size, 0

    def __len__(self) -> int:
        return self._size

    def tell(self) -> int:
        return self._at

    def seek(self, offset: int) -> None:
        self._at = offset

    def read(self, size: int) -> bytes:
        """At most `size` bytes; none at the end. Raises SourceFailed."""
        data = exactly(self._source, self._offset + self._at, min(size, self._size - self._at))
        self._at += len(data)
        return data


def exactly(source: Source, offset: int, size: int) -> bytes:
    """Raises SourceFailed where the source has fewer, or cannot be read."""
    try:
        data = source.read_at(offset, size) if size else b""
    except OSError as error:
        raise SourceFailed(f"the source cannot be read: {error.strerror or error}") from error
    if len(data) != size:
        raise SourceFailed(f"the source ended at {offset + len(data)} bytes while it was read")
    return data
