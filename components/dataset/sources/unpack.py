"""Unpack an untrusted archive: nothing is ever written outside the target folder."""

import gzip
import os
import stat
import struct
import tarfile
import time
import zipfile
import zlib
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import IO, cast

import zstandard

from components import progress
from components.dataset.sources.archive import SUFFIXES, Limits, Names, limits_for
from components.disk import WORK_VARIABLE, Unwritable
from components.errors import UserError
from components.reading import mistaken, open_file
from components.units import size_text

_WINDOWS = 0
"""The code in a zip for files from MS-DOS or Windows."""

_CHUNK = 1 << 20
_MOST_METADATA = 1 << 24
"""Limit for one header in bytes. Python's tarfile reads a header at once, whatever size the archive declares."""
_ZSTD_WINDOW = 1 << 27
"""Limit for the memory that a .zst may require, in bytes; the zstd command's default."""
_PROGRESS_SECONDS = 0.5
_BLOCK = 512

Advance = Callable[[int], None]


def unpack(archive: Path, folder: Path, step: str = "") -> list[str]:
    """Extract a tar, tar.gz, tar.zst or zip into `folder`. All names are checked before the first file is written.

    Args:
        folder: may hold files, such as those of another archive. Files of the same name are replaced.
        step: the step that reports progress, or an empty string for no progress.

    Returns:
        The names of the replaced files.

    Raises:
        UserError: the archive is damaged, of an unknown kind, or too large, or has absolute names, `..`, links,
            devices, duplicate names, names that differ only in case, or names that are not UTF-8; or the disk is full.
    """
    try:
        kind = _kind(archive)
        limits = limits_for(archive)
        read = _read_zip if kind == "zip" else _read_tar
        for _ in read(archive, kind, limits):
            pass
        limits.check_room(folder)
        return _write_all(read(archive, kind, limits_for(archive)), folder, _advance(step, archive, limits.bytes))
    except (
        tarfile.TarError,
        zipfile.BadZipFile,
        zlib.error,
        gzip.BadGzipFile,
        zstandard.ZstdError,
        EOFError,
        NotImplementedError,
        struct.error,
    ) as error:
        raise UserError(f"archive {archive} is damaged: {error or type(error).__name__}; fetch it again") from None
    except OSError as error:
        raise UserError(f"archive {archive} cannot be unpacked: {Unwritable(folder, error, WORK_VARIABLE)}") from None


def _kind(archive: Path) -> str:
    try:
        with open_file(archive) as file:
            start = file.read(_BLOCK)
    except OSError as error:
        raise UserError(f"{archive} cannot be opened: {error.strerror}") from None
    # By its first bytes, since a tar whose last file is a zip ends like a zip.
    for kind, magic in (("zip", b"PK\3\4"), ("zip", b"PK\5\6"), ("gz", b"\x1f\x8b"), ("zst", b"\x28\xb5\x2f\xfd")):
        if start.startswith(magic):
            return kind
    if start == bytes(_BLOCK):
        return "tar"  # an empty one
    try:
        tarfile.TarInfo.frombuf(start, "utf-8", "surrogateescape")
    except tarfile.TarError:
        why = mistaken(start) or f"give one of {', '.join(SUFFIXES)}, or a folder"
        raise UserError(f"{archive} is not an archive: {why}") from None
    return "tar"


Opener = Callable[[], IO[bytes]]


def _write_all(members: Iterator[tuple[str, Opener]], folder: Path, advance: Advance) -> list[str]:
    replaced = []
    for name, opened in members:
        target = folder / name
        target.parent.mkdir(parents=True, exist_ok=True)
        if target.is_symlink() or target.exists():
            # From an earlier archive. Removed first, so that a link is replaced and not written through.
            target.unlink()
            replaced.append(name)
        handle = os.open(target, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC, 0o666)
        with os.fdopen(handle, "wb") as file, opened() as source:
            while chunk := source.read(_CHUNK):
                file.write(chunk)
                advance(len(chunk))
    return replaced


def _advance(step: str, archive: Path, total: int) -> Advance:
    done, shown = 0, time.monotonic()

    def advance(count: int) -> None:
        nonlocal done, shown
        done += count
        if step and time.monotonic() - shown > _PROGRESS_SECONDS:
            shown = time.monotonic()
            progress.advance(step, done, total, f"{size_text(done)} unpacked of {archive.name}")

    return advance


