"""Unpack an archive that somebody else made: nothing is ever written outside the folder."""

import shutil
import stat
import tarfile
import zipfile
import zlib
from pathlib import Path, PurePosixPath
from typing import IO

from components.errors import UserError

SUFFIXES = (".tar", ".tar.gz", ".tgz", ".zip")


def archive_stem(name: str) -> str | None:
    """`camvid` of `camvid.tar.gz`; None where the name is not that of an archive we can unpack."""
    lower = name.lower()
    suffix = next((suffix for suffix in SUFFIXES if lower.endswith(suffix)), None)
    return name[: -len(suffix)] if suffix else None


def unpack(archive: Path, folder: Path) -> None:
    """Extract a tar, tar.gz or zip into `folder`. All names are looked at before the first file is written.

    Raises:
        UserError: it is damaged, no such archive, or holds absolute names, `..`, links or devices.
    """
    try:
        if zipfile.is_zipfile(archive):
            _unpack_zip(archive, folder)
        elif tarfile.is_tarfile(archive):
            _unpack_tar(archive, folder)
        else:
            raise UserError(f"{archive} is not an archive: give one of {', '.join(SUFFIXES)}, or a folder")
    except (tarfile.TarError, zipfile.BadZipFile, zlib.error, EOFError, NotImplementedError) as error:
        raise UserError(f"archive {archive} is damaged: {error or type(error).__name__}; fetch it again") from None


def _unpack_tar(archive: Path, folder: Path) -> None:
    with tarfile.open(archive) as tar:
        members = tar.getmembers()
        for member in members:
            _refuse_name(archive, member.name)
            if not (member.isfile() or member.isdir()):
                what = "a link" if member.issym() or member.islnk() else "a device"
                raise UserError(f"archive {archive}: {member.name!r} is {what}; pack plain files and folders only")
        for member in members:
            source = tar.extractfile(member) if member.isfile() else None
            if source is not None:
                _write(source, folder / member.name)


def _unpack_zip(archive: Path, folder: Path) -> None:
    with zipfile.ZipFile(archive) as zipped:
        members = zipped.infolist()
        for member in members:
            _refuse_name(archive, member.filename)
            kind = stat.S_IFMT(member.external_attr >> 16)
            if kind not in (0, stat.S_IFREG, stat.S_IFDIR):
                what = "a link" if kind == stat.S_IFLNK else "a device"
                raise UserError(f"archive {archive}: {member.filename!r} is {what}; pack plain files and folders only")
            if member.flag_bits & 1:
                raise UserError(f"archive {archive} is encrypted: give it without a password")
        for member in members:
            if not member.is_dir():
                with zipped.open(member) as source:
                    _write(source, folder / member.filename)


def _refuse_name(archive: Path, name: str) -> None:
    path = PurePosixPath(name.replace("\\", "/"))
    if path.is_absolute() or ".." in path.parts or "\0" in name:
        raise UserError(f"archive {archive}: {name!r} leads out of the folder it is unpacked in; refused")


def _write(source: IO[bytes], target: Path) -> None:
    target.parent.mkdir(parents=True, exist_ok=True)
    with source, target.open("wb") as file:
        shutil.copyfileobj(source, file, 1 << 20)
