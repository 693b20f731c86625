"""Assign files to tar shards, and read a shard's bytes straight from the files, without writing the shard to disk."""

import bisect
import hashlib
import tarfile
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO

from components.dataset.manifest import FileEntry
from components.errors import UserError, WorkFailed
from components.reading import open_file
from components.storage.transfer import BytesSource, Source

SHARD_BYTES = 64_000_000
_IN_MEMORY = 64 << 20  # bytes up to which a shard is held in memory instead of being read twice
BLOCK = 512
_END = bytes(2 * BLOCK)  # how a tar ends
_CHUNK = 1 << 20


@dataclass(frozen=True)
class Packed:
    """A file in a shard. Its header lies between `start` and `offset`, and its content follows."""

    name: str
    path: Path
    sha256: str
    size: int
    start: int
    offset: int


class Shard:
    """One tar of the plan. Several threads can read it at any offset, and it takes no memory."""

    def __init__(self, number: int, files: list[Packed], size: int) -> None:
        self.number, self.files, self.size = number, files, size
        self._starts = [file.start for file in files]

    def entries(self) -> dict[str, FileEntry]:
        return {
            file.name: FileEntry(sha256=file.sha256, size=file.size, shard=self.number, offset=file.offset)
            for file in self.files
        }

    def load(self) -> tuple[Source, str]:
        """Return the tar and its sha256. The tar is in memory if it is small, and else read from the files again.

        Raises WorkFailed if a file has changed since it was hashed.
        """
        in_memory, total = self.size <= _IN_MEMORY, hashlib.sha256()
        pieces: list[bytes] = []
        for piece in self._pieces():
            total.update(piece)
            if in_memory:
                pieces.append(piece)
        return (BytesSource(b"".join(pieces)) if in_memory else self), total.hexdigest()

    def _pieces(self) -> Iterator[bytes]:
        for file in self.files:
            yield _header(file.name, file.size)
            own, size = hashlib.sha256(), 0
            with _open(file.path) as source:
                while chunk := source.read(_CHUNK):
                    own.update(chunk)
                    size += len(chunk)
                    yield chunk
            if (size, own.hexdigest()) != (file.size, file.sha256):
                raise _changed(file)
            yield bytes(-size % BLOCK)
        yield _END

    def read_at(self, offset: int, size: int) -> bytes:
        """Return bytes of the tar; fewer than `size` only at its end."""
        pieces, end = [], min(offset + size, self.size)
        while offset < end:
            piece = self._piece(offset, end - offset)
            pieces.append(piece)
            offset += len(piece)
        return b"".join(pieces)

    def _piece(self, offset: int, size: int) -> bytes:
        """Return some bytes from `offset` on, from one file's header, content or padding."""
        file, start = self._file_at(offset)
        if offset < file.offset:
            return _header(file.name, file.size)[offset - start :][:size]
        within = offset - file.offset
        if within >= file.size:
            following = bisect.bisect_right(self._starts, offset)
            end = self._starts[following] if following < len(self._starts) else self.size
            return bytes(min(size, end - offset))
        with _open(file.path) as source:
            source.seek(within)
            data = source.read(min(size, file.size - within))
        if not data:
            raise _changed(file)
        return data

    def _file_at(self, offset: int) -> tuple[Packed, int]:
        index = bisect.bisect_right(self._starts, offset) - 1
        return self.files[index], self._starts[index]


def plan(folder: Path, hashes: Mapping[str, str], limit: int) -> Iterator[Shard]:
    """Yield shards of at most `limit` bytes, with the files sorted by name. Equal files give equal shards."""
    files, end, number = list[Packed](), 0, 0
    for name in sorted(hashes):
        path = folder / name
        try:
            size = path.stat().st_size
        except OSError as error:
            raise UserError(f"{path} cannot be opened: {error.strerror}") from None
        header = len(_header(name, size))
        if files and end + header + size + BLOCK > limit:
            yield Shard(number, files, end + len(_END))
            files, end, number = [], 0, number + 1
        files.append(Packed(name, path, hashes[name], size, end, end + header))
        end += header + size + -size % BLOCK
    if files:
        yield Shard(number, files, end + len(_END))


def _header(name: str, size: int) -> bytes:
    header = tarfile.TarInfo(name)
    header.size = size
    return header.tobuf(tarfile.GNU_FORMAT, "utf-8", "surrogateescape")


def _open(path: Path) -> BinaryIO:
    try:
        return open_file(path)
    except OSError as error:
        raise UserError(f"{path} cannot be opened: {error.strerror}") from None


def _changed(file: Packed) -> WorkFailed:
    return WorkFailed(f"{file.path} changed while the dataset was being stored: run it again")