def _read_tar(archive: Path, kind: str, limits: Limits) -> Iterator[tuple[str, Opener]]:
    """Yield the path below the folder and an opener of every file, after checking it."""
    names = Names(archive)
    with _tar_bytes(archive, kind) as limited, _tar(limited) as tar:
        for member in tar:
            if member.size < 0:
                raise tarfile.ReadError(f"{member.name!r} has a size below 0")
            if member.isdir():
                names.add_folder(member.name)
            elif member.isfile():
                place = names.add_file(member.name)
                limits.add(member.size)
                yield place, lambda member=member: _of_tar(tar, member)  # type: ignore[misc]
            else:
                names.add_file(member.name)
                raise _not_regular(archive, member.name, link=member.issym() or member.islnk())
        if len(limited.last) < _BLOCK or any(limited.last):
            raise tarfile.ReadError("it is incomplete")


def _tar(file: "_LimitedReader") -> tarfile.TarFile:
    return tarfile.open(fileobj=cast(IO[bytes], file), mode="r:", encoding="utf-8")


def _of_tar(tar: tarfile.TarFile, member: tarfile.TarInfo) -> IO[bytes]:
    file = tar.extractfile(member)
    assert file is not None  # it is a plain file
    return file


@contextmanager
def _tar_bytes(archive: Path, kind: str) -> Iterator["_LimitedReader"]:
    with ExitStack() as stack:
        file: IO[bytes] = stack.enter_context(archive.open("rb"))
        if kind == "gz":
            file = cast(IO[bytes], stack.enter_context(gzip.GzipFile(fileobj=file)))
        elif kind == "zst":
            decompressor = zstandard.ZstdDecompressor(max_window_size=_ZSTD_WINDOW)
            file = stack.enter_context(decompressor.stream_reader(file, read_across_frames=True))
        yield _LimitedReader(archive, file, seekable=kind == "tar")


class _LimitedReader:
    """A file that limits single reads to the size of a header, and remembers the last bytes read."""

    def __init__(self, archive: Path, file: IO[bytes], *, seekable: bool) -> None:
        self.last = b""
        self._archive, self._file, self._at = archive, file, 0
        self._size = archive.stat().st_size if seekable else None

    def read(self, count: int) -> bytes:
        if not 0 <= count <= _MOST_METADATA:
            raise UserError(f"archive {self._archive} has a header of {count} bytes; refused")
        parts, left = [], count
        while left and (part := self._file.read(left)):
            parts.append(part)
            left -= len(part)
        self.last = b"".join(parts)
        self._at += len(self.last)
        return self.last

    def seek(self, place: int) -> None:
        if self._size is not None:
            if not 0 <= place <= self._size:
                raise tarfile.ReadError("it is incomplete")
            self._at = self._file.seek(place)
            return
        if place < self._at:
            raise tarfile.ReadError("its files are not in order")
        while self._at < place:
            part = self._file.read(min(place - self._at, _CHUNK))
            if not part:
                raise EOFError("it is incomplete")
            self._at += len(part)

    def tell(self) -> int:
        return self._at


def _read_zip(archive: Path, _kind: str, limits: Limits) -> Iterator[tuple[str, Opener]]:
    """Yield the path below the folder and an opener of every file, after checking it."""
    names = Names(archive)
    try:
        zipped = zipfile.ZipFile(archive)
    except UnicodeDecodeError as error:
        raise names.refusal(repr(error.object)[2:-1], "is not UTF-8") from None
    with zipped:
        for member in zipped.infolist():
            name = _zip_name(member, names)
            mode = stat.S_IFMT(member.external_attr >> 16)
            if member.flag_bits & 1:
                raise UserError(f"archive {archive} is encrypted: repack it without a password")
            if mode not in (0, stat.S_IFREG, stat.S_IFDIR):
                names.add_file(name)
                raise _not_regular(archive, name, link=mode == stat.S_IFLNK)
            # Some Windows programs separate folders with backslashes.
            separated = name.replace("\\", "/") if member.create_system == _WINDOWS else name
            if separated.endswith("/"):
                names.add_folder(separated)
            else:
                place = names.add_file(separated)
                limits.add(member.file_size)
                yield place, lambda member=member: zipped.open(member)  # type: ignore[misc]


def _zip_name(member: zipfile.ZipInfo, names: Names) -> str:
    # `filename` ends at the first NUL, which would hide the rest from the checks.
    name = member.orig_filename
    if member.flag_bits & 0x800:
        return name
    # Without the flag, zipfile decodes the bytes as cp437. They are UTF-8, or of an unknown encoding.
    try:
        return name.encode("cp437").decode()
    except UnicodeDecodeError:
        raise names.refusal(name, "is not UTF-8") from None


def _not_regular(archive: Path, name: str, *, link: bool) -> UserError:
    what = "a link" if link else "a device"
    return UserError(f"archive {archive}: {name!r} is {what}: pack only regular files and folders")
