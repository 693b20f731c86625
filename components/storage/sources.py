"""What can be uploaded: bytes that can be read anywhere, by several threads at once."""

import os
from typing import BinaryIO, Protocol

SINGLE = 64 << 20  # bytes: up to here an object goes in one request, a dataset's shard for instance


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
