"""Which files go into which tar shard, and a shard's bytes without the shard: made from the files as they are read."""

import bisect
import hashlib
import tarfile
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO

from components.dataset.manifest import FileEntry
from components.errors import UserError, WorkFailed
from components.storage.transfer import BytesSource, Source

SHARD_BYTES = 64_000_000
_IN_MEMORY = 64 << 20  # bytes of a shard that is read once, and not twice
BLOCK = 512
_END = bytes(2 * BLOCK)  # how a tar ends
_CHUNK = 1 << 20


@dataclass(frozen=True)
class Packed:
    """A file in a shard: its header lies from `start` to `offset`."""

    name: str
    path: Path
    sha256: str
    size: int
    start: int
    offset: int


class Shard:
    """One tar of the plan. It can be read anywhere, by several threads at once, and takes no memory."""

    def __init__(self, number: int, files: list[Packed], size: int) -> None:
        self.number, self.files, self.size = number, files, size
        self._starts = [file.start for file in files]

    def entries(self) -> dict[str, FileEntry]:
        return {
            file.name: FileEntry(sha256=file.sha256, size=file.size, shard=self.number, offset=file.offset)
            for file in self.files
        }

    def load(self) -> tuple[Source, str]:
        """The tar and its sha256, read once: in memory where it is of the ordinary size, else from the files again.

        Raises WorkFailed where a file is not what it was when it was hashed.
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
        """Bytes of the tar; fewer than `size` only at its end."""
        pieces, end = [], min(offset + size, self.size)
        while offset < end:
            piece = self._piece(offset, end - offset)
            pieces.append(piece)
            offset += len(piece)
        return b"".join(pieces)

    def _piece(self, offset: int, size: int) -> bytes:
        """Some bytes from `offset` on, of one file's header, content or padding."""
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
    """Files in the order of their names, as many to a shard as `limit` bytes hold. Equal files give equal shards."""
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
        return path.open("rb")
    except OSError as error:
        raise UserError(f"{path} cannot be opened: {error.strerror}") from None


def _changed(file: Packed) -> WorkFailed:
    return WorkFailed(f"{file.path} changed while the dataset was being stored: run again")
